"""One front of several searches: what each amount of MACs or parameters buys, over budgets.

Trials compare only if they were trained alike on the same data: searches that were not are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from search.report import pareto_of
from search.report_plots import front_of
from system.config import load_yaml
from system.errors import RunError
from system.files import read_json, write_csv, write_with
from system.runs import differences

COLUMNS = ("run", "budget", "number", "params", "macs", "log_loss", "accuracy")
OWN = ("budget", "view", "provenance")  # what may differ between searches that are put together
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d5fb0", "#c77d1e", "#5b6770", "#0f9aa8", "#b3478c", "#6b6b1d")


def finished(runs: Sequence[Path]) -> list[dict[str, Any]]:
    """The finished trials of all searches, each with its `run` and `budget`.

    Raises RunError for a run without a search, or one that was made with other settings than the first.
    """
    found: list[dict[str, Any]] = []
    first: Mapping[str, Any] | None = None
    for run in runs:
        search = read_json(run / "search.json", f"python search/run.py --budget B --run {run}")
        settings = load_yaml(run / "config.yaml")
        alike = {key: value for key, value in settings.items() if key not in OWN}
        alike["data_checksum"] = settings.get("provenance", {}).get("data_checksum")
        first = alike if first is None else first
        if different := differences(first, alike):
            raise RunError(
                f"{run} does not compare with {runs[0]}: {'; '.join(different)}; search with the same settings"
            )
        found += [
            {**trial, "run": run.name, "budget": search["budget"]["text"]}
            for trial in search["trials"]
            if trial["state"] == "COMPLETE"
        ]
    if not found:
        raise RunError(f"no trial of {', '.join(map(str, runs))} finished")
    return found


def write_fronts(out: Path, runs: Sequence[Path]) -> list[dict[str, Any]]:
    """pareto.csv and pareto.png in `out`: trials that none beats in parameters, MACs and validation loss at once."""
    trials = finished(runs)
    front = pareto_of(trials)
    write_csv(out / "pareto.csv", COLUMNS, [[trial[key] for key in COLUMNS] for trial in front])
    plot_fronts(out / "pareto.png", trials)
    return front


def plot_fronts(path: Path, trials: Sequence[Mapping[str, Any]]) -> None:
    """Validation log loss against MACs and against parameters; each budget a colour, the joint front joined."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    budgets = list(dict.fromkeys(trial["budget"] for trial in trials))
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", sharey=True)
    for axes, key, label in (
        (panels[0], "macs", "MACs per segment, deploy form"), (panels[1], "params", "parameters"),
    ):  # fmt: skip
        for index, budget in enumerate(budgets):
            own = [trial for trial in trials if trial["budget"] == budget]
            axes.scatter([t[key] for t in own], [t["log_loss"] for t in own], s=18, alpha=0.6,
                         color=COLOURS[index % len(COLOURS)], label=f"{budget} ({len(own)})")  # fmt: skip
        front = front_of(trials, key)
        axes.step([t[key] for t in front], [t["log_loss"] for t in front], where="post", color="black", label="front")
        axes.set_xscale("log")
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("validation log loss [nats]")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    write_with(path, lambda part: figure.savefig(part, dpi=130))
    plt.close(figure)
