#!/usr/bin/env python3
"""How many epochs random search needs for its result, and how many the search of this project needs for the same.

    python benchmarks/search_efficiency.py pool     # trains random candidates once, keeping their learning curves
    python benchmarks/search_efficiency.py replay   # replays both searches on them, over many orders

`pool` draws candidates of the search space within `--budget`, and trains each for `--epochs` on the training part of
ESC-10-devices (shared/data/README.md); of every epoch the log loss of the validation part is kept, the test fold is
not touched. It continues where it was stopped, and the same command started twice shares the work, as do --workers.

`replay` runs the search's own decisions on the stored curves: `search/fidelity.py` says which training stops where,
`search/propose.py` which of the candidates that are drawn is trained next. Random search trains every candidate to the
end. Counted are the epochs that ours needs until a network that it trained to the end is as good as the best of random
search after all of its trials; an order in which it never is counts as infinitely many.
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

from filelock import FileLock, Timeout  # noqa: E402

from system.errors import RunError, TrainingError, guarded  # noqa: E402

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
    from search.space import Uniform, spec_of, suggest
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
    if (known := read(args.pool)) and (different := differences(known[0]["settings"], made_with)):
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


def features(candidate: Candidate) -> dict[str, Any]:
    from search.objective import features_of

    return features_of(candidate["choices"], candidate)


def ours(
    pool: list[Candidate], epochs: int, target: float, seed: int, stopping: bool = True, model: bool = True
) -> list[tuple[int, float]]:
    """(epochs spent, best log loss of a whole training) after each training, until it is at most `target`."""
    import numpy as np

    from search.fidelity import stops
    from search.propose import Seen, choose, wanted

    rng, left, seen = np.random.default_rng(seed), list(range(len(pool))), []
    spent, best, trace = 0, float("inf"), []
    while left and best > target:
        aim = min(wanted(seen, rng) if model else 1, len(left))
        drawn = rng.choice(left, aim, replace=False).tolist()
        number = drawn[choose(seen, [features(pool[index]) for index in drawn], epochs, rng)]
        left.remove(number)
        curve: list[float] = []
        for loss in pool[number]["log_loss"]:
            curve.append(loss)
            if stopping and stops(curve, [one.curve for one in seen], epochs):
                break
        seen.append(Seen(features(pool[number]), curve))
        spent += len(curve)
        best = min(best, curve[-1]) if len(curve) == epochs else best
        trace.append((spent, best))
    return trace


def at_random(pool: list[Candidate], epochs: int, trials: int, seed: int) -> list[tuple[int, float]]:
    import numpy as np

    order = np.random.default_rng((seed, 1)).permutation(len(pool))[:trials]
    losses = [pool[index]["log_loss"][-1] for index in order]
    return [((n + 1) * epochs, min(losses[: n + 1])) for n in range(trials)]


def finite(share: float) -> float | None:
    """JSON has no infinity: None stands for an order that never is as good."""
    return float(share) if share < float("inf") else None


VARIANTS = {
    "both": {"stopping": True, "model": True},
    "stopping only": {"stopping": True, "model": False},
    "model only": {"stopping": False, "model": True},
}


def replay(args: argparse.Namespace) -> None:
    import numpy as np

    from system.files import write_json, write_with
    from system.progress import progress

    found = read(args.pool)
    pool = [candidate for candidate in found if "log_loss" in candidate]
    if len(pool) < 40:
        raise RunError(f"{args.pool}: expected at least 40 trained candidates, found {len(pool)}; see `pool`")
    epochs = found[0]["settings"]["epochs"]
    print(f"{len(pool)} candidates of {epochs} epochs ({len(found) - len(pool)} failed), {args.orders} orders")
    results: dict[str, Any] = {"pool": len(pool), "failed": len(found) - len(pool), "epochs": epochs, "rows": []}
    traces: dict[str, list[list[tuple[int, float]]]] = {}
    sizes = [len(pool) // 3, len(pool)]
    with progress("replaying", len(sizes) * len(VARIANTS) * args.orders, unit="orders") as step:
        for trials in sizes:
            randoms = [at_random(pool, epochs, trials, seed) for seed in range(args.orders)]
            traces[f"random, {trials}"] = randoms
            for name, parts in VARIANTS.items():
                shares, mine = [], []
                for seed, random_trace in enumerate(randoms):
                    target = random_trace[-1][1]
                    mine.append(ours(pool, epochs, target, seed, **parts))
                    reached = mine[-1][-1][1] <= target
                    shares.append(mine[-1][-1][0] / random_trace[-1][0] if reached else float("inf"))
                    step()
                traces[f"{name}, {trials}"] = mine
                low, median, high = np.quantile(np.array(shares), [0.025, 0.5, 0.975], method="nearest")
                row = {
                    "random_trials": trials, "random_epochs": trials * epochs, "search": name,
                    "share_of_epochs": finite(median), "interval": [finite(low), finite(high)],
                    "at_most_a_third": float(np.mean(np.array(shares) <= 1 / 3)),
                    "never": int(np.isinf(shares).sum()),
                }  # fmt: skip
                results["rows"].append(row)
                print(
                    f"random search of {trials} trials ({row['random_epochs']} epochs), {name}: {median:.3f} of its "
                    f"epochs [{low:.3f}, {high:.3f}], at most a third in {row['at_most_a_third']:.0%} of the orders, "
                    f"never in {row['never']}", flush=True,
                )  # fmt: skip
    write_json(args.pool.parent / "efficiency.json", results)
    write_with(args.pool.parent / "efficiency.png", lambda path: plot(path, traces, sizes, epochs))
    print(f"{args.pool.parent / 'efficiency.json'} and .png")


def plot(path: Path, traces: dict[str, Any], sizes: list[int], epochs: int) -> None:
    """Best log loss against epochs for the first size: medians over the orders, and the middle half of them."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    trials = sizes[0]
    grid = np.arange(epochs, trials * epochs + 1)
    looks = {"random": "#8a8a8a", "stopping only": "#e0a030", "model only": "#5aa469", "both": "#1b6ca8"}
    for name, colour in looks.items():
        curves = []
        for trace in traces[f"{name}, {trials}"]:
            spent, best = np.array(trace).T
            found = np.searchsorted(spent, grid, side="right") - 1
            curves.append(np.where(found < 0, np.nan, best[np.maximum(found, 0)]))
        finite = np.where(np.isfinite(curves), curves, np.nan)
        low, median, high = np.nanquantile(finite, [0.25, 0.5, 0.75], axis=0)
        label = "random search" if name == "random" else f"search/run.py: {name}"
        axes.plot(grid, median, color=colour, label=label)
        axes.fill_between(grid, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.axvline(trials * epochs / 3, color="black", linestyle=":", label="a third of random search's epochs")
    axes.set_xlabel("epochs of training, over all trials")
    axes.set_ylabel("best validation log loss [nats]")
    axes.set_title(f"{trials} random trials of {epochs} epochs, and ours until it is as good: "
                   f"{len(traces[f'both, {trials}'])} orders")  # fmt: skip
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


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
    parser.add_argument("--orders", type=int, default=50, help="of replay")
    args = parser.parse_args(argv)
    {"pool": pool, "replay": replay}[args.command](args)


if __name__ == "__main__":
    sys.exit(guarded(main))
