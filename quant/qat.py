"""The measured recipe: re-parameterize, quantize, calibrate, train, freeze, export, compare on real segments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quant.backend import Backend
from quant.graph import fusion, graph_complexity, logit_scale, read_graph, run_batches, session
from system.checkpoint import Checkpoint
from system.dataset import PreparedData, Segments
from system.errors import RunError
from system.experiment import budget_of, complexity_report, write_scores
from system.files import write_json
from system.models.reparam import deploy
from system.onnx_float import INPUT, export_float
from system.progress import progress
from system.training import fit, log_loss_and_accuracy, logits_of

BATCH = 64
PARITY_SEGMENTS = 1000  # at least so many are compared
LATENCY_RUNS = 200


def inputs(checkpoint: Checkpoint, part: Segments, batch: int = BATCH) -> Iterator[np.ndarray]:
    """Standardized (n, 1, mel bands, frames) batches of a part, in order."""
    for start in range(0, len(part), batch):
        yield checkpoint.standardize(np.asarray(part.features[start : start + batch]))


def calibration_inputs(checkpoint: Checkpoint, data: PreparedData) -> list[Tensor]:
    """Batches of `quant.calibration_segments` training segments, drawn by the experiment's seed."""
    wanted = min(checkpoint.spec.quant.calibration_segments, len(data.train))
    chosen = np.sort(np.random.default_rng(checkpoint.spec.seed).permutation(len(data.train))[:wanted])
    features = checkpoint.standardize(np.asarray(data.train.features[chosen]))
    return list(torch.from_numpy(features).split(BATCH))


def quantize(
    checkpoint: Checkpoint, data: PreparedData, backend: Backend, folder: Path, *, train: bool, device: str = "auto"
) -> dict[str, Any]:
    """Write the folder quant/BACKEND of a run. Returns parity.json.

    With `train`, the calibrated network is trained on; whichever of the two has the lower validation log loss is
    exported. Raises RunError if a convolution would not run on integers.
    """
    spec, classes, shape = checkpoint.spec, len(checkpoint.classes), checkpoint.spec.input_shape()
    if data.classes != checkpoint.classes:
        raise RunError(f"trained on classes {', '.join(checkpoint.classes)}; the data has {', '.join(data.classes)}")
    deployed = deploy(checkpoint.network(), spec.model, shape, classes)
    quantized = backend.prepare(deployed, spec.model, shape, classes)
    backend.calibrate(quantized, calibration_inputs(checkpoint, data))
    history: dict[str, Any] = {"calibrated": validate(quantized, checkpoint, data)}
    if train and spec.quant.epochs:
        calibrated = {key: value.detach().clone() for key, value in quantized.state_dict().items()}
        started = time.monotonic()
        tuned = fit(
            spec.changed(train=spec.quant.recipe().plain()), data, network=quantized,
            standardization=(checkpoint.mean, checkpoint.std), device=device, what="quantization-aware training",
            resume_file=folder / ".qat.ckpt",
        )  # fmt: skip
        history["trained"] = {"log_loss": tuned.last.log_loss, "accuracy": tuned.last.accuracy,
                              "epoch": tuned.last.epoch, "seconds": time.monotonic() - started}  # fmt: skip
        if history["calibrated"]["log_loss"] <= tuned.last.log_loss:
            quantized.load_state_dict(calibrated)
    history["exported"] = min(
        (name for name in ("calibrated", "trained") if name in history), key=lambda name: history[name]["log_loss"]
    )
    quantized = backend.freeze(quantized)
    folder.mkdir(parents=True, exist_ok=True)
    export_float(deployed, shape, folder / "float.onnx", spec.quant.opset)
    backend.export_onnx(quantized, shape, folder / "int8.onnx", spec.quant.opset)
    parity = report(checkpoint, data, quantized, deployed, folder)
    parity["validation"] = history
    write_json(folder / "parity.json", parity)
    (folder / ".qat.ckpt").unlink(missing_ok=True)
    return parity


def validate(network: nn.Module, checkpoint: Checkpoint, data: PreparedData) -> dict[str, float]:
    logits = logits_of(network, data.validation, checkpoint.mean, checkpoint.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label)
    return {"log_loss": log_loss, "accuracy": accuracy}


