"""The list of an evaluation set: which recordings, and whether they are those of the edition."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from system.data.tau import EvaluationRow, evaluation_list
from system.editions import Edition
from system.errors import DataError


@dataclass(frozen=True)
class Listed:
    """The recordings of an evaluation set, in the order of its list."""

    names: tuple[str, ...]  # base names, each once
    filenames: tuple[str, ...]  # as the list has them
    paths: tuple[Path, ...]
    devices: tuple[str, ...] | None  # where the list tells them


def listed(root: Path | None, rules: Edition) -> Listed | None:
    """Read an evaluation set's list; None without a folder, or for an edition without a list.

    Raises DataError for a list that is not of this edition.
    """
    if root is None or rules.evaluation_list is None:
        return None
    rows = evaluation_list(root, rules.evaluation_list)
    where = root / rules.evaluation_list
    seen: dict[str, str] = {}
    for row in rows:
        name = row.filename.rsplit("/", 1)[-1]
        if rules.evaluation_pattern and not re.fullmatch(rules.evaluation_pattern, name):
            example = f"audio/{rules.evaluation_names(1)[0]}"
            raise DataError(f"{where}: expected names such as {example} (an evaluation set), found {row.filename}")
        if name in seen:
            raise DataError(f"{where}: {row.filename} and {seen[name]} would be one row: the package drops folders")
        seen[name] = row.filename
    return Listed(tuple(seen), tuple(seen.values()), tuple(row.path for row in rows), _devices(rows, rules, where))


def length_note(evaluation: Listed | None, rules: Edition) -> str | None:
    """What to tell of a list that is longer or shorter than the edition's; None of a whole one."""
    if evaluation is None or len(evaluation.names) == rules.evaluation_rows:
        return None
    return (
        f"{rules.evaluation_list} of the evaluation set lists {len(evaluation.names):,} recordings, "
        f"edition {rules.key} has {rules.evaluation_rows:,}: organisers expect a row for each"
    )


def _devices(rows: Sequence[EvaluationRow], rules: Edition, where: Path) -> tuple[str, ...] | None:
    if rules.evaluation_devices is None:
        return None
    known = rules.evaluation_devices
    for row in rows:
        if row.device not in known:
            found = f"found {row.device!r} for {row.filename}" if row.device else "found no column device_id"
            raise DataError(f"{where}: expected a device_id of {', '.join(known)} for each recording, {found}")
    return tuple(str(row.device) for row in rows)
