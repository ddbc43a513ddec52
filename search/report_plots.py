"""Figures of report.html."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from search.report import by_level, front_of
from system.page.figure import ACCENT, INK, LINE, MUTED, PAPER, SECOND, svg

Record = Mapping[str, Any]
BEHIND_TEXT = {"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
LOSSES = colormaps["viridis_r"]  # low losses dark
COLOURS = ("#1b6ca8", "#d1495b", "#3a7d44", "#8d5fb0", "#c77d1e", "#0f9aa8", "#b3478c", "#6b6b1d")  # of budgets
MARKERS = ("o", "s", "^", "D", "v", "P", "*", "X")
LEAST_SHARE = 0.005  # of the variance, for a bar


class Look(NamedTuple):
    """How the finished trials of one budget look in a figure; in a search of one budget, those of the search."""

    name: str
    colour: str
    marker: str
    line: str  # colour of the line through its best
    line_name: str | None
    done: Sequence[Record]


def looks(trials: Sequence[Record]) -> list[Look]:
    """The look of each budget that has finished trials."""
    found = []
    for index, (level, ones) in enumerate(by_level(trials).items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        done = [trial for trial in ones if trial["state"] == "COMPLETE"]
        single = Look("finished", ACCENT, "o", SECOND, "best so far", done)
        found.append(single if level is None else Look(level, colour, marker, colour, None, done))
    return [look for look in found if look.done]


def history(trials: Sequence[Record]) -> str:
    """Validation log loss by trial, and the lowest so far; of a front, for each budget."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        cut = [t for t in trials if t["state"] == "PRUNED" and t["log_loss"] is not None]
        if cut:
            axes.plot([t["number"] for t in cut], [t["log_loss"] for t in cut], "x", color=MUTED, markersize=6,
                      label=f"stopped early, where it stood ({len(cut)})")  # fmt: skip
        for look in looks(trials):
            numbers, losses = [t["number"] for t in look.done], [t["log_loss"] for t in look.done]
            axes.plot(numbers, losses, look.marker, color=look.colour, markersize=6,
                      label=f"{look.name} ({len(losses)})")  # fmt: skip
            axes.step(numbers, np.minimum.accumulate(losses), where="post", color=look.line, label=look.line_name)
        axes.set_xlabel("trial")
        axes.set_ylabel("validation log loss (nats)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid()
        figure.legend(loc="outside upper right", ncols=3)

    return svg(draw, "history", "Validation log loss of each trial", (10, 3.8))


def fronts(trials: Sequence[Record], limits: Mapping[str, Sequence[float]]) -> str:
    """Validation log loss against parameters and MACs, each with the trials that no other beats, and the limits."""
    complete = [t for t in trials if t["state"] == "COMPLETE"]

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, key, unit, label in (
            (panels[0], "params", 1e3, "parameters (thousands)"),
            (panels[1], "macs", 1e6, "MACs per segment (millions)"),
        ):  # fmt: skip
            for look in looks(trials):
                axes.plot([t[key] / unit for t in look.done], [t["log_loss"] for t in look.done], look.marker,
                          color=look.colour, label=look.name)  # fmt: skip
            front = front_of(complete, key)
            axes.step([t[key] / unit for t in front], [t["log_loss"] for t in front], where="post", color=SECOND,
                      label="front")  # fmt: skip
            for t in front:
                axes.annotate(f"{t['number']}", (t[key] / unit, t["log_loss"]), xytext=(5, 5),
                              textcoords="offset points")  # fmt: skip
            axes.plot([], [], color=INK, linestyle=":", label="limit")
            for limit in limits.get(key, ()):
                axes.axvline(limit / unit, color=INK, linestyle=":")
            axes.set_xscale("log")
            low, high = axes.get_xlim()
            axes.xaxis.set_major_locator(MaxNLocator(5) if high < 20 * low else LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.3g}")
            axes.set_xlabel(label)
            axes.grid()
        panels[0].set_ylabel("validation log loss (nats)")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)

    return svg(draw, "fronts", "Validation log loss against what a network costs", (10, 3.8))


def importance_bars(shares: Mapping[str, float]) -> str:
    """Which choices the losses depend on, the most important first."""
    names = [name for name in sorted(shares, key=lambda name: -shares[name]) if shares[name] >= LEAST_SHARE]

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.barh(range(len(names)), [100 * shares[name] for name in names], color=ACCENT, height=0.65)
        for y, name in enumerate(names):
            axes.text(100 * shares[name], y, f" {100 * shares[name]:.0f}", va="center")
        axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("share of the variance of the loss (%)")
        axes.grid(axis="x")

    return svg(draw, "importance", "Importance of each choice", (10, 0.9 + 0.3 * len(names)))


def parallel(trials: Sequence[Record], rows: Sequence[str]) -> str:
    """One line per finished trial through its choices `rows`, its cost and its loss; the best are dark and on top."""
    shown = sorted((t for t in trials if t["state"] == "COMPLETE"), key=lambda t: -t["log_loss"])
    axes_of = {row: categories([t["choices"].get(row) for t in shown]) for row in rows}
    numbers = {"params": ("thousand\nparameters", 1e3), "macs": ("MMACs", 1e6), "log_loss": ("log loss", 1.0)}

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        heights: dict[str, list[float]] = {}
        for x, (row, names) in enumerate(axes_of.items()):
            places = {name: (i + 0.5) / len(names) for i, name in enumerate(names)}
            heights[row] = [places[str(t["choices"].get(row, "–"))] for t in shown]
            for name, y in places.items():
                axes.text(x - 0.06, y, name, ha="right", va="center", fontsize=9, bbox=BEHIND_TEXT, zorder=5)
        for x, (key, (_, unit)) in enumerate(numbers.items(), start=len(axes_of)):
            values = np.array([t[key] / unit for t in shown])
            low, high = float(values.min()), float(values.max())
            heights[key] = list((values - low) / (high - low) if high > low else np.full(len(values), 0.5))
            for y, value in ((0.0, low), (1.0, high)):
                axes.text(x + 0.06, y, f"{value:,.3g}", va="center", fontsize=9, bbox=BEHIND_TEXT, zorder=5)
        for index in range(len(shown)):
            share = (index + 1) / len(shown)
            shift = 0.02 * ((index * 7919) % 13 / 6 - 1)  # lines through one value, side by side
            ys = [heights[key][index] + (shift if key in axes_of else 0) for key in heights]
            axes.plot(range(len(ys)), ys, color=LOSSES(0.15 + 0.85 * share), linewidth=0.8 + 1.6 * share**4, alpha=0.85)
        for x in range(len(heights)):
            axes.axvline(x, color=LINE, linewidth=1)
        titles = [row.replace("_", "\n") for row in axes_of] + [title for title, _ in numbers.values()]
        axes.set_xticks(range(len(titles)), titles, fontsize=9)
        axes.set_xlim(-0.75, len(titles) - 0.4)
        axes.set_ylim(-0.05, 1.05)
        axes.set_yticks([])
        axes.tick_params(length=0)
        for side in ("left", "bottom"):
            axes.spines[side].set_visible(False)

    return svg(draw, "parallel", "Choices, cost and loss of each finished trial", (12, 4.8))


def categories(values: Sequence[Any]) -> list[str]:
    """Names of what was chosen, numbers by size; a trial whose other choices leave no such row has a dash."""
    found = {value for value in values if value is not None}
    ordered = sorted(found, key=lambda v: (isinstance(v, str), v))
    return [*(["–"] if None in values else []), *map(str, ordered)]
