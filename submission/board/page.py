"""The board as one HTML page that opens without a server: no script, no request, figures and style inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from submission.board import sound_events
from submission.board.plots import cost_plot, difference_plot, interval_plot
from submission.board.resampling import SCORES
from submission.board.rules import QUANTITIES, Quantity
from system.page.template import environment
from system.scoring.sed_scores import COLLAR_SECONDS, LENGTH_SHARE

COSTS = ("params", "macs", "total_bytes")
GROUPS = {"class": "classes", "device": "devices", "city": "cities"}
MACRO = replace(QUANTITIES["accuracy"], label="macro accuracy")
LOWER = "where the accuracy is right of 0 and the loss left of it"
LOWER_OF_EVENTS = "where mAP and F1 are right of 0 and error rates left of it"


def page(boards: Sequence[Mapping[str, Any]], title: str, command: str, versions: str) -> str:
    """Boards of scenes, self-contained. `command` and `versions` tell where they come from."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            **_common(title, command, versions),
            boards=boards,
            scores=SCORES,
            quantities=QUANTITIES,
            plotted={"accuracy": MACRO, "log_loss": QUANTITIES["log_loss"]},
            compared=lambda board: _chosen(
                QUANTITIES, ("accuracy", "log_loss_macro" if board["rule"]["score"] == "log_loss_macro" else "log_loss")
            ),
            ahead=LOWER,
            groups=GROUPS,
            quality=quality,
            worst=worst_loss,
        )
    )


def events_page(board: Mapping[str, Any], title: str, command: str, versions: str) -> str:
    """A board of sound events, likewise."""
    told = _chosen(sound_events.QUANTITIES, [score for score in sound_events.SCORES if score in board["systems"][0]])
    return (
        _environment()
        .get_template("events_page.html")
        .render(
            **_common(title, command, versions),
            board=board,
            scores=tuple(told),
            quantities={**QUANTITIES, **told},
            plotted=told,
            compared=lambda _: told,
            ahead=LOWER_OF_EVENTS,
            collar=COLLAR_SECONDS,
            share=f"{LENGTH_SHARE:.0%}",
        )
    )


def _common(title: str, command: str, versions: str) -> dict[str, Any]:
    """What both pages show."""
    return {
        "title": title,
        "command": command,
        "versions": versions,
        "costs": COSTS,
        "interval_plot": _figure(interval_plot),
        "cost_plot": _figure(cost_plot),
        "difference_plot": _figure(difference_plot),
    }


def _chosen(quantities: Mapping[str, Quantity], scores: Sequence[str]) -> dict[str, Quantity]:
    return {score: quantities[score] for score in scores}


def quality(score: str, value: float, worst: float) -> float:
    """How good a score is, from 0 to 1, for the shade of its cell; `worst` is the largest loss beside it."""
    return value if score == "accuracy" else 1 - value / worst if worst else 1.0


def worst_loss(board: Mapping[str, Any], groups: Sequence[str]) -> float:
    """The largest log loss of any system in any of these groups."""
    return max(
        values["log_loss"] for row in board["systems"] for by in groups for values in row["by"].get(by, {}).values()
    )


def _figure(plot: Any) -> Any:
    """A plot whose SVG the template takes as it is; the plots escape the names they show."""

    def drawn(*arguments: Any) -> Markup | None:
        text = plot(*arguments)
        return None if text is None else Markup(text)

    return drawn


def _environment() -> Environment:
    found = environment(Path(__file__).parent)
    found.filters["breakable"] = _breakable
    found.filters["signed"] = _signed
    found.filters["several"] = lambda n, unit: f"{n:,} {unit}" + ("" if n == 1 else "s")
    return found


def _breakable(name: str) -> Markup:
    """A name that may break after each `_` and `/`."""
    text = escape(name)
    for mark in "_/":
        text = text.replace(mark, Markup(f"{mark}<wbr>"))
    return text


def _signed(quantity: Quantity, value: float) -> str:
    return f"{quantity.factor * value:+.{quantity.digits}f}"
