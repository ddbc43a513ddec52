"""What a search leaves for people: search.json, pareto.csv, pareto.png."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import optuna

from search.space import BUDGET
from search.storage import record_of
from system.budget import Budget
from system.files import write_csv, write_json, write_with

Record = dict[str, Any]
AnyRecord = TypeVar("AnyRecord", bound=Mapping[str, Any])
PARETO_COLUMNS = ("number", "params", "macs", "log_loss", "accuracy")
STATE_LOOKS = {"COMPLETE": ("o", "#1b6ca8"), "PRUNED": ("x", "#9a9a9a")}


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


def plot_pareto(path: Path, trials: Sequence[Record], budget: Budget) -> None:
    """Validation log loss against MACs; the front is joined, the limit drawn where there is one."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for state, (marker, colour) in STATE_LOOKS.items():
        shown = [t for t in trials if t["state"] == state and t["log_loss"] is not None]
        if shown:
            axes.scatter(
                [t["macs"] / 1e6 for t in shown], [t["log_loss"] for t in shown],
                s=[20 + t["params"] / 1500 for t in shown], marker=marker, color=colour, alpha=0.8,
                label=f"{state.lower()} ({len(shown)})",
            )  # fmt: skip
    front: list[Record] = []
    for trial in pareto_of(trials):
        if not front or trial["log_loss"] < front[-1]["log_loss"]:
            front.append(trial)
    axes.step([t["macs"] / 1e6 for t in front], [t["log_loss"] for t in front], where="post", color="#d1495b",
              label="Pareto front")  # fmt: skip
    for trial in front:
        axes.annotate(f"#{trial['number']}", (trial["macs"] / 1e6, trial["log_loss"]), xytext=(4, 5),
                      textcoords="offset points", fontsize=8)  # fmt: skip
    if budget.macs:
        axes.axvline(budget.macs / 1e6, color="black", linestyle=":", label=f"limit {budget.macs / 1e6:g} MMACs")
    axes.set_xlabel("MACs per segment [millions], largest official view, deploy form")
    axes.set_ylabel("validation log loss [nats]")
    axes.set_title(f"Trials within {budget.text} (marker area grows with parameters)")
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    write_with(path, lambda part: figure.savefig(part, dpi=130))
    plt.close(figure)
