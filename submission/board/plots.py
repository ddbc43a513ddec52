"""Figures of the leaderboard's page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from submission.board.rules import Quantity
from system.page.figure import ACCENT, INK, SECOND, svg

Values = Mapping[str, Any]
WIDTH = 10.0  # inches
ROW = 0.42  # inches of each system's line
ABREAST = 3  # panels beside each other at most
WIDE = 10  # largest to smallest cost, from which on their axis is logarithmic
LONGEST = 34  # characters of a name beside an axis


def short(name: str) -> str:
    """A name that fits beside an axis: its end tells more than its beginning."""
    return name if len(name) <= LONGEST else "…" + name[-LONGEST + 1 :]


def _numbered(rows: Sequence[Values]) -> list[str]:
    return [f"{row['place'] or '–'}  {short(row['name'])}" for row in rows]


def interval_plot(rows: Sequence[Values], quantities: Mapping[str, Quantity], prefix: str) -> str:
    """Some scores of every system with all their intervals."""

    def draw(figure: Figure) -> str:
        panels = _panels(figure, len(quantities))
        for panel, (score, quantity) in zip(panels, quantities.items(), strict=True):
            for y, row in enumerate(rows):
                if row[score] is None:
                    continue
                if "jackknife" in row["interval"]:
                    _interval(panel, y + 0.14, row["interval"]["jackknife"][score], quantity.factor, SECOND, 1.5)
                _interval(panel, y, row["interval"]["bootstrap"][score], quantity.factor, ACCENT, 3.5)
                panel.plot(quantity.factor * row[score], y, "o", color=ACCENT, markersize=7)
            panel.set_xlabel(quantity.headed)
            panel.grid(axis="x")
        panels[0].set_yticks(range(len(rows)), _numbered(rows))
        panels[0].set_ylim(len(rows) - 0.5, -0.5)
        panels[-1].plot(
            [], [], color=ACCENT, linewidth=3.5, marker="o", markersize=7, label="score, bootstrap interval"
        )
        if any("jackknife" in row["interval"] for row in rows):
            panels[-1].plot([], [], color=SECOND, linewidth=1.5, label="jackknife interval")
        figure.legend(loc="outside upper right", ncols=2)
        return "; ".join(
            f"{row['name']}: "
            + ", ".join(quantities[score].told(row[score]) for score in quantities if row[score] is not None)
            for row in rows
        )

    title = "Scores of each system with 95 % intervals: " + ", ".join(each.label for each in quantities.values())
    return svg(draw, prefix, title, (WIDTH, _rows(quantities) * (1.3 + ROW * len(rows))))


def _panels(figure: Figure, count: int) -> list[Axes]:
    """So many panels with the systems' names on the left, at most `ABREAST` in a row."""
    columns = min(count, ABREAST)
    grid = figure.subplots(-(-count // columns), columns, sharey=True, squeeze=False)
    for panel in grid.flat:
        panel.xaxis.set_major_locator(MaxNLocator(12 // columns))  # or numbers would touch
    for unused in grid.flat[count:]:
        unused.set_visible(False)
    return list(grid.flat[:count])


def _rows(quantities: Collection[str]) -> int:
    return -(-len(quantities) // ABREAST)


def _interval(
    panel: Axes, y: float, interval: Sequence[float] | None, factor: float, colour: str, width: float
) -> None:
    if interval:
        panel.hlines(y, factor * interval[0], factor * interval[1], color=colour, linewidth=width)


def cost_plot(rows: Sequence[Values], score: str, quantity: Quantity, prefix: str) -> str | None:
    """A score against size and MACs; None if fewer than two systems tell one of them."""
    wanted = (("total_bytes", 1e3, "model size (kB, 1 kB = 1000 bytes)"), ("macs", 1e6, "MACs per segment (millions)"))
    told = [row for row in rows if row[score] is not None]
    panels = [(key, unit, label) for key, unit, label in wanted if sum(key in row["values"] for row in told) > 1]
    if not panels:
        return None

    def draw(figure: Figure) -> str:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        words = []
        for panel, (key, unit, label) in zip(axes, panels, strict=True):
            shown = [row for row in told if key in row["values"]]
            costs = [row["values"][key] / unit for row in shown]
            heights = [quantity.factor * row[score] for row in shown]
            for row, x, y in zip(shown, costs, heights, strict=True):
                interval = row["interval"]["bootstrap"][score]
                if interval:
                    low, high = (quantity.factor * edge for edge in interval)
                    panel.vlines(x, low, high, color=ACCENT, linewidth=1.2)
                panel.plot(x, y, "o", color=ACCENT, markersize=7)
                words.append(f"{row['name']}: {x:,.2f} in {label}, {quantity.told(row[score])}")
            if max(costs) > WIDE * min(costs):
                panel.set_xscale("log")
                panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                panel.xaxis.set_minor_locator(NullLocator())
            else:
                panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.4g}")
            panel.set_xlabel(label)
            panel.grid()
            _number(panel, [str(row["place"] or "–") for row in shown], list(zip(costs, heights, strict=True)))
        axes[0].set_ylabel(quantity.headed)
        return "; ".join(words)

    return svg(draw, prefix, f"Cost and {quantity.label} of each system; numbers are ranks", (WIDTH, 3.8))


def _number(panel: Axes, numbers: Sequence[str], points: Sequence[tuple[float, float]]) -> None:
    """Write each point's number to its right, or to its left where another point stands close on the right."""
    panel.autoscale_view()  # else the limits are set only when it is drawn
    places = panel.transAxes.inverted().transform(panel.transData.transform(points))  # shares of the panel
    for number, point, (x, y) in zip(numbers, points, places, strict=True):
        crowded = any(0 < other - x < 0.06 and abs(height - y) < 0.12 for other, height in places)
        offset, side = ((-7, 4), "right") if crowded else ((7, 4), "left")
        panel.annotate(number, point, xytext=offset, textcoords="offset points", ha=side, fontweight="bold")


def difference_plot(pairs: Sequence[Values], quantities: Mapping[str, Quantity], prefix: str) -> str:
    """What each system is ahead of the next one in some scores, with intervals."""

    def draw(figure: Figure) -> str:
        panels, words = _panels(figure, len(quantities)), []
        for panel, (score, quantity) in zip(panels, quantities.items(), strict=True):
            unit = "points" if quantity.unit == "%" else quantity.unit
            panel.axvline(0, color=INK, linewidth=1)
            for y, pair in enumerate(pairs):
                values = pair[score]
                if values["difference"] is None:
                    continue
                sure = values["p_holm"] < 0.05
                _interval(panel, y, values["interval"], quantity.factor, ACCENT, 3)
                panel.plot(
                    quantity.factor * values["difference"], y, "o" if sure else "D", color=ACCENT, markersize=8,
                    markerfacecolor=ACCENT if sure else "none", markeredgewidth=1.8,
                )  # fmt: skip
                apart = f"{quantity.label} {quantity.factor * values['difference']:+.3f} {unit}".rstrip()
                words.append(f"{pair['better']} minus {pair['next']}: {apart}")
            panel.set_xlabel(f"difference in {quantity.label}" + (f" ({unit})" if unit else ""))
            panel.grid(axis="x")
        panels[0].set_yticks(range(len(pairs)), [f"{short(p['better'])}\n– {short(p['next'])}" for p in pairs])
        panels[0].set_ylim(len(pairs) - 0.5, -0.5)
        return "; ".join(words)

    height = _rows(quantities) * (1.1 + 1.5 * ROW * len(pairs))
    return svg(draw, prefix, "Differences between neighbours in the ranking", (WIDTH, height))
