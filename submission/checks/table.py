"""Is an output.csv what its edition asks for? Every fault with its line, in linear time."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from submission.checks.fault import Fault
from submission.rounding import rounding
from submission.schema import PackageFormat

SUM_TOLERANCE = 1e-4  # of a row's probabilities, whatever the file's rounding allows: those of float16 are off as much
LISTED = 20  # missing names told one by one


def check_table(
    file: str,
    content: bytes,
    layout: PackageFormat,
    classes: Sequence[str],
    expected: Collection[str] | int | None,
    name_pattern: str | None,
) -> list[Fault]:
    """Faults of an output.csv. `expected`: the base names it must list, each once, or only how many; None: any.

    `name_pattern`: regular expression of a base name; None: any.
    """
    if content.startswith(codecs.BOM_UTF8):  # the official validators stop at it: no column is called filename
        return [Fault(file, 1, "begins with a byte order mark, expected the header")]
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        return [Fault(file, content[: error.start].count(b"\n") + 1, f"is not UTF-8: {error.reason}")]
    columns = (*layout.key_columns, layout.label_column, *classes)
    faults: list[Fault] = []
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, row in _split(file, text, layout.delimiter, columns, faults):
        lines.append(line)
        rows.append(row)
    if not rows:
        return faults or [Fault(file, None, "expected at least one row below the header, found none")]
    keys = len(layout.key_columns)
    faults += _check_names(file, lines, [row[:keys] for row in rows], expected, name_pattern)
    faults += _check_values(file, lines, [row[keys] for row in rows], [row[keys + 1 :] for row in rows], classes)
    return faults


def _split(
    file: str, text: str, delimiter: str, columns: Sequence[str], faults: list[Fault]
) -> Iterator[tuple[int, list[str]]]:
    """(line, fields in the order of `columns`) of every row with as many fields; nothing if the header is wrong."""
    # lines end as the official validators have it, which know no carriage return alone
    reader = csv.reader(io.StringIO(text, newline="\n"), delimiter=delimiter, strict=True)
    width = len(columns)
    try:
        header = next(reader, [])
        if sorted(header) != sorted(columns):
            faults.append(Fault(file, 1, _explain_header(header, columns, delimiter)))
            return
        place = None if header == list(columns) else [header.index(name) for name in columns]  # any order is accepted
        for row in reader:
            if len(row) == width:
                yield reader.line_num, row if place is None else [row[index] for index in place]
            else:
                found = "an empty line" if not row else f"{len(row)}"
                faults.append(Fault(file, reader.line_num, f"expected {width} fields, found {found}"))
    except csv.Error as error:
        faults.append(Fault(file, reader.line_num, f"cannot be read as a table: {error}"))


def _explain_header(header: Sequence[str], columns: Sequence[str], delimiter: str) -> str:
    missing = [name for name in columns if name not in header]
    strange = [ascii(name)[1:-1][:40] for name in header if name not in columns]
    if len(header) == 1:
        strange = []
    parts = [f"missing {', '.join(missing)}"] if missing else []
    parts += [f"not asked for {', '.join(strange[:LISTED])}"] if strange else []
    if len(set(header)) != len(header):
        parts.append("a column occurs twice")
    separated = "tabs" if delimiter == "\t" else repr(delimiter)
    return f"expected the columns {', '.join(columns)}, separated by {separated}: {'; '.join(parts)}"


def _check_names(
    file: str,
    lines: Sequence[int],
    keys: Sequence[Sequence[str]],
    expected: Collection[str] | int | None,
    name_pattern: str | None,
) -> list[Fault]:
    faults = []
    listed = None if isinstance(expected, int) else expected
    seen: dict[tuple[str, ...], int] = {}
    fits = re.compile(name_pattern).fullmatch if name_pattern else None
    for line, key in zip(lines, keys, strict=True):
        name = key[0].rsplit("/", 1)[-1] if listed is not None or fits else key[0]  # the folder does not matter
        unique = (name, *key[1:])
        first = seen.setdefault(unique, line)
        if first != line:
            faults.append(Fault(file, line, f"{' '.join(unique)!a} was given before, in line {first}"))
        if not name:
            faults.append(Fault(file, line, "expected a file name, found nothing"))
        elif listed is not None and name not in listed:
            faults.append(Fault(file, line, f"{name!a} is not in the evaluation list"))
        elif fits is not None and not fits(name):
            faults.append(Fault(file, line, f"expected a file name of an evaluation list, found {name!a}"))
    if isinstance(expected, int) and len(seen) != expected:
        faults.append(Fault(file, None, f"expected {expected:,} different recordings, found {len(seen):,}"))
    if listed is not None:
        missing = [name for name in listed if (name,) not in seen]
        if missing:
            more = f" and {len(missing) - LISTED:,} more" if len(missing) > LISTED else ""
            message = f"{len(missing):,} of the evaluation list are missing: {', '.join(missing[:LISTED])}{more}"
            faults.append(Fault(file, None, message))
    return faults


def _check_values(
    file: str, lines: Sequence[int], labels: Sequence[str], texts: list[list[str]], classes: Sequence[str]
) -> list[Fault]:
    values, faults = _numbers(file, lines, texts, classes)
    with np.errstate(invalid="ignore"):
        outside = ~((values >= 0) & (values <= 1))
        sums = values.sum(axis=1)
        wrong_sum = ~(np.abs(sums - 1) <= SUM_TOLERANCE) & ~outside.any(axis=1)
        if wrong_sum.any():  # else there is no need to look at every number as it is written
            wrong_sum &= np.abs(sums - 1) > rounding(values, texts)
    for row, column in zip(*(index.tolist() for index in np.nonzero(outside)), strict=True):
        if not np.isnan(values[row, column]) or texts[row][column].strip().lower().lstrip("+-") == "nan":
            message = f"{classes[column]}: expected a probability from 0 to 1, found {texts[row][column]!a}"
            faults.append(Fault(file, lines[row], message))
    for row in np.nonzero(wrong_sum)[0].tolist():
        faults.append(Fault(file, lines[row], f"expected probabilities that sum to 1, found {sums[row]:.6g}"))
    index_of = {name: index for index, name in enumerate(classes)}
    chosen = np.array([index_of.get(label, -1) for label in labels])
    for row in np.nonzero(chosen < 0)[0].tolist():
        faults.append(Fault(file, lines[row], f"expected one of {', '.join(classes)}, found {labels[row]!a}"))
    comparable = (chosen >= 0) & ~outside.any(axis=1)
    behind = comparable & (values[np.arange(len(values)), chosen] < values.max(axis=1))
    for row in np.nonzero(behind)[0].tolist():
        best = classes[int(values[row].argmax())]
        faults.append(Fault(file, lines[row], f"the label is {labels[row]}, but {best} is more probable"))
    return faults


def _numbers(
    file: str, lines: Sequence[int], texts: list[list[str]], classes: Sequence[str]
) -> tuple[np.ndarray, list[Fault]]:
    """(rows, classes) float64, NaN where a field is no number, and the faults of those."""
    try:
        return np.array(texts, dtype=np.float64).reshape(len(texts), len(classes)), []
    except ValueError:
        pass
    faults = []
    values = np.full((len(texts), len(classes)), np.nan)
    for row, fields in enumerate(texts):
        for column, text in enumerate(fields):
            try:
                values[row, column] = float(text)
            except ValueError:
                faults.append(
                    Fault(file, lines[row], f"{classes[column]}: expected a number, found {ascii(text)[:60]}")
                )
    return values, faults
