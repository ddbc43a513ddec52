"""Is an output.csv what its edition asks for? Every fault with its line, in linear time."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Generator, Iterator, Sequence
from itertools import islice

import numpy as np

from submission.checks.fault import Fault
from submission.rounding import rounding
from submission.schema import PackageFormat
from system.data.folds import LABEL_SEPARATOR

SUM_TOLERANCE = 1e-4  # of a row's probabilities, whatever the file's rounding allows: those of float16 are off as much
LISTED = 20  # missing names told one by one
MAX_FAULTS = 10_000  # of one table: a foreign one may have millions, and each takes time and memory
MAX_ROWS = 2_000_000  # of a table whose rows are not known: the longest list of an edition is less than a tenth of it


def limited(file: str, found: Iterator[Fault]) -> list[Fault]:
    """At most `MAX_FAULTS` of a table's faults, and one that says so."""
    faults = list(islice(found, MAX_FAULTS + 1))
    if len(faults) > MAX_FAULTS:
        faults[-1] = Fault(file, None, f"has more than {MAX_FAULTS:,} faults: the others were not looked for")
    return faults


def check_table(
    file: str,
    content: bytes,
    layout: PackageFormat,
    classes: Sequence[str],
    expected: Collection[str] | int | None,
    name_pattern: str | None,
) -> Iterator[Fault]:
    """Faults of an output.csv, found only as they are asked for.

    `expected`: the base names it must list, each once, or only how many; None: any. `name_pattern`: regular expression
    of a base name; None: any.
    """
    columns = (*layout.key_columns, layout.label_column, *classes)
    count = expected if expected is None or isinstance(expected, int) else len(expected)
    lines, rows, whole = yield from read_rows(file, content, layout.delimiter, columns, count)
    if rows:
        keys = len(layout.key_columns)
        labels, texts = [row[keys] for row in rows], [row[keys + 1 :] for row in rows]
        yield from _check_names(file, lines, [row[:keys] for row in rows], expected, name_pattern)
        yield from (_check_decisions if layout.events else _check_classes)(file, lines, labels, texts, classes)
    elif whole:
        yield Fault(file, None, "expected at least one row below the header, found none")


Rows = tuple[list[int], list[list[str]], bool]


def read_rows(
    file: str, content: bytes, delimiter: str, columns: Sequence[str], count: int | None = None
) -> Generator[Fault, None, Rows]:
    """Yields what is wrong; returns the lines and fields, in the order of `columns`, of the rows that are whole, and
    whether all are. `count`: how many there should be; None: any number.
    """
    lines: list[int] = []
    rows: list[list[str]] = []
    if content.startswith(codecs.BOM_UTF8):  # the official validators stop at it: no column is called filename
        yield Fault(file, 1, "begins with a byte order mark, expected the header")
        return lines, rows, False
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        yield Fault(file, content[: error.start].count(b"\n") + 1, f"is not UTF-8: {error.reason}")
        return lines, rows, False
    most, wanted = (MAX_ROWS, f"at most {MAX_ROWS:,}") if count is None else (count + MAX_FAULTS, f"{count:,}")
    whole = True
    for found in _split(file, content, delimiter, columns):
        if isinstance(found, Fault):
            whole = False
            yield found
        elif len(rows) == most:
            yield Fault(file, found[0], f"expected {wanted} rows, found more than {most:,}")
            return [], [], False
        else:
            lines.append(found[0])
            rows.append(found[1])
    return lines, rows, whole


