"""The rows of accuracy.py as a table and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    groups = sorted({name for row in rows for name in row["groups"]})
    lines = [
        "| network | form | parameters | MMACs | accuracy [95 %] | less the reference's | log loss [95 %] "
        "| less the reference's | clip accuracy | " + " | ".join(groups) + " | seconds a fold |",
        "|---|---|---:|---:|---|---|---|---|---:|" + "---:|" * (len(groups) + 1),
    ]
    for one in rows:
        millions = [macs / 1e6 for macs in one["macs"]]
        cells = [one["network"], one["form"], _range(one["params"], "{:,}"), _range(millions, "{:.2f}")]
        for key in ("accuracy", "log_loss"):
            (low, high), (least, most) = one[key]["interval"], one[key]["difference_interval"]
            cells.append(f"{one[key]['value']:.3f} [{low:.3f}, {high:.3f}]")
            cells.append(f"{one[key]['difference']:+.3f} [{least:+.3f}, {most:+.3f}]")
        cells += [_number(one["clip_accuracy"]), *(_number(one["groups"].get(name)) for name in groups)]
        lines.append("| " + " | ".join([*cells, f"{one['seconds']:.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _range(values: Sequence[float], form: str) -> str:
    """One number, or the least and the most of networks that were searched in each fold."""
    return " to ".join(form.format(value) for value in sorted({min(values), max(values)}))


def plot(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Accuracy against MACs; hollow float, filled INT8, bars the bootstrap over clips."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names, named = list(dict.fromkeys(one["network"] for one in rows)), set[str]()
    for one in rows:
        number, value = names.index(one["network"]), one["accuracy"]["value"]
        low, high = one["accuracy"]["interval"]
        integer = one["form"] == "INT8"
        aside = number - (len(names) - 1) / 2 + (0.2 if integer else -0.2)  # or equal costs would hide each other
        x = max(one["macs"]) / 1e6 * 1.02**aside
        axes.errorbar(x, value, [[value - low], [high - value]], marker="o", color=f"C{number}", capsize=2,
                      markerfacecolor=f"C{number}" if integer else "none",
                      label=None if one["network"] in named else one["network"])  # fmt: skip
        named.add(one["network"])
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(StrMethodFormatter("{x:g}"))
    low, high = (pick(max(one["macs"]) for one in rows) / 1e6 for pick in (min, max))
    axes.set_xlim(low / 1.2, high * 1.2)
    axes.set_xlabel("million MACs, deployed, moved aside by a few per cent (hollow: float, filled: INT8)")
    axes.set_ylabel("macro accuracy of segments")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)
