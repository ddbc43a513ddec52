"""A trained network's validation scores as integers: after calibration, or after training with quantization too."""

from __future__ import annotations

from torch import nn

from quant import qat
from quant.backend import load_backend
from system.checkpoint import Checkpoint
from system.dataset import PreparedData
from system.spec import ExperimentSpec
from system.training import Trained, fit

BACKEND = "brevitas"


def calibrated(spec: ExperimentSpec, data: PreparedData, trained: Trained) -> dict[str, float]:
    """log_loss (nats) and accuracy on the validation part, quantized and calibrated on training segments."""
    checkpoint = _checkpoint(spec, data, trained)
    return qat.validate(_quantized(checkpoint, data), checkpoint, data)


def tuned(spec: ExperimentSpec, data: PreparedData, trained: Trained, device: str, what: str) -> dict[str, float]:
    """The same after `quant.epochs` of quantization-aware training, or before it if that was no worse."""
    checkpoint = _checkpoint(spec, data, trained)
    quantized = _quantized(checkpoint, data)
    scores = qat.validate(quantized, checkpoint, data)
    if spec.quant.epochs == 0:
        return scores
    last = fit(
        spec.changed(train=spec.quant.recipe().plain()), data, network=quantized,
        standardization=(checkpoint.mean, checkpoint.std), device=device, what=what,
    ).last  # fmt: skip
    return min(scores, {"log_loss": last.log_loss, "accuracy": last.accuracy}, key=lambda found: found["log_loss"])


def _checkpoint(spec: ExperimentSpec, data: PreparedData, trained: Trained) -> Checkpoint:
    return Checkpoint(spec, data.classes, trained.mean, trained.std, trained.network.state_dict())


def _quantized(checkpoint: Checkpoint, data: PreparedData) -> nn.Module:
    batches = qat.calibration_inputs(checkpoint, data)
    return qat.calibrated(checkpoint, qat.deployable(checkpoint), batches, load_backend(BACKEND))
