#!/usr/bin/env python3
"""One Pareto front of several searches, over MACs and parameters: python benchmarks/pareto_front.py runs/A runs/B

Searches at several budgets by the same recipe on the same data, such as
    for B in 8k_params_1M_macs 32k_params_3M_macs 128k_params_10M_macs; do python search/run.py --budget $B; done
Writes pareto.csv and pareto.png into --out.
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from search.pareto import write_fronts
from system.errors import guarded


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="runs/NAME")
    parser.add_argument("--out", type=Path, default=Path("runs/pareto"), metavar="DIR")
    args = parser.parse_args(argv)
    for trial in write_fronts(args.out, args.runs):
        print(f"{trial['budget']:28s} trial {trial['number']:4d} of {trial['run']}: {trial['params']:>9,} parameters, "
              f"{trial['macs'] / 1e6:8.2f} MMACs, log loss {trial['log_loss']:.4f}")  # fmt: skip
    print(f"{args.out}/pareto.csv, {args.out}/pareto.png")


if __name__ == "__main__":
    sys.exit(guarded(main))
