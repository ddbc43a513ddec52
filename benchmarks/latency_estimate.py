#!/usr/bin/env python3
"""How far the estimate of latency is off: random networks of the search space, estimated and measured as INT8 files.

    python benchmarks/latency_estimate.py --networks 40

One thread, batch 1, the thread's own time. The last lines are what a search may expect: the median and the spread of
measured over estimated, and how well the order is kept (Spearman's rank correlation).
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import system  # isort: skip  # noqa: F401 (before torch: it sets how OpenMP threads wait)
import numpy as np
import torch
from scipy.stats import spearmanr

from quant.cost_table import estimator, integer_file, milliseconds
from search.fit_width import fit_width
from search.space import DEFAULT, Uniform, spec_of, suggest
from search.text import described
from system.budget import Budget
from system.errors import guarded
from system.spec import ExperimentSpec

BUDGETS = ("64k_params_1M_macs", "64k_params_3M_macs", "128k_params_10M_macs", "128k_params_30M_macs")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=40, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    draw, shape = Uniform(np.random.default_rng(args.seed)), ExperimentSpec().input_shape()
    estimate, pairs = estimator(), []
    print(f"{'estimated':>9s} {'measured':>9s} {'ratio':>6s}  network")
    with tempfile.TemporaryDirectory() as folder:
        while len(pairs) < args.networks:
            choices, budget = suggest(draw, DEFAULT), Budget.parse(BUDGETS[len(pairs) % len(BUDGETS)])
            fitted = fit_width(spec_of(choices), budget, shape, 10)
            if fitted.spec is None or fitted.cost is None:
                continue
            took = milliseconds(integer_file(fitted.spec, shape, 10, Path(folder) / "int8.onnx"), shape)
            pairs.append((estimate(fitted.cost), took))
            print(f"{pairs[-1][0]:9.3f} {took:9.3f} {took / pairs[-1][0]:6.2f}  {described(choices)}", flush=True)
    estimated, measured = np.array(pairs).T
    low, middle, high = np.percentile(measured / estimated, [5, 50, 95])
    print(f"measured / estimated: median {middle:.2f}, 90 % of {len(pairs)} networks in [{low:.2f}, {high:.2f}]")
    print(f"Spearman's rank correlation {spearmanr(estimated, measured).statistic:.3f}")


if __name__ == "__main__":
    sys.exit(guarded(main))
