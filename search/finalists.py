"""The best trials again, as long as the winner will be trained, with other seeds: a race that the worse half leaves.

The lowest of many noisy losses is partly luck, and short trials favour what learns fast: on ESC-10 with devices a
network that was 0.15 to 0.2 nats ahead after 30 passes was level after 100 (docs/searching.md). Every seed draws a
validation part of its own from the training fold, the same for all, so that in a round like is compared with like;
after a round the better half goes on (successive halving, over seeds in place of epochs).

Only validation parts decide. Each training is kept in finalists.json as soon as it is finished, so that a stopped
command goes on with the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from search.objective import experiment_of
from system.dataset import PreparedData
from system.files import read_json, write_json
from system.spec import ExperimentSpec
from system.training import fit

FILE = "finalists.json"
SEEDS = 3  # that the last two have at least
Record = dict[str, Any]
Score = Callable[[ExperimentSpec, Record, str], Record]  # (experiment, trial, what) -> log_loss and accuracy


def top(trials: Sequence[Record], count: int) -> list[Record]:
    """The `count` finished trials with the lowest validation log loss, the best first."""
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    return sorted(complete, key=lambda trial: trial["log_loss"])[:count]


def winner(run: Path, trials: Sequence[Record], count: int, experiment: ExperimentSpec, score: Score) -> Record:
    """Of the top `count`, the trial that wins the race; one alone wins without.

    `experiment` is that of the winner's training. The trial's own loss has no part in it: it is why it was picked.
    finalists.json holds the race, and every training there was, also those of other lengths and of earlier races.
    """
    finalists, path, epochs = top(trials, count), run / FILE, experiment.train.epochs
    trainings = read_json(path, "search/run.py")["trainings"] if path.is_file() else []
    known = {(row["number"], row["seed"]): row for row in trainings if row.get("epochs") == epochs}
    if len(finalists) < 2:
        if trainings:
            write_json(path, {"finalists": [], "trainings": trainings})
        return finalists[0]
    racing, raced, turn = finalists, list[Record](), 0
    while len(racing) > 2 or turn < SEEDS:
        turn += 1
        seed = experiment.seed + turn
        for place, trial in enumerate(racing, start=1):
            row = known.get((trial["number"], seed))
            if row is None:
                what = f"finalist {place} of {len(racing)}, trial {trial['number']}, seed {seed}"
                found = score(experiment_of(experiment, trial).changed(seed=seed), trial, what)
                row = {"number": trial["number"], "seed": seed, "epochs": epochs, **found}
                trainings.append(row)
            raced.append(row)
            write_json(path, {"finalists": ranked(finalists, raced), "trainings": trainings})
        by_number = {trial["number"]: trial for trial in racing}
        better = ranked(racing, raced)[: max(2, (len(racing) + 1) // 2)]
        racing = [by_number[row["number"]] for row in better]
    for row in ranked(finalists, raced):
        print(
            f"finalist trial {row['number']}: log loss {row['log_loss_new_seeds']:.4f} over {row['seeds']} new seeds, "
            f"{row['log_loss']:.4f} in the search"
        )
    return racing[0]


def race(run: Path) -> list[Record]:
    """The finalists of a run's last race, the winner first; none if there was no race."""
    path = run / FILE
    finalists: list[Record] = read_json(path, "search/run.py")["finalists"] if path.is_file() else []
    return finalists


def ranked(finalists: Sequence[Record], trainings: Sequence[Record]) -> list[Record]:
    """One row per finalist that has trainings: those that came further first, then by the mean loss of its seeds."""
    rows = []
    for trial in finalists:
        again = [row for row in trainings if row["number"] == trial["number"]]
        if again:
            rows.append({
                "number": trial["number"], "log_loss": trial["log_loss"], "accuracy": trial["accuracy"],
                "log_loss_new_seeds": fmean(row["log_loss"] for row in again),
                "accuracy_new_seeds": fmean(row["accuracy"] for row in again), "seeds": len(again),
            })  # fmt: skip
    return sorted(rows, key=lambda row: (-row["seeds"], row["log_loss_new_seeds"]))


def scorer(data_of: Callable[[ExperimentSpec], PreparedData], device: str, int8: bool) -> Score:
    """Trains; of an int8 search trains on with quantization, and scores that."""

    def score(experiment: ExperimentSpec, trial: Record, what: str) -> Record:
        from search.int8 import tuned

        data = data_of(experiment)
        trained = fit(experiment, data, device=device, what=what)
        if int8:
            return dict(tuned(experiment, data, trained, device, f"{what}, quantized"))
        return {"log_loss": trained.last.log_loss, "accuracy": trained.last.accuracy}

    return score
