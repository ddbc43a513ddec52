"""pareto.png: validation log loss against cost, of one budget or of all the budgets of a front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from search.report import Record, by_level, front_of, pareto_of
from search.report_plots import COLOURS, MARKERS
from system.budget import Budget
from system.files import write_with

STATE_LOOKS = {"COMPLETE": ("o", "#1b6ca8"), "PRUNED": ("x", "#9a9a9a")}


def plot_pareto(path: Path, trials: Sequence[Record], budget: Budget) -> None:
    """Validation log loss against MACs; the front is joined, the limit drawn where there is one."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for state, (marker, colour) in STATE_LOOKS.items():
        shown = [t for t in trials if t["state"] == state and t["log_loss"] is not None]
        if shown:
            axes.scatter(
                [t["macs"] / 1e6 for t in shown], [t["log_loss"] for t in shown],
                s=[20 + t["params"] / 1500 for t in shown], marker=marker, color=colour, alpha=0.8,
                label=f"{state.lower()} ({len(shown)})",
            )  # fmt: skip
    front = front_of(pareto_of(trials), "macs")
    axes.step([t["macs"] / 1e6 for t in front], [t["log_loss"] for t in front], where="post", color="#d1495b",
              marker="o", markersize=9, fillstyle="none", label="Pareto front")  # fmt: skip
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


def plot_front(path: Path, trials: Sequence[Record], budgets: Sequence[Budget]) -> None:
    """Validation log loss against MACs and against parameters: a colour for each budget, the joint front joined.

    Of the finished trials: the loss of one that was stopped is of another epoch.
    """
    figure = Figure(figsize=(12, 5.2), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
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


def limits_of(budgets: Sequence[Budget], quantity: str) -> list[tuple[float, Any]]:
    """Each limit of a quantity and its colour: that of its budget, or grey where several share it."""
    found: dict[float, list[int]] = {}
    for index, budget in enumerate(budgets):
        if (limit := budget.limits().get(quantity)) is not None:
            found.setdefault(limit, []).append(index)
    return [(limit, COLOURS[ones[0] % len(COLOURS)] if len(ones) == 1 else "#777777") for limit, ones in found.items()]
