"""The trials of a search as records: search.json, pareto.csv, and which of them are the best."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import optuna

from search.space import BUDGET
from search.storage import record_of
from system.budget import Budget
from system.files import write_csv, write_json

Record = dict[str, Any]
AnyRecord = TypeVar("AnyRecord", bound=Mapping[str, Any])
PARETO_COLUMNS = ("number", "params", "macs", "log_loss", "accuracy")


def title_of(budgets: Sequence[Budget]) -> str:
    return " | ".join(budget.text for budget in budgets)


def by_level(trials: Iterable[AnyRecord]) -> dict[str | None, list[AnyRecord]]:
    """The trials of each budget of a front, in the order in which the budgets come; of another search all, by None."""
    found: dict[str | None, list[AnyRecord]] = {}
    for trial in trials:
        found.setdefault(trial.get(BUDGET), []).append(trial)
    return found


def best_of(trials: Iterable[Record]) -> Record | None:
    """The finished trial with the lowest validation log loss."""
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    return min(complete, key=lambda trial: trial["log_loss"], default=None)


def pareto_of(trials: Sequence[Record]) -> list[Record]:
    """Finished trials that no other beats in parameters, MACs and validation log loss at once."""
    axes = ("params", "macs", "log_loss")
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]

    def beaten(a: Record) -> bool:
        return any(all(b[k] <= a[k] for k in axes) and any(b[k] < a[k] for k in axes) for b in complete)

    return sorted((trial for trial in complete if not beaten(trial)), key=lambda trial: trial["macs"])


def front_of(trials: Sequence[AnyRecord], key: str) -> list[AnyRecord]:
    """The trials that are better than every cheaper one, by the cost `key`."""
    front: list[AnyRecord] = []
    for trial in sorted(trials, key=lambda t: (t[key], t["log_loss"])):
        if not front or trial["log_loss"] < front[-1]["log_loss"]:
            front.append(trial)
    return front


def write_search(run: Path, study: optuna.Study, budgets: Sequence[Budget]) -> Record | None:
    """Write search.json and pareto.csv as the study stands; returns the best trial so far, at whatever cost."""
    trials = [record_of(trial) for trial in study.get_trials(deepcopy=False)]
    trials = [trial for trial in trials if trial["state"] not in ("RUNNING", "WAITING")]
    best, pareto = best_of(trials), pareto_of(trials)
    level = (BUDGET,) if len(budgets) > 1 else ()
    keys = (*level, "number", "params", "macs", "log_loss", "accuracy", "spec")
    limits = [budget.summary() for budget in budgets]
    write_json(
        run / "search.json",
        {
            **({"front": limits} if level else {"budget": limits[0]}),
            "trials": trials,
            "best": {key: best[key] for key in keys} if best else None,
            "pareto": [{key: trial[key] for key in keys} for trial in pareto],
        },
    )
    columns = (*level, *PARETO_COLUMNS)
    write_csv(run / "pareto.csv", columns, [[trial[key] for key in columns] for trial in pareto])
    return best
