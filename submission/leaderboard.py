#!/usr/bin/env python3
"""Rank runs on their test folds: python submission/leaderboard.py runs/A runs/B ...

Each run is shown by its INT8 model's scores where it has them, else by its float model's, with 95 % intervals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import RunError, guarded

RANKINGS = {"log_loss": False, "accuracy": True}  # score -> whether higher is better
WIDTH = 160  # columns of the table where there is no terminal


@dataclass(frozen=True)
class Entry:
    """One line of the table."""

    run: Path
    form: str  # float, or INT8 and the backend
    scores: dict[str, Any]
    complexity: dict[str, Any]


def load_entry(run: Path, backend: str | None = None) -> Entry:
    """The scores of a run: of `backend`, or of its best INT8 model by log loss, or of its float model.

    Raises RunError if the run has none.
    """
    from system.files import read_json

    quant = sorted(run.glob("quant/*/scores.json")) if backend is None else [run / "quant" / backend / "scores.json"]
    found = []
    for path in quant or [run / "best" / "scores.json"]:
        made_by = "python quant/run.py qat" if quant else "python search/run.py (or system/run.py train)"
        scores = read_json(path, made_by)
        if not isinstance(scores, dict) or not all(isinstance(scores.get(key), int | float) for key in RANKINGS):
            raise RunError(f"{path}: expected the numbers {' and '.join(RANKINGS)}; {made_by} writes it anew")
        complexity = read_json(path.with_name("complexity.json"), made_by)
        found.append(Entry(run, f"INT8 {path.parent.name}" if quant else "float", scores, complexity))
    return min(found, key=lambda entry: entry.scores["log_loss"])


def ranked(entries: Sequence[Entry], by: str = "log_loss") -> list[Entry]:
    """The best first."""
    return sorted(entries, key=lambda entry: entry.scores[by], reverse=RANKINGS[by])


def show(entries: Sequence[Entry]) -> None:
    """Print the table on the terminal."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right")
    for name in ("run", "model"):
        table.add_column(name, overflow="fold")
    for name in ("accuracy %", "log loss", "n", "params", "MACs", "bytes"):
        table.add_column(name, justify="right", no_wrap=True)
    for place, entry in enumerate(entries, 1):
        interval = entry.scores.get("interval", {})
        table.add_row(
            str(place),
            str(entry.run),
            entry.form,
            with_interval(entry.scores["accuracy"], interval.get("accuracy"), 100, 1),
            with_interval(entry.scores["log_loss"], interval.get("log_loss"), 1, 3),
            *(
                f"{value:,}" if isinstance(value, int) else "-"
                for value in (
                    entry.scores.get("n"),
                    *(entry.complexity.get(key) for key in ("params", "macs", "total_bytes")),
                )
            ),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    if len({(entry.scores.get("n"), tuple(sorted(entry.scores.get("class_wise", {})))) for entry in entries}) > 1:
        print("note: these runs were not tested on the same segments; their ranks do not compare", file=sys.stderr)


def with_interval(value: float, interval: Sequence[float] | None, factor: float, digits: int) -> str:
    """`79.3 [75.1, 83.0]`"""
    text = f"{factor * value:.{digits}f}"
    return f"{text} [{factor * interval[0]:.{digits}f}, {factor * interval[1]:.{digits}f}]" if interval else text


def main(argv: Sequence[str]) -> int:
    from system.options import add_common_options

    parser = argparse.ArgumentParser(prog="submission/leaderboard.py", description="Rank runs by their test scores.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="R", help="run folders")
    parser.add_argument("--by", choices=tuple(RANKINGS), default="log_loss", help="what ranks (default log_loss)")
    parser.add_argument("--backend", help="only this R/quant/BACKEND; default: the best INT8 model, else float")
    add_common_options(parser)
    args = parser.parse_args(argv)
    show(ranked([load_entry(run, args.backend) for run in args.runs], args.by))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
