#!/usr/bin/env python3
"""Check a submission package: python submission/validate.py FILE.zip --edition E [--eval-root DIR]

Exit code 0: no fault; 1: faults, each printed with its file and line; 2: the file cannot be read.

Stricter than the official validators: limits are held, the label is the most probable class, probabilities sum to 1,
every row of the list is there once, and the zip itself is safe. One pass over each table.
A draft is a fault, except with --draft and in edition `own`, which nobody hands in.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import guarded

if TYPE_CHECKING:
    from submission.fault import Fault
    from submission.formats import PackageFormat
    from system.editions import Edition


def validate(zip_path: Path, edition: str, eval_root: Path | None = None, draft: bool = False) -> list[Fault]:
    """All faults of a package; an empty list if it may be handed in.

    The rows must be those of `eval_root`'s list, or else the official number of them, from 0.wav on; a `draft`
    may have other rows, placeholders and the draft's mark.
    Raises FormatError if `zip_path` is no zip file, ConfigError for an unknown edition, DataError for `eval_root`.
    """
    from submission.archive import read_zip
    from submission.fault import Fault
    from submission.formats import DRAFT_MARK, find

    rules, layout = find(edition)
    expected = _expected_names(rules, eval_root)
    members, faults = read_zip(Path(zip_path))
    marked = members.pop(DRAFT_MARK, None) is not None
    draft = draft or (marked and rules.classes is None)
    if marked and not draft:
        faults.append(Fault(DRAFT_MARK, None, "this package is a draft, not to be handed in"))
    systems, strays = _systems(layout, members)
    faults += strays
    if not systems:
        where = layout.folder.format(label=layout.label_example)
        faults.append(Fault("", None, f"expected the files of a system, such as {where}/, found none"))
    if len(systems) > layout.max_index:
        faults.append(Fault("", None, f"expected at most {layout.max_index} systems, found {len(systems)}"))
    names = None if draft and eval_root is None else expected
    for label in systems:
        faults += _check_system(label, members, layout, rules, names, draft)
    return faults


def _expected_names(rules: Edition, eval_root: Path | None) -> dict[str, None] | None:
    """The base names that output.csv must list, in order; None where the edition has no list."""
    if eval_root is not None and rules.classes is not None:
        from system.data.tau import evaluation_list

        return dict.fromkeys(row.filename.rsplit("/", 1)[-1] for row in evaluation_list(Path(eval_root)))
    if rules.evaluation_rows is not None:
        return dict.fromkeys(f"{index}.wav" for index in range(rules.evaluation_rows))
    return None


def _systems(layout: PackageFormat, members: dict[str, bytes]) -> tuple[list[str], list[Fault]]:
    """The labels whose files are in the package, and a fault for every file that belongs to none."""
    from submission.fault import Fault

    folder = re.escape(layout.folder).replace(re.escape("{label}"), "([^/]+)")
    labels: dict[str, None] = {}
    faults = []
    for name in members:
        if re.fullmatch(layout.documents, name):
            continue
        found = re.fullmatch(f"{folder}/([^/]+)", name)
        if found is None:
            expected = layout.folder.format(label="LABEL")
            faults.append(Fault(name, None, f"is not part of a package, whose files are {expected}/LABEL.*"))
            continue
        label, file = found.group(1), found.group(2)
        labels[label] = None
        allowed = [layout.meta_name, *layout.outputs.values()]
        if file not in [text.format(label=label) for text in allowed]:
            wanted = ", ".join(text.format(label=label) for text in allowed)
            faults.append(Fault(name, None, f"is not part of a package; its folder may hold {wanted}"))
    return list(labels), faults


def _check_system(
    label: str,
    members: dict[str, bytes],
    layout: PackageFormat,
    rules: Edition,
    expected: dict[str, None] | None,
    draft: bool,
) -> list[Fault]:
    from submission.check_meta import check_meta, read_meta
    from submission.check_table import check_table
    from submission.fault import Fault

    folder = layout.folder.format(label=label)
    faults: list[Fault] = []
    if not re.fullmatch(layout.label_pattern, label):
        faults.append(Fault(folder, None, f"expected a label such as {layout.label_example}, found {label!a}"))
    meta_file = f"{folder}/{layout.meta_name.format(label=label)}"
    outputs = [f"{folder}/{name.format(label=label)}" for name in layout.outputs.values()]
    faults += [Fault(name, None, "is missing") for name in (meta_file, *outputs) if name not in members]
    classes, devices = rules.classes, rules.devices
    if meta_file in members:
        document, unreadable = read_meta(meta_file, members[meta_file])
        faults += unreadable
        if document is not None:
            task = document.value.get("task")
            told = task if isinstance(task, dict) else {}
            classes = rules.classes or _names(told.get("classes"))
            devices = rules.devices or _names(told.get("devices")) or ()
            faults += check_meta(meta_file, document, label, layout, rules, classes or (), devices, draft)
            if classes is None:
                faults.append(Fault(meta_file, 1, "task.classes: expected a list of different names"))
    for name in outputs:
        if name in members and classes is not None:
            faults += check_table(name, members[name], layout, classes, expected, rules.evaluation_name)
    return faults


def _names(value: Any) -> tuple[str, ...] | None:
    """A list of different names as a tuple; None if it is something else."""
    if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
        return None
    return tuple(value) if len(set(value)) == len(value) else None


def main(argv: Sequence[str]) -> int:
    from system.options import add_common_options

    parser = argparse.ArgumentParser(prog="submission/validate.py", description="Check a submission package.")
    parser.add_argument("file", type=Path, metavar="FILE.zip", help="the package")
    parser.add_argument("--edition", required=True, metavar="E", help="2022 or own")
    parser.add_argument("--eval-root", type=Path, metavar="DIR", help="evaluation set, for its list of rows")
    parser.add_argument("--draft", action="store_true", help="accept what marks a draft, and any rows")
    add_common_options(parser)
    args = parser.parse_args(argv)
    faults = validate(args.file, args.edition, args.eval_root, args.draft)
    for fault in faults:
        print(fault)
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}" if faults else "no fault found"
    print(f"{args.file}: {count}, edition {args.edition}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
