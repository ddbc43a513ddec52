#!/usr/bin/env python3
"""How many epochs random search needs for its result, and how many the search of this project needs for the same.

    python benchmarks/search_efficiency.py pool     # trains random candidates once, keeping their learning curves
    python benchmarks/search_efficiency.py replay   # replays both searches on them, over many orders

`pool` draws candidates of the search space within `--budget`, and trains each for `--epochs` on the training part of
ESC-10-devices (shared/data/README.md); of every epoch the log loss of the validation part is kept, the test fold is
not touched. It continues where it was stopped, and the same command started twice shares the work, as do --workers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

from filelock import FileLock, Timeout

from system.errors import RunError, TrainingError, guarded

Candidate = dict[str, Any]
CANDIDATES, EPOCHS = 150, 9
SMALL = {"n_fft": 2048, "win_length": 1764, "hop_length": 882, "n_mels": 40}  # a fourth of the usual map: cheap maps


def experiment_of(args: argparse.Namespace) -> Any:
    from system.spec import DataSpec, ExperimentSpec, FeatureSpec, TrainSpec

    folder = Path(args.data)
    data = DataSpec(dataset="csv", root=str(folder / "esc10_32k"), device_irs=str(folder / "micirp"))
    train, features = TrainSpec(epochs=args.epochs), FeatureSpec(**SMALL)
    return ExperimentSpec(data=data, features=features, train=train, budget=args.budget, seed=args.seed)


def candidates(experiment: Any, classes: int, count: int) -> list[Candidate]:
    """The first `count` different networks of the space within the budget, drawn uniformly; no training."""
    import numpy as np

    from search.fit_width import fit_width
    from search.space import spec_of, suggest
    from search.worker import Uniform
    from system.experiment import budget_of

    budget, generator = budget_of(experiment), Uniform(np.random.default_rng(experiment.seed))
    found: dict[str, Candidate] = {}
    while len(found) < count:
        choices = suggest(generator)
        fitted = fit_width(spec_of(choices), budget, experiment.input_shape(), classes)
        if fitted.spec is not None:
            plain = fitted.spec.plain()
            found.setdefault(json.dumps(plain), {"choices": choices, "spec": plain, "params": fitted.cost.params,
                                                 "macs": fitted.cost.macs})  # fmt: skip
    return [{"number": number, **candidate} for number, candidate in enumerate(found.values())]


def read(path: Path) -> list[Candidate]:
    """The candidates that are trained; a line that was cut off is none."""
    found = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return sorted(found, key=lambda candidate: candidate["number"])


def append(path: Path, candidate: Candidate) -> None:
    with FileLock(f"{path}.lock"), path.open("a+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell() and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")  # after a line that was cut off
        file.write(json.dumps(candidate).encode() + b"\n")


def pool(args: argparse.Namespace) -> None:
    from system.workers import run_team

    path: Path = args.pool
    path.parent.mkdir(parents=True, exist_ok=True)
    started, before = time.monotonic(), len(read(path))
    shown = before

    def watch() -> None:
        nonlocal shown
        if (done := len(read(path))) > shown:
            shown = done
            left = (time.monotonic() - started) / (done - before) * (args.candidates - done)
            print(f"{done} of {args.candidates} candidates, about {left / 60:.0f} min left", flush=True)

    if args.workers == 1:
        train_pool(args, watch)
    else:
        run_team(train_pool, [(args,)] * args.workers, watch)
    print(f"{path}: {len(read(path))} candidates")


def train_pool(args: argparse.Namespace, watch: Any = lambda: None) -> None:
    """Train, in this process, each candidate that no other process trains."""
    import torch

    from search.space import DEFAULT, plain
    from system.dataset import prepare
    from system.runs import differences
    from system.training import fit

    if args.threads:
        torch.set_num_threads(args.threads)
    experiment = experiment_of(args)
    data = prepare(experiment.data, experiment.features, experiment.seed)
    made_with = {
        "budget": args.budget, "epochs": args.epochs, "seed": args.seed, "data": data.checksum, "space": plain(DEFAULT)
    }  # fmt: skip
    if known := read(args.pool):
        if different := differences(known[0]["settings"], made_with):
            raise RunError(f"{args.pool} was made with other settings: {'; '.join(different)}")
    for candidate in candidates(experiment, len(data.classes), args.candidates):
        number = candidate["number"]
        lock = FileLock(args.pool.with_suffix(f".{number}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        with lock:
            lock.release()
            if number in {done["number"] for done in read(args.pool)}:
                continue
            started, cpu = time.monotonic(), time.process_time()
            spec = experiment.changed(model=candidate["spec"])
            result: dict[str, Any] = {}
            try:
                history = fit(spec, data, device=args.device, what=f"candidate {number}").history
                result["log_loss"] = [row.log_loss for row in history]
                result["accuracy"] = [row.accuracy for row in history]
            except (RuntimeError, TrainingError) as error:
                result["failed"] = str(error).splitlines()[0]
            times = {"seconds": time.monotonic() - started, "cpu_seconds": time.process_time() - cpu}
            append(args.pool, {**candidate, **result, **times, "settings": made_with})
        watch()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("pool", "replay"))
    parser.add_argument("--pool", type=Path, default=Path("runs/search_efficiency/pool.jsonl"), metavar="FILE")
    parser.add_argument("--data", default="../shared/data", help="folder that holds esc10_32k and micirp")
    parser.add_argument("--budget", default="3M_macs")
    parser.add_argument("--candidates", type=int, default=CANDIDATES)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, help="of each worker (default: the cores, shared)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    pool(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
