#!/usr/bin/env python3
"""Milliseconds of each operator under ONNX Runtime, float32 and INT8, batch 1, one thread: what a block really costs.

    python benchmarks/operator_latency.py                                  # the usual maps, about five minutes
    python benchmarks/operator_latency.py --maps 32x40x25 --json costs.json    # channels x frequency x time

How an operator is measured: quant/operator_costs.py.
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import system  # isort: skip  (before torch: it sets how OpenMP threads wait)
import torch

from quant.operator_costs import cases, measure, row
from system.complexity import Map
from system.progress import progress

MAPS = ("20x64x16", "32x64x16", "24x40x51", "48x40x51", "36x20x25", "48x20x25", "60x10x12", "64x10x12")


def parsed(text: str) -> Map:
    try:
        channels, freq, time_ = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected channels x frequency x time, as 32x40x25; found {text!r}") from None
    return Map(channels, freq, time_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", type=parsed, default=[parsed(text) for text in MAPS])
    parser.add_argument("--only", default="", help="operators whose name begins so")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    chosen = [case for y in args.maps for case in cases(y) if case.name.startswith(args.only)]
    rows: list[dict[str, Any]] = []
    print(f"{'operator':20s} {'map':>10s} {'fp32 ms':>9s} {'int8 ms':>9s} {'fp32/int8':>9s}")
    with progress("measuring operators", len(chosen), unit="operators") as step:
        for case in chosen:
            found = measure(case)
            size = "x".join(map(str, case.y))
            ratio = found["fp32"] / found["int8"] if min(found.values()) > 2e-4 else float("nan")
            print(f"{case.name:20s} {size:>10s} {found['fp32']:9.4f} {found['int8']:9.4f} {ratio:9.2f}", flush=True)
            rows.append(row(case, found))
            step(1)
    if args.json:
        args.json.write_text(json.dumps({"system": system.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
