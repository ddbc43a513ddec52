#!/usr/bin/env python3
"""Rank runs and foreign outputs on their test folds: python submission/leaderboard.py runs/A runs/B output.csv ..."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import guarded

OF_SCENES = ("weights", "reference", "measured", "common")  # options that sound events have not
TASKS = {False: "one class for each recording", True: "sound events"}
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
    add("--by", metavar="SCORE",
        help="rank by accuracy, log_loss (default) or log_loss_macro; of sound events by mAP (default), "
        "segment_based.f1, segment_based.error_rate, event_based.f1 or event_based.error_rate")  # fmt: skip
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
    from submission.board.sound_events import are_events, event_board
    from submission.board.systems import Item, load_systems, read_measured
    from submission.board.terminal import show, show_events
    from submission.formats import find
    from system.errors import ConfigError

    if args.edition and args.by:
        raise ConfigError("--edition and --by: give one of them; an edition has its own ranking")
    edition = find(args.edition)[0] if args.edition else None
    items = [Item.parse(text) for text in args.systems]
    events = are_events(items)
    if edition and edition.events != events:
        raise ConfigError(f"--edition {edition.key}: is of {TASKS[edition.events]}, these runs are of {TASKS[events]}")
    if events:
        if given := [name for name in OF_SCENES if getattr(args, name)]:
            raise ConfigError(f"--{given[0].rstrip('s')}: is for scenes, and these runs are on sound events")
        found = [event_board(items, args.by, args.seed or 0, args.backend, args.data_root)]
    else:
        rule = with_weights(rule_of(edition) if edition else rule_by(args.by or "log_loss"), args.weights)
        systems = load_systems(items, args.backend, args.reference, args.common)
        measured = read_measured(args.measured, systems, list(QUANTITIES)) if args.measured else {}
        found = boards(systems, rule, measured, args.seed or 0, args.common, args.data_root)
    if args.json:
        print(json.dumps(found, indent=2))
    else:
        for board in found:
            (show_events if events else show)(board)
    if args.html:
        title = f"Leaderboard: {edition.title}" if edition else "Leaderboard"
        write_page(args.html, found, title, shlex.join(["python", "submission/leaderboard.py", *argv]), events)
    return 0


def write_page(path: Path, found: Sequence[Mapping[str, Any]], title: str, command: str, events: bool) -> None:
    from submission.board.page import events_page, page
    from system import __version__
    from system.files import write_text
    from system.runs import git_commit

    versions = f"TinyScene {__version__}, commit {git_commit()}"
    text = events_page(found[0], title, command, versions) if events else page(found, title, command, versions)
    write_text(path, text)
    print(f"{path}: everything on one page", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(guarded(main))
