#!/usr/bin/env python3
"""Trials per minute of 1, 2 and 4 workers: on trials that sleep, and on real trainings.

    python benchmarks/search_scaling.py                      # sleeping trials: what sharing a study costs
    python benchmarks/search_scaling.py --real               # tiny trainings, one thread each, as far as the cores go
    python benchmarks/search_scaling.py --storage URL        # on a server; SQLite in a temporary folder otherwise

Workers are started as `search/run.py --workers` starts them. The clock runs from the first trial's start to the last
one's end, as the study has them, so that starting processes is not in it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WORKERS = (1, 2, 4)


def sleep(spec: Any, data: Any, *, seconds: float, on_epoch: Any, **_: Any) -> None:
    """In place of a training; a loss that depends on the network, so that the search has something to go by."""
    from system.learning.loop import Epoch

    for epoch in range(1, spec.train.epochs + 1):
        time.sleep(seconds)
        on_epoch(Epoch(epoch, 1.0, 1 + 1 / spec.model.width + 0.1 / epoch, 0.5, seconds, 1.0))


def experiment() -> Any:
    from system.spec import DataSpec, ExperimentSpec, FeatureSpec, TrainSpec

    features = FeatureSpec(sample_rate=22050, n_fft=2048, win_length=1764, hop_length=882, n_mels=40)
    return ExperimentSpec(data=DataSpec(), features=features, train=TrainSpec(epochs=3))


def work_on(plan: Any, index: int) -> None:
    import torch

    from search.worker import work

    torch.set_num_threads(1)
    work(plan, index)


def rate(workers: int, trials: int, url: str, folder: Path, fit: Any) -> float:
    """Trials per minute."""
    from search.storage import trials_of, was_trained
    from search.worker import Plan
    from system.budget import Budget
    from system.workers import run_team

    run = folder / f"{workers}"
    run.mkdir()
    study = f"scaling-{workers}-{time.time():.0f}"
    plan = Plan(
        experiment(), (Budget.parse("1M_macs"),), url or f"sqlite:///{run}/study.db", study, run, trials, "cpu",
        quiet=True, fit=fit,
    )  # fmt: skip
    plan.open()
    run_team(work_on, [(plan, index) for index in range(workers)], lambda: None)
    trained = [trial for trial in trials_of(plan.open()) if was_trained(trial)]
    begun = [trial.datetime_start for trial in trained]
    ended = [trial.datetime_complete or datetime.max for trial in trained]
    return 60 * len(trained) / (max(ended) - min(begun)).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", action="store_true", help="train on the made scenes instead of sleeping")
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=1.0, help="that an epoch sleeps; a trial has up to three")
    parser.add_argument("--storage", default="", metavar="URL")
    args = parser.parse_args()
    from system.dataset import prepare

    prepare(experiment().data, experiment().features, 0)  # the features are computed once, before the clock runs
    fit = None if args.real else partial(sleep, seconds=args.seconds)
    rates: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for workers in WORKERS:
            rates[workers] = rate(workers, args.trials, args.storage, Path(folder), fit)
            print(f"{workers} workers: {rates[workers]:6.1f} trials/min, {rates[workers] / rates[1]:.2f} times one",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
