"""What a search over several budgets at once leaves for people: one front of loss, MACs and parameters, no winner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.objective import experiment_of
from search.report import Record, by_level, pareto_of
from search.report_plots import COLOURS, MARKERS, front_of
from search.text import aligned
from system.budget import Budget
from system.config import load_yaml
from system.files import write_with, write_yaml
from system.spec import ExperimentSpec

FOLDER = "front"  # in the run folder: an experiment for each network of the front


def write_front(run: Path, trials: Sequence[Record], budgets: Sequence[Budget], spec: ExperimentSpec) -> list[Path]:
    """pareto.png, and an experiment of each network of the front, which system/run.py trains; their paths.

    `spec` is the long training, of whatever network. Experiments of networks that are no longer on the front go.
    """
    plot_front(run / "pareto.png", trials, budgets)
    made_with = load_yaml(run / "config.yaml").get("provenance")
    paths = []
    for trial in pareto_of(trials):
        paths.append(run / FOLDER / f"{trial['budget']}-trial{trial['number']}.yaml")
        final = experiment_of(spec, trial).changed(budget=trial["budget"])
        write_yaml(paths[-1], {**final.plain(), "provenance": made_with})
    for path in set((run / FOLDER).glob("*.yaml")) - set(paths):
        path.unlink()
    return paths


def told(trials: Sequence[Record], paths: Sequence[Path]) -> str:
    """The front as a table, one line per network, and how to train one."""
    front = pareto_of(trials)
    lines: list[tuple[str, ...]] = [("budget", "trial", "parameters", "MMACs", "validation log loss", "experiment")]
    for trial, path in zip(front, paths, strict=True):
        lines.append((
            trial["budget"], str(trial["number"]), f"{trial['params']:,}", f"{trial['macs'] / 1e6:.3f}",
            f"{trial['log_loss']:.4f}", str(path),
        ))  # fmt: skip
    _, best = min((trial["log_loss"], path) for trial, path in zip(front, paths, strict=True))
    return (
        f"{aligned(lines)}\n\nNone of them is trained further. To train one, here that of the lowest loss:\n"
        f"python system/run.py train --config {best} --run runs/{best.stem}"
    )


def plot_front(path: Path, trials: Sequence[Record], budgets: Sequence[Budget]) -> None:
    """Validation log loss against MACs and against parameters: a colour for each budget, the joint front joined.

    Of the finished trials: the loss of one that was stopped is of another epoch.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    figure, panels = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained", sharey=True)
    levels = {budget.text: by_level(trials).get(budget.text, []) for budget in budgets}
    complete = [trial for trial in trials if trial["state"] == "COMPLETE"]
    unbeaten = {trial["number"] for trial in pareto_of(trials)}
    for axes, key, unit, label in (
        (panels[0], "macs", 1e6, "MACs per segment [millions], largest official view, deploy form"),
        (panels[1], "params", 1e3, "parameters [thousands], deploy form"),
    ):  # fmt: skip
        for index, (budget, ones) in enumerate(levels.items()):
            colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
            done = [trial for trial in ones if trial["state"] == "COMPLETE"]
            axes.scatter([t[key] / unit for t in done], [t["log_loss"] for t in done], s=30, color=colour,
                         marker=marker, label=f"{budget} ({len(done)} finished)")  # fmt: skip
            rimmed = [trial for trial in done if trial["number"] in unbeaten]
            axes.scatter([t[key] / unit for t in rimmed], [t["log_loss"] for t in rimmed], s=30, facecolors="none",
                         edgecolors="black", marker=marker)  # fmt: skip
        for limit, colour in limits_of(budgets, key):
            axes.axvline(limit / unit, color=colour, linestyle=":", linewidth=1)
        front = front_of(complete, key)
        axes.step([t[key] / unit for t in front], [t["log_loss"] for t in front], where="post", color="black",
                  linewidth=1.2, label="front of loss and this cost", zorder=1)  # fmt: skip
        for trial in front:
            axes.annotate(f"#{trial['number']}", (trial[key] / unit, trial["log_loss"]), xytext=(3, 4),
                          textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("validation log loss [nats]")
    panels[0].plot([], [], color="black", linestyle=":", label="limit of a budget")
    panels[0].scatter([], [], s=30, color="white", edgecolors="black", label="unbeaten in all three at once")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    write_with(path, lambda part: figure.savefig(part, dpi=130))
    plt.close(figure)


def limits_of(budgets: Sequence[Budget], quantity: str) -> list[tuple[float, Any]]:
    """Each limit of a quantity and its colour: that of its budget, or grey where several share it."""
    found: dict[float, list[int]] = {}
    for index, budget in enumerate(budgets):
        if (limit := budget.limits().get(quantity)) is not None:
            found.setdefault(limit, []).append(index)
    return [(limit, COLOURS[ones[0] % len(COLOURS)] if len(ones) == 1 else "#777777") for limit, ones in found.items()]
