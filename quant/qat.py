"""The measured recipe: re-parameterize, quantize, calibrate, train, freeze, export, compare on real segments."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from quant import frozen
from quant.backend import Backend
from quant.bias_correction import correct_bias
from quant.equalize import equalize
from quant.parity import BATCH, report
from quant.quantizers import Quantizer
from system.checkpoint import Checkpoint
from system.data.cache import digest
from system.dataset import PreparedData
from system.errors import DataError, RunError
from system.files import require_whole_checkpoint, staged, whole_file, write_json
from system.learning.loop import Epoch, OnlineTeacher
from system.learning.objectives import log_loss_and_accuracy
from system.models.reparam import deploy
from system.onnx_float import export_float
from system.spec import QuantSpec
from system.training import fit, logits_of

PARITY = "parity.json"  # written last: where it is, the files of a folder belong together
MADE_FROM_IT = (
    "whole.onnx",
    "whole.ort",
    "int8.ort",
    "weights.c",
    "weights.h",
    "weights.json",
    "network.c",
    "network.h",
    "layers.json",
    "layers.png",
)
"""What export and diagnose made of an int8.onnx; it goes with that one."""
STOPPED = ".qat-*"  # what an interrupted training left
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


def quantize(
    checkpoint: Checkpoint, data: PreparedData, backend: Backend, folder: Path, *, train: bool, device: str = "auto"
) -> dict[str, Any]:
    """Write the folder quant/BACKEND of a run. Returns parity.json.

    With `train`, the calibrated network is trained on; the best epoch or, if better, the calibrated network is
    exported, by the validation log loss of the quantized network; without a validation part the last epoch. Raises
    RunError if the network is too large to train so, or a layer would not run on integers.
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
    folder.mkdir(parents=True, exist_ok=True)
    if train and spec.quant.epochs:
        history = trained(checkpoint, data, quantized, deployed, folder, device)
    else:
        history = {"exported": "calibrated"}
        if len(data.validation):
            history["calibrated"] = validate(quantized, checkpoint, data)
    quantized = backend.freeze(quantized)
    with staged(folder) as part:
        export_float(deployed, shape, part / "float.onnx", spec.quant.opset)
        backend.export_onnx(quantized, shape, part / "int8.onnx", spec.quant.opset)
        frozen.keep(quantized, spec.quant, part)
        parity = report(checkpoint, data, quantized, deployed, part)
        parity["validation"] = history
        for made in (PARITY, *MADE_FROM_IT):
            (folder / made).unlink(missing_ok=True)
    write_json(folder / PARITY, parity)
    for file in folder.glob(STOPPED):
        file.unlink()
    return parity


def trained(
    checkpoint: Checkpoint, data: PreparedData, quantized: nn.Module, deployed: nn.Module, folder: Path, device: str,
    what: str = "quantization-aware training",
) -> dict[str, Any]:  # fmt: skip
    """Train with quantization from what the float model learned from, and its own answers if `quant.distill_weight`.

    The network gets the weights of the epoch, or of none, whose log loss on the validation part was lowest; without a
    validation part those of the last one. Continues from what `folder` holds of the same training. Returns log loss
    and accuracy of both, `calibrated` and `trained`, and which is `exported`.
    """
    spec, quant = checkpoint.spec, checkpoint.spec.quant
    history: dict[str, Any] = {"exported": "trained"}
    if len(data.validation):
        history["calibrated"] = validate(quantized, checkpoint, data)
    before = {key: value.detach().clone() for key, value in quantized.state_dict().items()}
    resume_file, best_file = stopped_at(folder, checkpoint, data)
    alike = OnlineTeacher(deployed, quant.distill_weight, quant.distill_temperature)
    started = time.monotonic()
    tuned = fit(
        spec.changed(train=quant.recipe(spec.train.label_smoothing).plain()), data, network=quantized,
        standardization=(checkpoint.mean, checkpoint.std), device=device, what=what,
        teacher=alike if quant.distill_weight else None,
        before_epoch=lambda epoch: hold_ranges(quantized, epoch, quant),
        on_epoch=lambda row: keep_best(quantized, row, best_file) if len(data.validation) else None,
        resume_file=resume_file,
    )  # fmt: skip
    history["trained"] = {"epoch": tuned.last.epoch, "seconds": time.monotonic() - started}
    if not len(data.validation):
        return history
    best = torch.load(best_file, weights_only=True)
    history["trained"] |= {key: best[key] for key in ("epoch", "log_loss", "accuracy")}
    history["trained"]["last"] = {"log_loss": tuned.last.log_loss, "accuracy": tuned.last.accuracy}
    if history["calibrated"]["log_loss"] <= best["log_loss"]:
        quantized.load_state_dict(before)
        return history | {"exported": "calibrated"}
    quantized.load_state_dict(best["state"])
    return history


def stopped_at(folder: Path, checkpoint: Checkpoint, data: PreparedData) -> tuple[Path, Path]:
    """Where an interrupted training is kept, and its best epoch; what one of other weights, settings or recordings
    left is removed. Raises RunError for a damaged best epoch."""
    weights = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(checkpoint.state.items()):
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    key = digest([weights.hexdigest(), checkpoint.spec.plain(), data.checksum])
    resume_file, best_file = folder / f".qat-{key}.ckpt", folder / f".qat-{key}.best.pt"
    both = resume_file.is_file() and (best_file.is_file() or not len(data.validation))
    kept = (resume_file, best_file) if both else ()
    for file in folder.glob(STOPPED):
        if file not in kept:
            file.unlink()
    if best_file.is_file():
        require_whole_checkpoint(best_file)
    return resume_file, best_file


def hold_ranges(quantized: nn.Module, epoch: int, quant: QuantSpec) -> None:
    """In the last `quant.frozen_share` of the epochs no range of activations moves, and no statistic of a norm."""
    if epoch < quant.epochs * (1 - quant.frozen_share):
        return
    for module in quantized.modules():
        if isinstance(module, Quantizer):
            module.requires_grad_(False)
        elif isinstance(module, _BatchNorm):
            module.eval()


def keep_best(quantized: nn.Module, row: Epoch, path: Path) -> None:
    """Write the weights after an epoch to `path` if their validation log loss is the lowest so far."""
    if path.is_file() and torch.load(path, weights_only=True)["log_loss"] <= row.log_loss:
        return
    with whole_file(path) as part:
        numbers = {"epoch": row.epoch, "log_loss": row.log_loss, "accuracy": row.accuracy}
        torch.save({**numbers, "state": quantized.state_dict()}, part)


def validate(network: nn.Module, checkpoint: Checkpoint, data: PreparedData) -> dict[str, float]:
    logits = logits_of(network, data.validation, checkpoint.mean, checkpoint.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label, data.task)
    return {"log_loss": log_loss, "accuracy": accuracy}
