#!/usr/bin/env python3
"""Clips per second of one training step: memory layout, how threads wait, what malloc keeps; on a GPU, launches.

    python benchmarks/training_step.py                # on an otherwise idle machine; --batch 256 as the 2024 baseline
    python benchmarks/training_step.py --beside       # with a second training on the same cores
    python benchmarks/training_step.py --device cuda --config best_128k --batch 64

Every figure is a process of its own, the cases taking turns; medians over the rounds, and the ratio to the first, which
is what the commands do.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = str(Path(__file__).resolve().parents[1])


class Case(NamedTuple):
    channels_last: bool = True
    environment: Mapping[str, str] = {}
    fused: bool = False  # one kernel changes all weights (system/learning/optimizers.py)
    captured: bool = False  # as a CUDA graph (system/learning/graphs.py)


CASES = {
    "cpu": {
        "as it is": Case(),
        "threads spin": Case(environment={"OMP_WAIT_POLICY": "ACTIVE"}),
        "PyTorch's default layout": Case(channels_last=False),
        "malloc's defaults": Case(environment={"TINYSCENE_ALLOCATOR": "system"}),
    },
    "cuda": {
        "as it is": Case(fused=True, captured=True),
        "not captured": Case(fused=True),
        "nor fused": Case(),
        "PyTorch's default layout": Case(channels_last=False, fused=True, captured=True),
    },
}
STEPS = {"cpu": 8, "cuda": 50}


def measure(case: Case, config: str, batch: int, device: str) -> float:
    """Clips per second of a network's steps: forward, backward, AdamW."""
    sys.path.insert(0, ROOT)
    import system  # noqa: F401, I001 (before torch: it sets how memory is kept and how threads wait)
    import torch
    import torch.nn.functional as F

    from system.learning.graphs import Graphed
    from system.models.network import build
    from system.runs import load_experiment

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    order = torch.channels_last if case.channels_last else torch.contiguous_format
    spec = load_experiment(Path(ROOT) / "system" / "configs" / f"{config}.yaml")
    network = build(spec.model, spec.input_shape(), 10).to(device, memory_format=order)
    features = torch.randn(batch, *spec.input_shape()).to(device, memory_format=order)
    label = torch.randint(0, 10, (batch,)).to(device)
    optimizer = torch.optim.AdamW(network.parameters(), fused=case.fused or None)  # None: PyTorch's default
    run = Graphed(network, features) if case.captured else network
    times = []
    for _ in range(STEPS[device] + 2):
        started = time.perf_counter()
        loss = F.cross_entropy(run(features), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="kt_final", metavar="NAME", help="of system/configs (default: kt_final)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", choices=CASES, default="cpu")
    parser.add_argument("--beside", action="store_true", help="with a second training on the same cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    cases = CASES[args.device]
    if args.measure:
        print(measure(cases[args.measure], args.config, args.batch, args.device))
        return
    rates: dict[str, list[float]] = {name: [] for name in cases}
    same = ["--config", args.config, "--batch", str(args.batch), "--device", args.device]
    for _ in range(args.rounds):
        for name, case in cases.items():
            command, around = [sys.executable, __file__, "--measure", name, *same], {**os.environ, **case.environment}
            count = 2 if args.beside else 1
            together = [subprocess.Popen(command, env=around, stdout=subprocess.PIPE) for _ in range(count)]
            rates[name].append(min(float(process.communicate()[0]) for process in together))
    first = statistics.median(rates["as it is"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:26s} {median:7.1f} clips/s ({median / first:.2f}x), {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    main()
