"""A trained network's validation scores as integers: after calibration, or after training with quantization too."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import nn

from quant import qat
from quant.backend import load_backend
from system.checkpoint import Checkpoint
from system.dataset import PreparedData
from system.spec import ExperimentSpec
from system.training import Trained

BACKEND = "brevitas"


def calibrated(spec: ExperimentSpec, data: PreparedData, trained: Trained) -> dict[str, float]:
    """log_loss (nats) and accuracy on the validation part, quantized and calibrated on training segments."""
    checkpoint = _checkpoint(spec, data, trained)
    return qat.validate(_quantized(checkpoint, data, qat.deployable(checkpoint)), checkpoint, data)


def tuned(spec: ExperimentSpec, data: PreparedData, trained: Trained, device: str, what: str) -> dict[str, float]:
    """The same of what `quant/run.py qat` would export: the best epoch, or the calibrated network if that is better."""
    checkpoint = _checkpoint(spec, data, trained)
    deployed = qat.deployable(checkpoint)
    quantized = _quantized(checkpoint, data, deployed)
    if spec.quant.epochs == 0:
        return qat.validate(quantized, checkpoint, data)
    with tempfile.TemporaryDirectory() as folder:
        history = qat.trained(checkpoint, data, quantized, deployed, Path(folder), device, what)
    exported = history[history["exported"]]
    return {"log_loss": exported["log_loss"], "accuracy": exported["accuracy"]}


def _checkpoint(spec: ExperimentSpec, data: PreparedData, trained: Trained) -> Checkpoint:
    return Checkpoint(spec, data.classes, trained.mean, trained.std, trained.network.state_dict())


def _quantized(checkpoint: Checkpoint, data: PreparedData, deployed: nn.Module) -> nn.Module:
    batches = qat.calibration_inputs(checkpoint, data)
    return qat.calibrated(checkpoint, deployed, batches, load_backend(BACKEND))