def _split(
    file: str, content: bytes, delimiter: str, columns: Sequence[str]
) -> Iterator[tuple[int, list[str]] | Fault]:
    """(line, fields in the order of `columns`) of every row with as many fields; nothing if the header is wrong."""
    # lines end as the official validators have it, which know no carriage return alone
    text = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", newline="\n")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    width = len(columns)
    try:
        header = next(reader, [])
        if sorted(header) != sorted(columns):
            yield Fault(file, 1, _explain_header(header, columns, delimiter))
            return
        place = None if header == list(columns) else [header.index(name) for name in columns]  # any order is accepted
        for row in reader:
            if len(row) == width:
                yield reader.line_num, row if place is None else [row[index] for index in place]
            else:
                found = "an empty line" if not row else f"{len(row)}"
                yield Fault(file, reader.line_num, f"expected {width} fields, found {found}")
    except csv.Error as error:
        yield Fault(file, reader.line_num, f"cannot be read as a table: {error}")


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
) -> Iterator[Fault]:
    listed = None if isinstance(expected, int) else expected
    seen: dict[tuple[str, ...], int] = {}
    fits = re.compile(name_pattern).fullmatch if name_pattern else None
    for line, key in zip(lines, keys, strict=True):
        name = key[0].rsplit("/", 1)[-1] if listed is not None or fits else key[0]  # the folder does not matter
        unique = (name, *key[1:])
        first = seen.setdefault(unique, line)
        if first != line:
            yield Fault(file, line, f"{' '.join(unique)!a} was given before, in line {first}")
        if not name:
            yield Fault(file, line, "expected a file name, found nothing")
        elif listed is not None and name not in listed:
            yield Fault(file, line, f"{name!a} is not in the evaluation list")
        elif fits is not None and not fits(name):
            yield Fault(file, line, f"expected a file name of an evaluation list, found {name!a}")
    if isinstance(expected, int) and len(seen) != expected:
        yield Fault(file, None, f"expected {expected:,} different recordings, found {len(seen):,}")
    if listed is not None:
        missing = [name for name in listed if (name,) not in seen]
        if missing:
            more = f" and {len(missing) - LISTED:,} more" if len(missing) > LISTED else ""
            message = f"{len(missing):,} of the evaluation list are missing: {', '.join(missing[:LISTED])}{more}"
            yield Fault(file, None, message)


def _check_classes(
    file: str, lines: Sequence[int], labels: Sequence[str], texts: list[list[str]], classes: Sequence[str]
) -> Iterator[Fault]:
    """One class in each row: the most probable one, of probabilities that sum to 1."""
    values = _numbers(texts, len(classes))
    outside = _outside(values)
    with np.errstate(invalid="ignore"):
        sums = values.sum(axis=1)
        wrong_sum = ~(np.abs(sums - 1) <= SUM_TOLERANCE) & ~outside.any(axis=1)
        if wrong_sum.any():  # else there is no need to look at every number as it is written
            wrong_sum &= np.abs(sums - 1) > rounding(values, texts)
    yield from _no_probabilities(file, lines, values, texts, classes)
    for row in _first(wrong_sum):
        yield Fault(file, lines[row], f"expected probabilities that sum to 1, found {sums[row]:.6g}")
    index_of = {name: index for index, name in enumerate(classes)}
    chosen = np.array([index_of.get(label, -1) for label in labels])
    for row in _first(chosen < 0):
        yield Fault(file, lines[row], f"expected one of {', '.join(classes)}, found {_short(labels[row])}")
    comparable = (chosen >= 0) & ~outside.any(axis=1)
    behind = comparable & (values[np.arange(len(values)), chosen] < values.max(axis=1))
    for row in _first(behind):
        best = classes[int(values[row].argmax())]
        yield Fault(file, lines[row], f"the label is {labels[row]}, but {best} is more probable")


def _check_decisions(
    file: str, lines: Sequence[int], labels: Sequence[str], texts: list[list[str]], classes: Sequence[str]
) -> Iterator[Fault]:
    """Any number of classes in each row, joined by `|`; their probabilities are of each for itself."""
    yield from _no_probabilities(file, lines, _numbers(texts, len(classes)), texts, classes)
    known = set(classes)
    for line, label in zip(lines, labels, strict=True):
        named = label.split(LABEL_SEPARATOR) if label else []
        if not known.issuperset(named) or len(set(named)) < len(named):
            expected = f"different classes of {', '.join(classes)}, joined by {LABEL_SEPARATOR}, or nothing"
            yield Fault(file, line, f"expected {expected}, found {_short(label)}")


def _outside(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return ~((values >= 0) & (values <= 1))


def _no_probabilities(
    file: str, lines: Sequence[int], values: np.ndarray, texts: list[list[str]], classes: Sequence[str]
) -> Iterator[Fault]:
    for row, column in np.argwhere(_outside(values))[: MAX_FAULTS + 1].tolist():
        text = texts[row][column]
        number = not np.isnan(values[row, column]) or text.strip().lower().lstrip("+-") == "nan"
        what = "a probability from 0 to 1" if number else "a number"
        yield Fault(file, lines[row], f"{classes[column]}: expected {what}, found {_short(text)}")


def _first(wrong: np.ndarray) -> list[int]:
    """The first rows that are wrong, as many as are told."""
    found: list[int] = np.flatnonzero(wrong)[: MAX_FAULTS + 1].tolist()
    return found


def _short(text: str) -> str:
    return ascii(text[:60])


def _numbers(texts: list[list[str]], width: int) -> np.ndarray:
    """(rows, classes) float64, NaN where a field is no number."""
    try:
        return np.array(texts, dtype=np.float64).reshape(len(texts), width)
    except ValueError:
        return np.array([[_number(text) for text in row] for row in texts])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan
