#!/usr/bin/env python3
"""Candidates a second on one core: drawn, their width solved exactly for a budget, their cost counted, named.

    python benchmarks/search_speed.py                                     # several mixtures of limits
    python benchmarks/search_speed.py --budget 128k_params_2ms_latency    # one; a limit of latency needs its table

Renamed are those that fit and say the same as another draw would (search/same_network.py). Time is that of the
process. The table of operators for a limit of latency is measured first, once per machine.
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from search.fit_width import fit_width
from search.same_network import plainest
from search.space import DEFAULT, Uniform, spec_of, suggest
from search.text import limit_name
from system.budget import Budget
from system.errors import guarded
from system.progress import progress
from system.spec import ExperimentSpec

BUDGETS = ("dcase2022", "1M_macs", "64KiB", "128k_params_30M_macs_128kB_256kB_activations")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", nargs="+", default=list(BUDGETS), metavar="B")
    parser.add_argument("--candidates", type=int, default=1000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    shape = ExperimentSpec().input_shape()
    print(f"{'budget':46s} {'candidates/s':>12s} {'renamed':>8s} {'infeasible':>10s}  by the limit that fails first")
    for text in args.budget:
        budget, draw = Budget.parse(text), Uniform(np.random.default_rng(args.seed))
        fit_width(spec_of(suggest(draw, DEFAULT)), budget, shape, 10)  # what is loaded or measured once
        limits, renamed = Counter[str](), 0
        with progress(f"solving within {text}", args.candidates, unit="candidates") as step:
            started = time.process_time()
            for _ in range(args.candidates):
                fitted = fit_width(spec_of(suggest(draw, DEFAULT)), budget, shape, 10)
                limits[fitted.limit] += 1
                if fitted.spec is not None and fitted.cost is not None:
                    renamed += plainest(fitted.spec, fitted.cost, shape, 10) != fitted.spec
                step(1)
            spent = time.process_time() - started
        del limits[""]
        told = ", ".join(f"{limit_name(limit)} {count}" for limit, count in limits.most_common())
        print(f"{text:46s} {args.candidates / spent:12.0f} {renamed:8d} {sum(limits.values()):10d}  {told}", flush=True)


if __name__ == "__main__":
    sys.exit(guarded(main))
