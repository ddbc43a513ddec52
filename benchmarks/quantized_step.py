#!/usr/bin/env python3
"""Seconds of one training step with quantization: as it is, rounding step by step as brevitas has it, other layouts.

    python benchmarks/quantized_step.py                                 # best_128k and kt_final, batches of 64
    python benchmarks/quantized_step.py --threads 1 --config best_3M

The float network, and the quantized one by each way, take turns in one process. Medians over the rounds, and the ratio
to what is slowest. Layouts are those of system/learning/layout.py, or PyTorch's default.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import system  # noqa: F401, I001 (before torch: it sets how OpenMP threads wait)
import torch
from torch import nn

from quant.brevitas_backend import IntQuant, OnGrid, backend
from system.errors import guarded
from system.models.network import build
from system.models.reparam import deploy
from system.progress import progress
from system.runs import load_experiment
from system.learning.layout import memory_format

CONFIGS = Path(__file__).resolve().parents[1] / "system" / "configs"
CLASSES = 10


class Way(NamedTuple):
    rounding: Callable[..., torch.Tensor]
    laid_out: bool  # as system/learning/layout.py has it
    quantized: bool = True


WAYS = {
    "float": Way(OnGrid.forward, True, quantized=False),
    "as it is": Way(OnGrid.forward, True),
    "default layout": Way(OnGrid.forward, False),
    "step by step": Way(IntQuant.forward, True),
    "both": Way(IntQuant.forward, False),
}


def seconds(network: nn.Module, x: torch.Tensor) -> float:
    """Of one forward and backward pass of (B, 1, F, T)."""
    network.zero_grad()
    started = time.perf_counter()
    network(x).square().mean().backward()
    return time.perf_counter() - started


def compare(config: str, batch: int, rounds: int) -> None:
    spec = load_experiment(CONFIGS / f"{config}.yaml")
    shape = spec.input_shape()
    torch.manual_seed(0)
    network, x = build(spec.model, shape, CLASSES), torch.randn(batch, *shape)
    quantized = backend.prepare(deploy(network, spec.model, shape, CLASSES), spec.model, shape, CLASSES, spec.quant)
    backend.calibrate(quantized, [x])
    network.train(), quantized.train()
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    with progress(config, (rounds + 1) * len(WAYS), unit="steps") as step:
        for turn in range(rounds + 1):  # the first to warm up
            for name, way in WAYS.items():
                OnGrid.forward = way.rounding  # type: ignore[method-assign]
                tried = quantized if way.quantized else network
                order = memory_format(tried, "cpu") if way.laid_out else torch.contiguous_format
                took = seconds(tried.to(memory_format=order), x)  # type: ignore[call-overload]
                times[name] += [took] if turn else []
                step(1)
    slowest = statistics.median(times["both"])
    for name, values in times.items():
        median = statistics.median(values)
        print(f"{config:20s} {name:15s} {1000 * median:8.1f} ms, {median / slowest:.2f}")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=["best_128k", "kt_final"], help="of system/configs")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    for config in args.config:
        compare(config, args.batch, args.rounds)


if __name__ == "__main__":
    sys.exit(guarded(main))
