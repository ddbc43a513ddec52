"""What ablation.py found as a table and as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Results = Mapping[str, Mapping[str, Any]]  # name of a case -> its scores, and how they differ from plain's or all's
SCORES = {"accuracy": "macro accuracy of segments", "log_loss": "log loss (nats)"}


def markdown(results: Results, names: Sequence[str]) -> str:
    rows = [["none, or all", *(_score(results[base][key]) for base in ("plain", "all") for key in SCORES)]]
    for name in names:
        both = (results[f"plain + {name}"], results[f"all - {name}"])
        rows.append([name, *(_difference(case[key]) for case in both for key in SCORES)])
    header = ["trick", "added alone: accuracy", "log loss", "taken out of all: accuracy", "log loss"]
    return "".join(f"| {' | '.join(row)} |\n" for row in (header, ["---"] * len(header), *rows))


def _score(found: Mapping[str, Any]) -> str:
    low, high = found["interval"]
    return f"{found['value']:.3f} [{low:.3f}, {high:.3f}]"


def _difference(found: Mapping[str, Any]) -> str:
    low, high = found["difference_interval"]
    return f"{found['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"


def plot(results: Results, names: Sequence[str], title: str, path: Path) -> None:
    """What each trick brings, alone and on top of all others, with the intervals of the differences."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.36 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(SCORES), sharey=True)
    for axes, (key, label) in zip(panels, SCORES.items(), strict=True):
        for case, sign, aside, color in (("plain + {}", 1, -0.15, "C0"), ("all - {}", -1, 0.15, "C1")):
            found = [results[case.format(name)][key] for name in names]
            middle = [sign * each["difference"] for each in found]
            ends = [sorted(sign * end for end in each["difference_interval"]) for each in found]
            around = [[value - low for value, (low, _) in zip(middle, ends, strict=True)],
                      [high - value for value, (_, high) in zip(middle, ends, strict=True)]]  # fmt: skip
            axes.errorbar(middle, [row + aside for row in range(len(names))], xerr=around, fmt="o", color=color,
                          capsize=2, label="added to none" if sign > 0 else "added to all others")  # fmt: skip
        axes.axvline(0, color="0.5", linewidth=0.8)
        axes.set_xlabel(f"change of {label}: {'right' if key == 'accuracy' else 'left'} is better")
        axes.grid(alpha=0.3)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=8)
    figure.suptitle(title, fontsize=10, x=0.02, ha="left")
    figure.savefig(path, dpi=130)
