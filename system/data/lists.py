"""Reading the lists of a data set: tables with a header, whose file names stay inside the folder."""

from __future__ import annotations

import csv
import difflib
import os
import posixpath
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from system.errors import DataError


@dataclass(slots=True)
class Row:
    """One row of a list, with the line it stands on. Hundreds of thousands of these are alive at once."""

    origin: Path
    line: int
    position: dict[str, int]  # of each column; shared by all rows of a list
    fields: list[str]

    def __getitem__(self, column: str) -> str:
        return self.fields[self.position[column]]

    def __contains__(self, column: str) -> bool:
        return column in self.position

    def get(self, column: str) -> str | None:
        """The value of a column that the list need not have; None too where it is empty."""
        return (self[column].strip() or None) if column in self else None

    def fault(self, message: str) -> DataError:
        """The error that `message` is wrong with this row."""
        return DataError(f"{self.origin}, line {self.line}: {message}")

    def if_told(self, column: str, otherwise: str) -> str:
        """The value of a column that the list need not have, in all rows or none. Raises DataError."""
        if column not in self:
            return otherwise
        if not self[column].strip():
            raise self.fault(f"expected a {column} in every row, or no column of that name, found none here")
        return self[column]

    def filled(self, column: str) -> str:
        """The value of a column that must not be empty. Raises DataError."""
        value = self[column]
        if not value.strip():
            raise self.fault(f"expected a {column}, found none")
        return value

    def one_of(self, column: str, known: Collection[str]) -> str:
        """The value of a column that must be one of `known`. Raises DataError with a near match."""
        value = self.filled(column)
        if value not in known:
            near = difflib.get_close_matches(value.strip().lower(), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self.fault(f"expected {column} to be one of {', '.join(sorted(known))}, found {value!r}{hint}")
        return value


def read_rows(path: Path, columns: Sequence[str], delimiter: str) -> list[Row]:
    """Read a table whose header holds at least `columns`; more are allowed, LF and CRLF are equal.

    Raises DataError for a missing or unreadable file, a missing or repeated column, or a row of another length.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(_rows(path, csv.reader(file, delimiter=delimiter), columns, delimiter))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; expected a list with the columns {', '.join(columns)}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} cannot be read as a table: {_not_utf8(path)}") from None
    except (csv.Error, OSError) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from None


def _not_utf8(path: Path) -> str:
    """What of a file cannot be decoded; the error of reading it in pieces tells no place in the whole."""
    content = path.read_bytes()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return f"expected UTF-8, found the byte 0x{content[error.start]:02x} in line {line}"
    return "expected UTF-8; it changed while it was read"


def _rows(path: Path, reader: Iterator[list[str]], columns: Sequence[str], delimiter: str) -> Iterator[Row]:
    header = next(reader, None)
    if header is None:
        raise DataError(f"{path}: expected a header with the columns {', '.join(columns)}, found an empty file")
    for column in columns:
        if column not in header:
            name = "tab" if delimiter == "\t" else repr(delimiter)
            raise DataError(
                f"{path}: no column {column!r}; expected {', '.join(columns)} separated by {name}, "
                f"found {', '.join(header)}"
            )
    position = {column: index for index, column in enumerate(header)}
    repeated = next((column for column in header if column and header.count(column) > 1), None)
    if repeated:
        raise DataError(f"{path}: expected each column once, found {header.count(repeated)} of {repeated!r}")
    end = reader.line_num  # type: ignore[attr-defined]  # of the row before
    for fields in reader:
        line, end = end + 1, reader.line_num  # type: ignore[attr-defined]
        if not fields:
            continue
        if len(fields) != len(header):
            raise DataError(f"{path}, line {line}: expected {len(header)} fields, found {len(fields)}")
        yield Row(path, line, position, fields)


def unique_by_filename(rows: Sequence[Row]) -> dict[str, Row]:
    """The rows by their `filename`, in order. Raises DataError naming both lines of a duplicate."""
    found: dict[str, Row] = {}
    for row in rows:
        name = posixpath.normpath(row.filled("filename"))
        if name in found:
            raise row.fault(f"{row['filename']} was already listed in line {found[name].line}")
        found[name] = row
    return found


class InsideFolder:
    """Turns the file names of a list into paths, and refuses those that lead out of the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._root = str(root)
        self._real_root = os.path.realpath(root)
        self._checked: set[str] = set()

    def path(self, row: Row) -> Path:
        """The path of a row's file, which need not exist. Raises DataError."""
        name = row["filename"]
        if "\0" in name or posixpath.isabs(name) or os.path.isabs(name) or ".." in name.replace("\\", "/").split("/"):
            raise row.fault(f"expected a path inside {self.root}, found {name!r}")
        path = os.path.join(self._root, name)
        # Resolving is slow; files of one folder share it, unless the file itself is a link.
        parent = os.path.dirname(path)
        if os.path.islink(path):
            self._inside(row, path)
        elif parent not in self._checked:
            self._inside(row, parent)
            self._checked.add(parent)
        return Path(path)

    def _inside(self, row: Row, path: str) -> None:
        real = os.path.realpath(path)
        if real != self._real_root and not real.startswith(self._real_root + os.sep):
            raise row.fault(f"expected a path inside {self.root}, found {row['filename']!r}, a link to {real}")
