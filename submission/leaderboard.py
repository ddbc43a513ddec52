#!/usr/bin/env python3
"""Rank runs and foreign outputs on their test folds: python submission/leaderboard.py runs/A runs/B output.csv ..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import guarded

WIDTH = 170  # columns of the table where there is no terminal
PLURALS = {"known device": "devices", "known city": "cities"}
ARGUMENTS = """\
Each R is a run folder, or a file: predictions.csv as a run holds it, or output.csv as DCASE asks for it, whose
true labels come from the runs or from --reference. A run is shown by each of its INT8 models, or by its float
model if it has none. NAME:R names a system; the same NAME again adds another fold of the data set to it, and
NAME:SPLIT=R one of the trainings that an edition ranks together (NAME:split_5=runs/A5 ...).
"""


def options() -> argparse.ArgumentParser:
    from system.editions import EDITIONS
    from system.options import add_common_options

    parser = argparse.ArgumentParser(
        prog="submission/leaderboard.py",
        description=__doc__,
        epilog=ARGUMENTS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("systems", nargs="+", metavar="R", help="run folder, predictions.csv or output.csv; see below")
    add("--edition", metavar="E", help=f"rank by the rule of this edition ({', '.join(EDITIONS)})")
    add("--by", metavar="SCORE", help="rank by accuracy, log_loss (default) or log_loss_macro")
    add("--weight", dest="weights", action="append", default=[], metavar="SCORE=W",
        help="another weight in the edition's ranking; may be repeated")  # fmt: skip
    add("--html", type=Path, metavar="FILE", help="write everything as one page that needs no server")
    add("--json", action="store_true", help="print everything as JSON instead of the table")
    add("--reference", type=Path, metavar="FILE", help="true labels: a predictions.csv, meta.csv or DCASE list")
    add("--measured", type=Path, metavar="FILE.yaml", help="R: {total_bytes: ..., macs: ...} of what no run tells")
    add("--common", action="store_true", help="rank on the segments that all have answered, whatever else they did")
    add("--backend", metavar="B", help="only this R/quant/B (default: every INT8 model)")
    add("--data-root", metavar="DIR", help="folder of the data set, if it has moved since training")
    add_common_options(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    args = options().parse_args(argv)
    from submission.board.compare import boards
    from submission.board.rules import QUANTITIES, rule_by, rule_of, with_weights
    from submission.board.systems import Item, load_systems, read_measured
    from submission.formats import find
    from system.errors import ConfigError

    if args.edition and args.by:
        raise ConfigError("--edition and --by: give one of them; an edition has its own ranking")
    edition = find(args.edition)[0] if args.edition else None
    rule = with_weights(rule_of(edition) if edition else rule_by(args.by or "log_loss"), args.weights)
    systems = load_systems([Item.parse(text) for text in args.systems], args.backend, args.reference, args.common)
    measured = read_measured(args.measured, systems, list(QUANTITIES)) if args.measured else {}
    found = boards(systems, rule, measured, args.seed or 0, args.common, args.data_root)
    if args.json:
        import json

        print(json.dumps(found, indent=2))
    else:
        for board in found:
            show(board)
    if args.html:
        import shlex

        from submission.board.page import page
        from system import __version__
        from system.files import write_text
        from system.runs import git_commit

        title = f"Leaderboard: {edition.title}" if edition else "Leaderboard"
        command = shlex.join(["python", "submission/leaderboard.py", *argv])
        write_text(args.html, page(found, title, command, f"TinyScene {__version__}, commit {git_commit()}"))
        print(f"{args.html}: everything on one page", file=sys.stderr)
    return 0


def show(board: Mapping[str, Any]) -> None:
    """Print a board on the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    points, extra = board["rule"]["points"], board["rule"]["score"] is None
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right")
    for name in ("system", "model"):
        table.add_column(name, overflow="fold")
    for name in (*([points] if extra else []), "accuracy %", "log loss", "macro log loss", "params", "MACs", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in board["systems"]:
        interval = row["interval"]["bootstrap"]
        costs = [row["values"].get(key) for key in ("params", "macs", "total_bytes")]
        table.add_row(
            str(row["place"] or "-"),
            Text(row["name"]),
            Text(row["form"]),
            *([f"{row['points']:.3f}" if row["points"] is not None else "-"] if extra else []),
            with_interval(row["accuracy"], interval["accuracy"], 100, 1),
            with_interval(row["log_loss"], interval["log_loss"], 1, 3),
            f"{row['log_loss_macro']:.3f}",
            *("-" if value is None else f"{value:,.0f}" for value in costs),
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


def with_interval(value: float, interval: Sequence[float] | None, factor: float, digits: int, sign: str = "") -> str:
    """`79.3 [75.1, 83.0]`"""
    low_high = ", ".join(f"{factor * edge:{sign}.{digits}f}" for edge in interval or ())
    return f"{factor * value:{sign}.{digits}f}" + (f" [{low_high}]" if interval else "")


def counted(number: int, unit: str) -> str:
    """`60 recording locations`"""
    return f"{number:,} {unit}" + ("" if number == 1 else "s")


if __name__ == "__main__":
    sys.exit(guarded(main))
