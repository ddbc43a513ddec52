"""Every table of every edition: each class of fault in it is noticed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from submission.formats import FORMATS
from system.editions import EDITIONS
from tests.submission.conftest import Example, Examples
from tests.submission.mutated import TABLES, Draw, Mutate, bad_byte, noticed, quick


def rows_of(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode()), delimiter="\t"))


def written(rows: list[list[str]]) -> bytes:
    return "".join("\t".join(row) + "\n" for row in rows).encode()


def in_row(change: Callable[[Draw, list[str], int], list[str]]) -> Mutate:
    """Change one row of a table; `change` gets it and the number of its key columns."""

    def mutate(draw: Draw, example: Example, content: bytes) -> bytes:
        rows = rows_of(content)
        number = draw(st.integers(1, len(rows) - 1))
        rows[number] = change(draw, rows[number], len(FORMATS[example.edition].key_columns))
        return written(rows)

    return mutate


def in_cell(values: Any) -> Mutate:
    def change(draw: Draw, row: list[str], keys: int) -> list[str]:
        column = draw(st.integers(keys + 1, len(row) - 1))
        return [*row[:column], draw(values), *row[column + 1 :]]

    return in_row(change)


def swapped(draw: Draw, row: list[str], keys: int) -> list[str]:
    """The probability of the label and the smallest one change places."""
    shares = sorted(range(keys + 1, len(row)), key=lambda column: float(row[column]))
    row = list(row)
    row[shares[0]], row[shares[-1]] = row[shares[-1]], row[shares[0]]
    return row


def drop_row(draw: Draw, example: Example, content: bytes) -> bytes:
    rows = rows_of(content)
    del rows[draw(st.integers(1, len(rows) - 1))]
    return written(rows)


def double_row(draw: Draw, example: Example, content: bytes) -> bytes:
    rows = rows_of(content)
    return written([*rows, rows[draw(st.integers(1, len(rows) - 1))]])


def rename_column(draw: Draw, example: Example, content: bytes) -> bytes:
    rows = rows_of(content)
    rows[0][draw(st.integers(0, len(rows[0]) - 1))] = "monorail"
    return written(rows)


TABLE_FAULTS: dict[str, tuple[Mutate, str]] = {
    "no number": (in_cell(st.sampled_from(["", "much", "1,0", "--1"])), "expected a number"),
    "not a probability": (in_cell(st.sampled_from(["-0.001", "1.001", "nan", "inf", "1e9"])), "from 0 to 1"),
    "sum": (in_row(lambda draw, row, keys: [*row[: keys + 1], *(["0.01"] * (len(row) - keys - 1))]), "sum to 1"),
    "label unknown": (in_row(lambda draw, row, keys: [*row[:keys], "nowhere", *row[keys + 1 :]]), "expected one of"),
    "label not the most probable": (in_row(swapped), "more probable"),
    "field missing": (in_row(lambda draw, row, keys: row[:-1]), "fields, found"),
    "field too many": (in_row(lambda draw, row, keys: [*row, "0"]), "fields, found"),
    "row twice": (double_row, "given before"),
    "header": (rename_column, "expected the columns"),
    "empty": (lambda draw, example, content: b"", "expected the columns"),
    "no rows": (lambda draw, example, content: content.splitlines(True)[0], "at least one row"),
    "not UTF-8": (bad_byte, "UTF-8"),
    "another separator": (lambda draw, example, content: content.replace(b"\t", b";"), "separated by tabs"),
}


OF_ONE_CLASS = ("sum", "label unknown", "label not the most probable")  # several at a time: test_events_packed.py


LISTED_FAULTS: dict[str, tuple[Mutate, str]] = {
    "row missing": (drop_row, "of the evaluation list are missing"),
    "row of another list": (in_row(lambda draw, row, keys: ["99999999.wav", *row[1:]]), "not in the evaluation list"),
    "a name that is none": (in_row(lambda draw, row, keys: ["x.flac", *row[1:]]), "not in the evaluation list"),
}


@pytest.mark.parametrize("key", TABLES)
@pytest.mark.parametrize("fault", [*TABLE_FAULTS, *LISTED_FAULTS])
@quick
@given(data=st.data())
def test_a_fault_in_a_table_is_noticed(
    key: str, fault: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example = examples[key]
    if (fault in LISTED_FAULTS and example.eval_root is None) or (fault in OF_ONE_CLASS and EDITIONS[key].events):
        return
    mutate, words = {**TABLE_FAULTS, **LISTED_FAULTS}[fault]
    tables = [name for name in example.members if name.endswith(".csv") and "output" in name]
    name = data.draw(st.sampled_from(tables))
    noticed(example, name, mutate(data.draw, example, example.members[name]), words, tmp_path / "x.zip")
