"""Complexity reports as one HTML page that opens without a server: no script, no request, style and figure inside."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from submission.report import words
from submission.report.markdown import QUANTITIES
from system.page.template import environment

BARS = {"macs_exact": "MACs, exact", "bytes": "bytes"}  # key of a layer -> heading of its column in the figure
LONGEST = 240  # of a bar, in the figure's units


class Bars(NamedTuple):
    """One layer of the figure: its name, and for each of `BARS` the number and the length of the bar."""

    name: str
    numbers: tuple[int, ...]
    lengths: tuple[float, ...]


def page(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page, self-contained. `reports`: title -> content of one model's complexity.json."""
    found = environment(Path(__file__).parent)
    found.filters["size"] = words.size
    found.filters["breakable"] = lambda name: escape(name).replace(".", Markup(".<wbr>"))
    return found.get_template("page.html").render(
        reports=reports,
        bars_of=bars_of,
        headings=list(BARS.values()),
        longest=LONGEST,
        words=words,
        quantities=QUANTITIES,
    )


def bars_of(report: Mapping[str, Any]) -> list[Bars]:
    """The layers that compute or store something, in the order of running; bars are relative to the largest."""
    layers = [
        (layer.get("name") or layer["kind"], tuple(int(layer.get(key, 0)) for key in BARS))
        for layer in report.get("layers") or []
    ]
    shown = [(name, numbers) for name, numbers in layers if any(numbers)]
    largest = [max(1, *column) for column in zip(*(numbers for _, numbers in shown), strict=True)]
    return [
        Bars(name, numbers, tuple(round(LONGEST * n / most, 1) for n, most in zip(numbers, largest, strict=True)))
        for name, numbers in shown
    ]
