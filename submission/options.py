"""Command line options of one system, which `--system` begins anew for the next."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from system.errors import ConfigError

if TYPE_CHECKING:
    from submission.packing.systems import SystemRequest

NEXT = "--system"


def named_run(text: str) -> tuple[str, Path]:
    """`split_5=runs/A` -> ("split_5", path); `runs/A` -> ("", path). A folder of that very name comes first."""
    part, equals, folder = text.partition("=")
    return (part, Path(folder)) if equals and "/" not in part and not Path(text).exists() else ("", Path(text))


def add_system_options(parser: argparse.ArgumentParser, run_help: str, required: bool = False) -> None:
    """--run, --backend, --label and --label-map of a system, and --system before those of the next."""
    group = parser.add_argument_group("of one system", f"after {NEXT}: of the next one, up to four")
    group.add_argument("--run", required=required, action="append", type=named_run, metavar="[PART=]R", help=run_help)
    group.add_argument("--backend", default="brevitas", help="which R/quant/BACKEND is meant (default brevitas)")
    group.add_argument("--label", help="submission label; default: from the corresponding author")
    group.add_argument("--label-map", type=Path, metavar="FILE.yaml", help="class of the run: class of the edition")
    group.add_argument(NEXT, action="store_true", help="the options that follow are those of the next system")


def system_requests(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, list[SystemRequest]]:
    """The options of the whole command, and those of each system. Without any --run there is no system.

    Raises ConfigError for a part that is given twice in one system.
    """
    groups: list[list[str]] = [[]]
    for word in argv:
        if word == NEXT:
            groups.append([])
        else:
            groups[-1].append(word)
    args = parser.parse_args(groups[0])
    further = argparse.ArgumentParser(prog=f"{parser.prog} ... {NEXT}", allow_abbrev=False)
    add_system_options(further, "a run of this system", required=True)
    systems = [args, *(further.parse_args(words) for words in groups[1:])]
    return args, [_request(system) for system in systems if system.run]


def _request(args: argparse.Namespace) -> SystemRequest:
    from submission.packing.systems import SystemRequest

    parts = [part for part, _ in args.run]
    if len(set(parts)) != len(parts):
        raise ConfigError(f"--run: the same part twice among {', '.join(part or 'R' for part in parts)}")
    return SystemRequest(dict(args.run), args.backend, args.label, args.label_map)
