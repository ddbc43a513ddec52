"""What organisers accept is no fault: columns in any order, any number of decimals, an INT8 softmax as it is."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest

from submission.board.tables import Truth, read_answers
from submission.checks.table import check_table
from submission.formats import FORMATS
from submission.rounding import rounding
from system.editions import SCENES

ROWS = 100
Write = Callable[[float], str]
DECIMALS: dict[str, Write] = {f"{n} decimals": lambda p, n=n: f"{p:.{n}f}" for n in (3, 4, 6)}  # type: ignore[misc]
DIGITS: dict[str, Write] = {
    "3 digits": lambda p: f"{p:.3g}", "6 digits": lambda p: f"{p:.6g}", "an exponent": lambda p: f"{p:.2e}",
}  # fmt: skip
WRITERS: dict[str, Write] = {**DECIMALS, **DIGITS, "1/256": lambda p: repr(round(256 * p) / 256)}


def table(write: Write, columns: tuple[str, ...] = ("filename", "scene_label", *SCENES)) -> list[list[str]]:
    """Rows of made-up probabilities, each summing to 1 before they are written; the header first."""
    values = np.random.default_rng(0).dirichlet(np.ones(len(SCENES)), size=ROWS)
    rows = [columns]
    for number, row in enumerate(values.tolist()):
        texts = dict(zip(SCENES, map(write, row), strict=True))
        best = max(SCENES, key=lambda name: float(texts[name]))
        cells = {"filename": f"{number}.wav", "scene_label": best, **texts}
        rows.append(tuple(cells[name] for name in columns))
    return [list(row) for row in rows]


def faults(rows: list[list[str]], expected: Collection[str] | int = ROWS, name_pattern: str | None = None) -> list[str]:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter="\t", lineterminator="\n").writerows(rows)
    content = buffer.getvalue().encode()
    return [str(fault) for fault in check_table("t", content, FORMATS["2022"], SCENES, expected, name_pattern)]


@pytest.mark.parametrize("pattern", [None, r"\d+\.wav"])
@pytest.mark.parametrize("listed", [False, True])
def test_the_folder_of_a_name_does_not_matter_where_names_are_known(listed: bool, pattern: str | None) -> None:
    header, *rows = table(DECIMALS["6 decimals"])
    inside = [header, *([f"audio/{name}", *others] for name, *others in rows)]
    assert faults(inside, [row[0] for row in rows] if listed else ROWS, pattern) == []


@pytest.mark.parametrize("name", WRITERS)
def test_rounded_probabilities_need_not_sum_to_1_exactly(name: str, tmp_path: Path) -> None:
    rows = table(WRITERS[name])
    assert faults(rows) == []
    path = tmp_path / "output.csv"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    truth = Truth("made up", None, {(row[0], 0, "a"): row[1] for row in rows[1:]})
    found = read_answers(path, [truth]).probabilities
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-12


@pytest.mark.parametrize("name", WRITERS)
def test_a_sum_that_no_rounding_explains(name: str) -> None:
    rows = table(WRITERS[name])
    rows[5][2:] = [WRITERS[name](0.9 * float(text)) for text in rows[5][2:]]
    (fault,) = faults(rows)
    assert fault.startswith("t, line 6: expected probabilities that sum to 1, found 0.")


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (["0.25", "0.75", "0.0"], 3 / 512),
        (["1", "0", "0"], 3 / 512),
        (["0.1", "0.3", "0.6"], 3 * 0.005),
        (["0.1234", "0.5", "0.4"], 3 * 0.00005),
        (["1.5e-3", "0.5", "0.4"], 0.00005 + 2 * 0.005),
        (["1.23e-05", "0.4", "0.6"], 2 * 0.0005),
        (["1.23e-05", "0.0123", "0.988"], 0.00005 + 0.0005),
        (["1", "0.00012345", "0.00001"], 0.000005),
        (["1e9", "0.11", "0.1"], 3 * 0.005),
        (["1e-" + 5000 * "9", "0.11", "0.1"], 3 * 0.005),
    ],
)
def test_the_step_of_a_number_is_that_of_its_file(row: list[str], error: float) -> None:
    values = np.array([[float(text) for text in row]])
    assert rounding(values, [row]) == pytest.approx(error, rel=3e-3)


def test_columns_are_read_by_their_names() -> None:
    order = (*SCENES[::-1], "scene_label", "filename")
    rows = table(repr, order)
    assert faults(rows) == []
    rows[3][0] = "lots"  # tram
    assert faults(rows) == ["t, line 4: tram: expected a number, found 'lots'"]
