"""Boards as tables on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 170  # columns of the table where there is no terminal
COSTS = {"params": "params", "macs": "MACs", "total_bytes": "bytes"}  # quantity -> column
PLURALS = {"known device": "devices", "known city": "cities"}


def show(board: Mapping[str, Any]) -> None:
    """Print a board on the terminal."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    console = _console()
    points, extra = board["rule"]["points"], board["rule"]["score"] is None
    table = _systems([*([points] if extra else []), "accuracy %", "log loss", "macro log loss"])
    for row in board["systems"]:
        interval = row["interval"]["bootstrap"]
        table.add_row(
            str(row["place"] or "-"),
            Text(row["name"]),
            Text(row["form"]),
            *([f"{row['points']:.3f}" if row["points"] is not None else "-"] if extra else []),
            with_interval(row["accuracy"], interval["accuracy"], 100, 1),
            with_interval(row["log_loss"], interval["log_loss"], 1, 3),
            f"{row['log_loss_macro']:.3f}",
            *_costs(row),
        )
    console.print(
        f"{board['n']:,} segments of {board['clips']:,} clips, {len(board['classes'])} classes; ranked "
        f"{board['rule']['text']}; 95 % intervals by bootstrap over {counted(board['sources'], board['unit'])}",
        markup=False,
        soft_wrap=True,
    )
    console.print(table)
    if known := [(by, name) for by, names in board["groups"].items() if by.startswith("known") for name in names]:
        table = Table(box=SIMPLE, padding=(0, 1, 0, 0), title="accuracy %", title_justify="left")
        table.add_column("system", overflow="fold")
        for by, name in known:
            table.add_column(f"{name} {PLURALS[by]}", justify="right", no_wrap=True)
        for row in board["systems"]:
            shares = [f"{100 * row['by'][by][name]['accuracy']:.1f}" for by, name in known]
            table.add_row(Text(row["name"]), *shares)
        console.print(table)
    for pair in board["neighbours"]:
        told = ", ".join(
            f"{name} {with_interval(values['difference'], values['interval'], factor, digits, '+')} {unit} "
            f"(Holm's p = {values['p_holm']:.3f})"
            for name, values, factor, digits, unit in (
                ("accuracy", pair["accuracy"], 100, 1, "points"),
                ("log loss", pair["log_loss"], 1, 3, "nats"),
            )
        )
        console.print(f"{pair['better']} - {pair['next']}: {told}", markup=False, soft_wrap=True)
    for note in [*(f"unverified: {text}" for text in board["rule"]["unverified"]), *board["notes"]]:
        print(f"note: {note}", file=sys.stderr)


def show_events(board: Mapping[str, Any]) -> None:
    """Print a board of sound events on the terminal."""
    from rich.text import Text

    from submission.board.sound_events import QUANTITIES

    console = _console()
    told = {score: quantity for score, quantity in QUANTITIES.items() if score in board["systems"][0]}
    table = _systems([quantity.label for quantity in told.values()])
    for row in board["systems"]:
        table.add_row(
            str(row["place"]),
            Text(row["name"]),
            Text(row["form"]),
            *(_defined(row[score], row["interval"]["bootstrap"][score]) for score in told),
            *_costs(row),
        )
    recordings = counted(board["clips"], "recording")
    console.print(
        f"{recordings}, {len(board['classes'])} classes of sound events; ranked {board['rule']['text']}; 95 % "
        f"intervals by bootstrap over {counted(board['sources'], board['unit'])}",
        markup=False,
        soft_wrap=True,
    )
    console.print(table)
    for pair in board["neighbours"]:
        differences = ", ".join(
            f"{quantity.label} {_defined(pair[score]['difference'], pair[score]['interval'], '+')} "
            f"(Holm's p = {pair[score]['p_holm']:.3f})"
            for score, quantity in told.items()
        )
        console.print(f"{pair['better']} - {pair['next']}: {differences}", markup=False, soft_wrap=True)


def _systems(scores: Sequence[str]) -> Table:
    """A table with a line for each system, still empty."""
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right")
    for name in ("system", "model"):
        table.add_column(name, overflow="fold")
    for name in (*scores, *COSTS.values()):
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _costs(row: Mapping[str, Any]) -> list[str]:
    values = (row["values"].get(key) for key in COSTS)
    return ["-" if value is None else f"{value:,.0f}" for value in values]


def _console() -> Console:
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def _defined(value: float | None, interval: Sequence[float] | None, sign: str = "") -> str:
    return "-" if value is None else with_interval(value, interval, 1, 3, sign)


def with_interval(value: float, interval: Sequence[float] | None, factor: float, digits: int, sign: str = "") -> str:
    """`79.3 [75.1, 83.0]`"""
    low_high = ", ".join(f"{factor * edge:{sign}.{digits}f}" for edge in interval or ())
    return f"{factor * value:{sign}.{digits}f}" + (f" [{low_high}]" if interval else "")


def counted(number: int, unit: str) -> str:
    """`60 recording locations`"""
    return f"{number:,} {unit}" + ("" if number == 1 else "s")
