"""What a setting of quantization costs or gains: the same network quantized in several ways, side by side.

Compared are the frozen networks, whose integers are those of the files on a processor that does not saturate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from quant.backend import Backend
from quant.diagnose import decibels
from quant.qat import calibrated, calibration_inputs, deployable, trained
from system.checkpoint import Checkpoint
from system.dataset import PreparedData
from system.learning.objectives import TASKS, log_loss_and_accuracy
from system.progress import progress
from system.training import logits_of

Changes = Mapping[str, Any]  # of a QuantSpec
REPAIRS: dict[str, Changes] = {
    "as it is": {"equalize": False, "correct_bias": False},
    "equalized": {"equalize": True, "correct_bias": False},
    "bias corrected": {"equalize": False, "correct_bias": True},
    "both": {"equalize": True, "correct_bias": True},
}
VARIANTS: dict[str, dict[str, Changes]] = {
    "portable": {"portable": {"portable": True}, "full range": {"portable": False}},
    "repairs": REPAIRS,
    "bits": {
        "8 bits": {"weight_bits": 8, "layer_bits": {}},
        "4 bits": {"weight_bits": 4, "layer_bits": {}},
        "4, ends 8": {"weight_bits": 4, "layer_bits": {"stem*": 8, "head*": 8}},
    },
    "scales": {"largest weight": {"learned_scales": False}, "learned": {"learned_scales": True}},
    "teachers": {
        "labels": {"distill_weight": 0.0},
        "half the float": {"distill_weight": 0.5, "distill_temperature": 1.0},
        "the float": {"distill_weight": 1.0, "distill_temperature": 1.0},
        "the float at 2": {"distill_weight": 1.0, "distill_temperature": 2.0},
    },
}
ONLY_TRAINED = ("teachers",)  # what changes nothing before training


def compare_variants(
    checkpoint: Checkpoint, data: PreparedData, backend: Backend, variants: Mapping[str, Changes],
    *, train: bool = False, device: str = "auto",
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Variant, and `float` -> what `cells` shows of it.

    `variants`: name -> what differs from the run's QuantSpec. With `train`, each is trained on after calibration.
    """
    parts = {name: part for name in ("validation", "test") if len(part := getattr(data, name))} or {"train": data.train}
    deployed, batches = deployable(checkpoint), calibration_inputs(checkpoint, data)

    def logits(network: nn.Module) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            return {name: logits_of(network, part, checkpoint.mean, checkpoint.std) for name, part in parts.items()}

    def scored(found: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
        pairs = {name: log_loss_and_accuracy(found[name], part.label, data.task) for name, part in parts.items()}
        return {name: {"log_loss": log_loss, "accuracy": accuracy} for name, (log_loss, accuracy) in pairs.items()}

    in_float = logits(deployed)
    rows: dict[str, dict[str, Any]] = {"float": {"scores": scored(in_float)}}
    with progress("comparing ways to quantize", len(variants), unit="ways") as step:
        for name, changes in variants.items():
            spec = checkpoint.spec.changed(quant={**checkpoint.spec.quant.plain(), **changes})
            changed = replace(checkpoint, spec=spec)
            quantized = calibrated(changed, deployed, batches, backend)
            weights = "calibrated"
            if train:
                with tempfile.TemporaryDirectory() as folder:
                    history = trained(changed, data, quantized, deployed, Path(folder), device)
                weights = history["exported"]
            quantized = backend.freeze(quantized)
            found = logits(quantized)
            rows[name] = {
                "weights": weights,
                "scores": scored(found),
                "snr": {part: ratio(in_float[part], found[part]) for part in parts},
                "divergence": {part: divergence(in_float[part], found[part], data.task) for part in parts},
                "parameter_bytes": parameter_bytes(deployed, backend.parameter_bits(quantized)),
            }
            step(1)
    return rows


def ratio(in_float: np.ndarray, quantized: np.ndarray) -> float:
    """Signal to quantization noise of logits, in decibels."""
    noise = np.square(quantized.astype(np.float64) - in_float).sum()
    return decibels(float(np.square(in_float.astype(np.float64)).sum()), float(noise))


def divergence(in_float: np.ndarray, quantized: np.ndarray, task: str) -> float:
    """Kullback-Leibler, nats a segment, of quantized answers from those of float; (n, classes) logits of both."""
    chosen = TASKS[task]
    shares = chosen.shares(torch.from_numpy(in_float).double(), 1.0)
    return float(chosen.distance(torch.from_numpy(quantized).double(), shares, 1.0))


def parameter_bytes(network: nn.Module, bits: Mapping[str, int]) -> int:
    """Of weights and biases, without scales."""
    return sum(p.numel() * bits[name] for name, p in network.named_parameters() if name in bits) // 8


def best(rows: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The variant with the lowest log loss on validation data; None without any."""
    losses = {name: r["scores"]["validation"]["log_loss"] for name, r in rows.items() if "validation" in r["scores"]}
    losses.pop("float", None)
    return min(losses, key=losses.__getitem__) if losses else None


def cells(row: Mapping[str, Any]) -> dict[str, str]:
    """A column of quant.check.table."""
    found = {"weights": row["weights"]} if "weights" in row else {}
    for part, scores in row["scores"].items():
        found |= {f"{part} {key.replace('_', ' ')}": f"{scores[key]:.4f}" for key in ("accuracy", "log_loss")}
        if "snr" in row:
            found[f"{part} logits, dB"] = f"{row['snr'][part]:.1f}"
            found[f"{part} divergence"] = f"{row['divergence'][part]:.2g}"
    return found | ({"weight and bias bytes": f"{row['parameter_bytes']:,}"} if "parameter_bytes" in row else {})
