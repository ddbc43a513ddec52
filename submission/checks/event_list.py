"""Is a list of sound events well formed, and does it say what the table of segments beside it decided?"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from contextlib import suppress

from submission.checks.fault import Fault
from submission.checks.table import read_rows
from submission.schema import PackageFormat
from system.data.folds import LABEL_SEPARATOR

Key = tuple[str, str, str]  # filename, device, class


def decided(content: bytes, layout: PackageFormat) -> set[Key]:
    """What a table of segments decided to be heard somewhere in each recording; its own faults are told elsewhere."""
    rows = csv.DictReader(io.StringIO(content.decode("utf-8", "replace"), newline="\n"), delimiter=layout.delimiter)
    found = set()
    with suppress(csv.Error):
        for row in rows:
            filename, device, labels = (row.get(key) or "" for key in ("filename", "device", layout.label_column))
            found |= {(filename, device, name) for name in labels.split(LABEL_SEPARATOR) if name}
    return found


def check_event_list(
    file: str, content: bytes, layout: PackageFormat, classes: tuple[str, ...], heard: set[Key]
) -> Iterator[Fault]:
    """Faults of a list of sound events, found only as they are asked for. `heard`: see `decided`."""
    lines, rows, whole = yield from read_rows(file, content, layout.delimiter, layout.event_columns)
    listed: set[Key] = set()
    ends: dict[Key, float] = {}
    for line, (filename, device, onset, offset, label) in sorted(zip(lines, rows, strict=True), key=_onset):
        key = (filename, device, label)
        start, end = _seconds(onset), _seconds(offset)
        listed.add(key)
        if label not in classes:
            yield Fault(file, line, f"expected one of {', '.join(classes)}, found {label[:60]!a}")
        elif key not in heard:
            yield Fault(file, line, f"{label} is in no segment of {filename!a} on device {device!a} in the table")
        if start is None or end is None or not start < end:
            yield Fault(
                file, line, f"expected seconds, an onset before its offset, found {onset[:60]!a}, {offset[:60]!a}"
            )
        elif start < ends.get(key, 0.0):
            yield Fault(file, line, f"{label} begins at {start:g} s, before the one before it ends")
        else:
            ends[key] = end
    if whole and (missing := sorted(heard - listed)):
        filename, device, label = missing[0]
        more = f", and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        yield Fault(file, None, f"expected {label} in {filename!a} on device {device!a}, as the table has it{more}")


def _onset(numbered: tuple[int, list[str]]) -> tuple[float, int]:
    """In order of onset, so that overlaps are seen wherever they stand."""
    start = _seconds(numbered[1][2])
    return (-1.0 if start is None else start, numbered[0])


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < math.inf else None
