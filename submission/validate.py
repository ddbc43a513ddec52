#!/usr/bin/env python3
"""Check a submission package: python submission/validate.py FILE.zip --edition E [--eval-root DIR] [--run R]

Exit code 0: no fault; 1: faults, each printed with its file and line; 2: the file cannot be read.

Stricter than the official validators: limits are held, the label is the most probable class, probabilities sum to 1,
every row of the list is there once, numbers do not contradict each other, and the zip itself is safe. One pass over
each table. With the runs it was packed from, meta.yaml, costs, accuracy and weights must be what was measured.
A draft is a fault, except with --draft and in edition `own`, which nobody hands in.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import guarded

if TYPE_CHECKING:
    from submission.archive import Members
    from submission.checks.fault import Fault
    from submission.evaluation_set import Listed
    from submission.packing.systems import SystemRequest
    from submission.schema import PackageFormat
    from system.editions import Edition

SHOWN = 1000  # faults; the rest is counted


def validate(
    zip_path: Path,
    edition: str,
    eval_root: Path | None = None,
    draft: bool = False,
    runs: Sequence[SystemRequest] = (),
) -> list[Fault]:
    """All faults of a package; an empty list if it may be handed in.

    The rows must be those of `eval_root`'s list, or else the official number of them, numbered as known; a `draft`
    may have other rows, placeholders and the draft's mark. `runs`: those of each system in the order of the labels.
    Raises FormatError if `zip_path` is no zip file, ConfigError for an unknown edition, DataError for `eval_root`,
    RunError for `runs`.
    """
    from submission.evaluation_set import listed
    from submission.formats import find

    rules, layout = find(edition)
    return package_faults(Path(zip_path), rules, layout, listed(eval_root, rules), draft, runs)


def package_faults(
    zip_path: Path,
    rules: Edition,
    layout: PackageFormat,
    evaluation: Listed | None,
    draft: bool,
    runs: Sequence[SystemRequest] = (),
) -> list[Fault]:
    """`validate` with the edition and the evaluation set already read. Raises FormatError, RunError."""
    from submission.archive import opened_zip
    from submission.checks.fault import Fault
    from submission.checks.layout import is_report, label_faults, systems_in
    from submission.schema import DRAFT_MARK

    expected = _expected_names(rules, evaluation)
    with opened_zip(zip_path) as (members, faults):
        marked = DRAFT_MARK in members
        draft = draft or (marked and rules.classes is None)
        if marked and not draft:
            faults.append(Fault(DRAFT_MARK, None, "this package is a draft, not to be handed in"))
        names = [name for name in members if name != DRAFT_MARK]
        systems, strays = systems_in(layout, names)
        faults += [*strays, *label_faults(layout, systems)]
        rows = None if draft and evaluation is None else expected
        for label, folder in systems.items():
            faults += _check_system(label, folder, members, layout, rules, rows, draft)
        for name in names:
            if is_report(layout, name) and (content := members.read(name)) is not None and content[:5] != b"%PDF-":
                faults.append(Fault(name, None, "is not a PDF file"))
        if runs:
            faults += _check_runs(systems, members, layout, rules, runs)
        members.read_rest()
        return list(dict.fromkeys(faults + members.faults))


def _expected_names(rules: Edition, evaluation: Listed | None) -> dict[str, None] | int | None:
    """The base names that a table must list, in order, or how many; None where the edition has no list."""
    if evaluation is not None:
        return dict.fromkeys(evaluation.names)
    if rules.evaluation_rows is not None:
        if not rules.evaluation_from_0:
            return rules.evaluation_rows
        return dict.fromkeys(rules.evaluation_names(rules.evaluation_rows))
    return None


def _check_system(
    label: str,
    folder: str,
    members: Members,
    layout: PackageFormat,
    rules: Edition,
    expected: dict[str, None] | int | None,
    draft: bool,
) -> list[Fault]:
    from submission.checks.agreement import check_agreement
    from submission.checks.code import check_code
    from submission.checks.event_list import check_event_list, decided
    from submission.checks.fault import Fault
    from submission.checks.meta import check_meta, read_meta
    from submission.checks.table import check_table, limited
    from submission.schema import EVENT_LIST

    faults: list[Fault] = []
    meta_file = f"{folder}/{layout.meta_name.format(label=label)}"
    outputs = {part: f"{folder}/{name.format(label=label)}" for part, name in layout.outputs.items()}
    faults += [Fault(name, None, "is missing") for name in (meta_file, *outputs.values()) if name not in members]
    classes, devices = rules.classes, rules.devices
    content = members.read(meta_file) if meta_file in members else None
    if content is not None:
        document, unreadable = read_meta(meta_file, content)
        faults += unreadable
        if document is not None:
            task = document.value.get("task")
            told = task if isinstance(task, dict) else {}
            classes = rules.classes or _names(told.get("classes"))
            devices = devices if devices is not None else _names(told.get("devices")) or ()
            faults += check_meta(meta_file, document, label, layout, rules, classes or (), devices, draft)
            faults += check_agreement(meta_file, document, label, members, layout)
            if classes is None:
                faults.append(Fault(meta_file, 1, "task.classes: expected a list of different names"))
    heard = None
    for part, name in outputs.items():
        if name not in members or classes is None or (table := members.read(name)) is None:
            continue
        if part != EVENT_LIST:
            faults += limited(name, check_table(name, table, layout, classes, expected, rules.evaluation_pattern))
            heard = decided(table, layout) if layout.events else None
        elif heard is not None:
            faults += limited(name, check_event_list(name, table, layout, classes, heard))
    return faults + check_code(label, members, layout, rules, classes or ())


def _check_runs(
    systems: dict[str, str],
    members: Members,
    layout: PackageFormat,
    rules: Edition,
    runs: Sequence[SystemRequest],
) -> list[Fault]:
    """Faults where a meta.yaml, or another file of numbers, tells other ones than the runs of its system."""
    from dataclasses import replace

    from submission.checks.fault import Fault
    from submission.checks.meta import check_measured, read_meta
    from submission.checks.written import check_written
    from submission.packing.code import code_of
    from submission.packing.meta import measured_values
    from submission.packing.people import PLACEHOLDER
    from submission.packing.systems import gather

    labels = sorted(systems)
    if len(runs) != len(labels):
        return [Fault("", None, f"expected {len(runs)} systems, one for each --run, found {len(labels)}")]
    named = [replace(request, label=label) for request, label in zip(runs, labels, strict=True)]
    faults: list[Fault] = []
    written: dict[str, bytes] = {}
    for system in gather(rules, layout, named, PLACEHOLDER):
        code, measured = code_of(rules, layout, system)
        written |= code
        name = f"{systems[system.label]}/{layout.meta_name.format(label=system.label)}"
        content = members.read(name) if name in members else None
        document = read_meta(name, content)[0] if content is not None else None
        if document is not None:
            faults += check_measured(name, document, measured_values(rules, layout, system, measured))
    return [*faults, *check_written(written, members)]


def _names(value: Any) -> tuple[str, ...] | None:
    """A list of different names as a tuple; None if it is something else."""
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        return None
    return tuple(value) if len(set(value)) == len(value) else None


def main(argv: Sequence[str]) -> int:
    from submission.options import add_system_options, system_requests
    from system.editions import EDITIONS
    from system.options import add_common_options

    parser = argparse.ArgumentParser(prog="submission/validate.py", description="Check a submission package.")
    parser.add_argument("file", type=Path, metavar="FILE.zip", help="the package")
    parser.add_argument("--edition", required=True, metavar="E", help=", ".join(EDITIONS))
    parser.add_argument("--eval-root", type=Path, metavar="DIR", help="evaluation set, for its list of rows")
    parser.add_argument("--draft", action="store_true", help="accept what marks a draft, and any rows")
    add_system_options(parser, "compare its numbers with the run it was packed from")
    add_common_options(parser)
    args, runs = system_requests(parser, argv)

    from submission.archive import holds
    from submission.evaluation_set import length_note, listed
    from submission.formats import find
    from submission.schema import DRAFT_MARK

    rules, layout = find(args.edition)
    evaluation = listed(args.eval_root, rules)
    faults = package_faults(args.file, rules, layout, evaluation, args.draft, runs)
    if not args.draft and (note := length_note(evaluation, rules)):
        print(f"note: {note}", file=sys.stderr)
    for fault in faults[:SHOWN]:
        print(fault)
    count = f"{len(faults):,} fault{'s' if len(faults) > 1 else ''}" if faults else "no fault found"
    if len(faults) > SHOWN:
        count += f", the first {SHOWN:,} shown"
    draft = ", a draft" if holds(args.file, DRAFT_MARK) else ""
    print(f"{args.file}: {count}, edition {args.edition}{draft}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
