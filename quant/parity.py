"""The integer file against the quantized network and against float: what parity.json holds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from quant.graph import Graph, fusion, logit_scale, read_graph, run_batches, session
from quant.graph_report import graph_report
from quant.portable import proof
from system.checkpoint import Checkpoint
from system.dataset import PreparedData, Segments
from system.energy import energy_of
from system.experiment import held_against_budget, scored, scored_parts, write_scores
from system.files import write_json
from system.onnx_float import INPUT
from system.progress import progress
from system.training import logits_of

BATCH = 64
LATENCY_RUNS = 200
COMPARED = ("accuracy", "log_loss", "mAP")


def inputs(checkpoint: Checkpoint, part: Segments, batch: int = BATCH) -> Iterator[np.ndarray]:
    """Standardized (n, 1, mel bands, frames) batches of a part, in order."""
    for start in range(0, len(part), batch):
        yield checkpoint.standardize(np.asarray(part.features[start : start + batch]))


def report(
    checkpoint: Checkpoint, data: PreparedData, quantized: nn.Module, deployed: nn.Module, folder: Path
) -> dict[str, Any]:
    """complexity.json, scores.json and predictions of the INT8 file; returns what parity.json holds.

    Raises RunError if a layer would not run on integers.
    """
    path = folder / "int8.onnx"
    graph, fused = read_graph(path), fusion(path)
    fused.check(Path(path.name))
    write_json(folder / "complexity.json", int8_complexity(checkpoint, graph))

    runtime = session(path, threads=torch.get_num_threads())
    everything = {"train": data.train, "validation": data.validation, "test": data.test}
    parts = {name: part for name, part in everything.items() if len(part)}  # a refit has but the first
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
    in_torch, in_runtime = (np.concatenate(list(outputs.values())) for outputs in (simulated, integer))
    parity = agreement(in_torch, in_runtime, logit_scale(graph))
    if "test" in parts:
        parity["float_vs_int8"] = cost_of_quantization(checkpoint, data, deployed, integer, folder)
    parity["fused"] = {
        "conv_total": fused.conv_total, "conv_integer": fused.conv_integer, "operators": fused.operators,
    }  # fmt: skip
    parity["portable"] = proof(graph)
    first = next(inputs(checkpoint, data.train, batch=1))
    parity["latency_ms"] = latency({"fp32": folder / "float.onnx", "int8": path}, first)
    alone = session(path, threads=1)
    parity["energy"] = energy_of(lambda: alone.run(None, {INPUT: first}))  # of one segment
    return parity


def cost_of_quantization(
    checkpoint: Checkpoint, data: PreparedData, deployed: nn.Module, integer: dict[str, np.ndarray], folder: Path
) -> dict[str, Any]:
    """Scores of the test part, written to `folder`: int8 less float, and both. `integer`: logits of each part."""
    predictions, scores = scored(data, "test", integer, checkpoint.spec)
    write_scores(folder, predictions, scores)
    float_logits = {
        part: logits_of(deployed, getattr(data, part), checkpoint.mean, checkpoint.std)
        for part in scored_parts(data, "test")
    }
    float_scores = scored(data, "test", float_logits, checkpoint.spec)[1]
    compared = [key for key in COMPARED if scores[key] is not None]
    return {
        **{key: scores[key] - float_scores[key] for key in compared},
        "float": {key: float_scores[key] for key in compared},
        "int8": {key: scores[key] for key in compared},
    }


def agreement(torch_logits: np.ndarray, onnx_logits: np.ndarray, scale: float) -> dict[str, Any]:
    """How equal two sets of quantized logits are; `scale` is one LSB.

    `decided_agreement` is that of the segments whose two best logits differ by more than 2 LSB; one class has none.
    """
    steps = np.rint(np.abs(torch_logits.astype(np.float64) - onnx_logits) / scale)
    agree = torch_logits.argmax(axis=1) == onnx_logits.argmax(axis=1)
    best = np.sort(torch_logits.astype(np.float64), axis=1)
    decided = (np.rint(np.diff(best[:, -2:]) / scale) > 2).any(axis=1)
    return {
        "n": len(torch_logits),
        "argmax_agreement": float(agree.mean()),
        "decided_agreement": float(agree[decided].mean()) if decided.any() else 1.0,
        "max_lsb": int(steps.max()),
        "within_1_lsb": float((steps <= 1).mean()),
        "equal": float((steps == 0).mean()),
        "lsb": scale,
    }


def int8_complexity(checkpoint: Checkpoint, graph: Graph) -> dict[str, Any]:
    """complexity.json of the exported file."""
    cost = graph_report(graph, checkpoint.spec, len(checkpoint.classes))
    layers = cost.pop("layers")
    return {**cost, **held_against_budget(checkpoint.spec, cost), "layers": layers}


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
