"""The measured recipe: re-parameterize, quantize, calibrate, train, freeze, export, compare on real segments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quant import frozen
from quant.backend import Backend
from quant.bias_correction import correct_bias
from quant.equalize import equalize
from quant.parity import BATCH, report
from system.checkpoint import Checkpoint
from system.dataset import PreparedData
from system.errors import DataError, RunError
from system.files import write_json
from system.models.reparam import deploy
from system.onnx_float import export_float
from system.training import fit, log_loss_and_accuracy, logits_of

MOST_TRAINED = 2_000_000  # parameters; larger networks are quantized after training only


def calibration_inputs(checkpoint: Checkpoint, data: PreparedData) -> list[Tensor]:
    """Batches of `quant.calibration_segments` training segments, drawn by the experiment's seed.

    Raises DataError if all of them are silent, as ranges found on silence fit nothing else, or not numbers.
    """
    wanted = min(checkpoint.spec.quant.calibration_segments, len(data.train))
    chosen = np.sort(np.random.default_rng(checkpoint.spec.seed).permutation(len(data.train))[:wanted])
    log_mel = np.asarray(data.train.features[chosen])
    if not np.isfinite(log_mel).all():
        raise DataError(f"{data.name}: log-mel values to calibrate on are infinite or not numbers; empty the cache")
    if not np.ptp(log_mel) > 1e-6:
        raise DataError(
            f"{data.name}: all {wanted} segments that activation ranges are calibrated on are silent (every log-mel "
            f"value is {log_mel.flat[0]:.3f}); raise quant.calibration_segments, or check the recordings"
        )
    return list(torch.from_numpy(checkpoint.standardize(log_mel)).split(BATCH))


def deployable(checkpoint: Checkpoint) -> nn.Module:
    """The float deploy form. Raises RunError if a weight is no number."""
    for name, tensor in checkpoint.state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise RunError(
                f"model.safetensors: {name} has {bad} of {tensor.numel()} values that are infinite or not numbers; "
                "the training diverged: train again with a lower train.learning_rate"
            )
    spec = checkpoint.spec
    return deploy(checkpoint.network(), spec.model, spec.input_shape(), len(checkpoint.classes))


def calibrated(checkpoint: Checkpoint, deployed: nn.Module, batches: list[Tensor], backend: Backend) -> nn.Module:
    """The float deploy form, quantized as `quant` of the experiment says; not trained on, not frozen."""
    spec, how = checkpoint.spec, checkpoint.spec.quant
    if how.equalize:
        deployed = equalize(deployed, batches)
    quantized = backend.prepare(deployed, spec.model, spec.input_shape(), len(checkpoint.classes), how)
    backend.calibrate(quantized, batches)
    if how.correct_bias:
        correct_bias(deployed, quantized, batches)
    return quantized


def trained(
    checkpoint: Checkpoint,
    data: PreparedData,
    quantized: nn.Module,
    device: str = "auto",
    resume_file: Path | None = None,
) -> dict[str, Any]:
    """Train a calibrated network; it keeps what it was where that has the lower log loss on validation data.

    Returns log loss and accuracy of both, `calibrated` and `trained`, and which is `exported`.
    """
    spec, started = checkpoint.spec, time.monotonic()
    history: dict[str, Any] = {"exported": "trained"}
    if len(data.validation):
        history["calibrated"] = validate(quantized, checkpoint, data)
    before = {key: value.detach().clone() for key, value in quantized.state_dict().items()}
    tuned = fit(
        spec.changed(train=spec.quant.recipe().plain()), data, network=quantized,
        standardization=(checkpoint.mean, checkpoint.std), device=device, what="quantization-aware training",
        resume_file=resume_file,
    )  # fmt: skip
    history["trained"] = {"epoch": tuned.last.epoch, "seconds": time.monotonic() - started}
    if len(data.validation):
        history["trained"] |= {"log_loss": tuned.last.log_loss, "accuracy": tuned.last.accuracy}
        if history["calibrated"]["log_loss"] <= tuned.last.log_loss:
            quantized.load_state_dict(before)
            history["exported"] = "calibrated"
    return history


def quantize(
    checkpoint: Checkpoint, data: PreparedData, backend: Backend, folder: Path, *, train: bool, device: str = "auto"
) -> dict[str, Any]:
    """Write the folder quant/BACKEND of a run. Returns parity.json.

    With `train`, the calibrated network is trained on; whichever of the two has the lower validation log loss is
    exported, or without a validation part the trained one. Raises RunError if the network is too large to train so,
    or a layer would not run on integers.
    """
    spec, shape = checkpoint.spec, checkpoint.spec.input_shape()
    if data.classes != checkpoint.classes:
        raise RunError(f"trained on classes {', '.join(checkpoint.classes)}; the data has {', '.join(data.classes)}")
    deployed = deployable(checkpoint)
    params = sum(parameter.numel() for parameter in deployed.parameters())
    if train and params > MOST_TRAINED:
        raise RunError(
            f"quantization-aware training is for networks of at most {MOST_TRAINED:,} parameters, found {params:,}; "
            "python quant/run.py ptq quantizes without training"
        )
    quantized = calibrated(checkpoint, deployed, calibration_inputs(checkpoint, data), backend)
    if train and spec.quant.epochs:
        history = trained(checkpoint, data, quantized, device, folder / ".qat.ckpt")
    else:
        history = {"exported": "calibrated"}
        if len(data.validation):
            history["calibrated"] = validate(quantized, checkpoint, data)
    quantized = backend.freeze(quantized)
    folder.mkdir(parents=True, exist_ok=True)
    export_float(deployed, shape, folder / "float.onnx", spec.quant.opset)
    backend.export_onnx(quantized, shape, folder / "int8.onnx", spec.quant.opset)
    frozen.keep(quantized, spec.quant, folder)
    parity = report(checkpoint, data, quantized, deployed, folder, backend.parameter_bits(quantized))
    parity["validation"] = history
    write_json(folder / "parity.json", parity)
    (folder / ".qat.ckpt").unlink(missing_ok=True)
    return parity


def validate(network: nn.Module, checkpoint: Checkpoint, data: PreparedData) -> dict[str, float]:
    logits = logits_of(network, data.validation, checkpoint.mean, checkpoint.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label, data.task)
    return {"log_loss": log_loss, "accuracy": accuracy}
