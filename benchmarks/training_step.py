#!/usr/bin/env python3
"""Clips per second of one training step: memory layout, how threads wait, and what malloc keeps.

    python benchmarks/training_step.py                # on an otherwise idle machine; --batch 256 as the 2024 baseline
    python benchmarks/training_step.py --beside       # with a second training on the same cores

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
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
CASES: dict[str, tuple[str, dict[str, str]]] = {  # memory layout, environment
    "as it is": ("channels_last", {}),
    "threads spin": ("channels_last", {"OMP_WAIT_POLICY": "ACTIVE"}),
    "PyTorch's default layout": ("contiguous", {}),
    "malloc's defaults": ("channels_last", {"TINYSCENE_ALLOCATOR": "system"}),
}
STEPS = 8


def measure(layout: str, config: str, batch: int) -> float:
    """Clips per second of a network's steps: forward, backward, AdamW."""
    sys.path.insert(0, ROOT)
    import system  # noqa: F401, I001 (before torch: it sets how memory is kept and how threads wait)
    import torch
    import torch.nn.functional as F

    from system.models.network import build
    from system.runs import load_experiment

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    order = torch.contiguous_format if layout == "contiguous" else torch.channels_last
    spec = load_experiment(Path(ROOT) / "system" / "configs" / f"{config}.yaml")
    network = build(spec.model, spec.input_shape(), 10).to(memory_format=order)
    features = torch.randn(batch, *spec.input_shape()).to(memory_format=order)
    label = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.AdamW(network.parameters())
    times = []
    for _ in range(STEPS + 2):
        started = time.perf_counter()
        loss = F.cross_entropy(network(features), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return batch / statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="kt_final", metavar="NAME", help="of system/configs (default: kt_final)")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--beside", action="store_true", help="with a second training on the same cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.measure, args.config, args.batch))
        return
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(args.rounds):
        for name, (layout, environment) in CASES.items():
            asked = ["--measure", layout, "--config", args.config, "--batch", str(args.batch)]
            command, around = [sys.executable, __file__, *asked], {**os.environ, **environment}
            count = 2 if args.beside else 1
            together = [subprocess.Popen(command, env=around, stdout=subprocess.PIPE) for _ in range(count)]
            rates[name].append(min(float(process.communicate()[0]) for process in together))
    first = statistics.median(rates["as it is"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:26s} {median:7.1f} clips/s ({median / first:.2f}x), {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    main()
