#!/usr/bin/env python3
"""Clips per second of one training step: memory layout, and threads that wait by sleeping or by spinning.

    python benchmarks/memory_layout.py            # on an otherwise idle machine
    python benchmarks/memory_layout.py --beside   # with a second training on the same cores

Every figure is a process of its own, the cases taking turns; medians over the rounds, and the ratio to the first.
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
CASES = {
    "channels last, sleeping": ("channels_last", "PASSIVE"),
    "channels last, spinning": ("channels_last", "ACTIVE"),
    "default layout, sleeping": ("contiguous", "PASSIVE"),
}
BATCH, STEPS = 32, 12


def measure(layout: str) -> float:
    """Clips per second of the KT final design at 1x80x51: forward, backward, AdamW."""
    sys.path.insert(0, ROOT)
    import torch
    import torch.nn.functional as F

    from system.models.catalog import model_spec
    from system.models.network import build

    torch.manual_seed(0)
    torch.set_num_threads(os.cpu_count() or 1)
    order = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    shape = (1, 80, 51)
    network = build(model_spec("kt_final"), shape, 10).to(memory_format=order)
    features = torch.randn(BATCH, *shape).to(memory_format=order)
    label = torch.randint(0, 10, (BATCH,))
    optimizer = torch.optim.AdamW(network.parameters())
    times = []
    for _ in range(STEPS + 2):
        started = time.perf_counter()
        loss = F.cross_entropy(network(features), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return BATCH / statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", action="store_true", help="with a second training on the same cores")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.measure))
        return
    rates: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(args.rounds):
        for name, (layout, wait) in CASES.items():
            environment = {**os.environ, "OMP_WAIT_POLICY": wait}
            command = [sys.executable, __file__, "--measure", layout]
            count = 2 if args.beside else 1
            started = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) for _ in range(count)]
            rates[name].append(min(float(process.communicate()[0]) for process in started))
    first = statistics.median(rates["channels last, sleeping"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:26s} {median:7.1f} clips/s ({median / first:.2f}x), {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    main()