def report(
    checkpoint: Checkpoint, data: PreparedData, quantized: nn.Module, deployed: nn.Module, folder: Path
) -> dict[str, Any]:
    """complexity.json, scores.json and predictions.csv of the INT8 file; returns what parity.json holds."""
    path = folder / "int8.onnx"
    graph, fused = read_graph(path), fusion(path)
    if fused.conv_integer < fused.conv_total:
        left = fused.conv_total - fused.conv_integer
        raise RunError(f"{path}: {left} of {fused.conv_total} convolutions stay float in ONNX Runtime")
    write_json(folder / "complexity.json", int8_complexity(checkpoint, graph_complexity(graph)))

    runtime = session(path, threads=torch.get_num_threads())
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    integer: dict[str, np.ndarray] = {}
    simulated: dict[str, np.ndarray] = {}
    with progress("comparing torch and ONNX Runtime", sum(map(len, parts.values())), unit="segments") as step:
        for name, part in parts.items():
            outputs = []
            for batch in inputs(checkpoint, part):
                with torch.inference_mode():
                    outputs.append(quantized(torch.from_numpy(batch)).numpy())
                step(len(batch))
            simulated[name] = np.concatenate(outputs)
            integer[name] = run_batches(runtime, inputs(checkpoint, part))
    scores = write_scores(folder, data, integer["test"], checkpoint.spec.seed)
    float_logits = logits_of(deployed, data.test, checkpoint.mean, checkpoint.std)
    float_loss, float_accuracy = log_loss_and_accuracy(float_logits, data.test.label)
    in_torch, in_runtime = (np.concatenate(list(outputs.values())) for outputs in (simulated, integer))
    parity = agreement(in_torch, in_runtime, logit_scale(graph))
    parity["float_vs_int8"] = {  # what quantization costs: int8 minus float, on the test part
        "accuracy": scores["accuracy"] - float_accuracy,
        "log_loss": scores["log_loss"] - float_loss,
        "float": {"accuracy": float_accuracy, "log_loss": float_loss},
        "int8": {"accuracy": scores["accuracy"], "log_loss": scores["log_loss"]},
    }
    parity["fused"] = {
        "conv_total": fused.conv_total, "conv_integer": fused.conv_integer, "operators": fused.operators,
    }  # fmt: skip
    first = next(inputs(checkpoint, data.test, batch=1))
    parity["latency_ms"] = latency({"fp32": folder / "float.onnx", "int8": path}, first)
    return parity


def agreement(torch_logits: np.ndarray, onnx_logits: np.ndarray, scale: float) -> dict[str, Any]:
    """How equal two sets of quantized logits are; `scale` is one LSB."""
    steps = np.rint(np.abs(torch_logits.astype(np.float64) - onnx_logits) / scale)
    agree = torch_logits.argmax(axis=1) == onnx_logits.argmax(axis=1)
    return {
        "n": len(torch_logits),
        "argmax_agreement": float(agree.mean()),
        "max_lsb": int(steps.max()),
        "within_1_lsb": float((steps <= 1).mean()),
        "equal": float((steps == 0).mean()),
        "lsb": scale,
    }


def int8_complexity(checkpoint: Checkpoint, counted: dict[str, Any]) -> dict[str, Any]:
    """complexity.json of the exported file: counts off the graph, the peak of activations off the specification."""
    spec = checkpoint.spec
    planned = complexity_report(spec, len(checkpoint.classes))
    counted = {**counted, "peak_activation_bytes": planned["peak_activation_bytes"], "form": "int8", "weight_bits": 8}
    layers = counted.pop("layers")
    budget = budget_of(spec)
    counted["budget"] = budget.summary() if budget else {}
    counted["within_budget"] = budget is None or not budget.excess(counted)
    return {**counted, "layers": layers}


def latency(models: dict[str, Path], features: np.ndarray) -> dict[str, float]:
    """Median milliseconds per segment, batch 1, one thread, the models taking turns."""
    sessions = {name: session(path, threads=1) for name, path in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(LATENCY_RUNS + 20):
        for name, runtime in sessions.items():
            started = time.perf_counter()
            runtime.run(None, {INPUT: features})
            if turn >= 20:
                times[name].append(time.perf_counter() - started)
    return {name: round(float(np.median(values)) * 1e3, 4) for name, values in times.items()}
