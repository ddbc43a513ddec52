"""Foreign files: every legal form is read, and each way to be wrong is told with its line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from submission.board.tables import Answers, Truth, answers_of, read_answers, read_truth
from system.editions import SCENES
from system.errors import DataError, FormatError
from tests.submission import ranked

FOLD = ranked.fold(1.0)
TRUTH = Truth("runs/a", FOLD.classes, answers_of(FOLD, "runs/a").label)


def same(found: Answers, predictions: ranked.Predictions = FOLD) -> None:
    """The answers are those of `predictions`, whatever the order of rows and columns."""
    expected = answers_of(predictions, "x")
    assert found.label == expected.label
    order = [found.classes.index(name) for name in expected.classes]
    for key, row in expected.row.items():
        np.testing.assert_allclose(found.probabilities[found.row[key]][order], expected.probabilities[row], atol=1e-12)
        assert found.decision[found.row[key]] == expected.decision[row]


@pytest.mark.parametrize("folder", [False, True], ids=["base names", "with folders"])
@pytest.mark.parametrize("classes", [SCENES, SCENES[::-1]], ids=["in order", "reversed"])
def test_output_csv(folder: bool, classes: tuple[str, ...], tmp_path: Path) -> None:
    path = ranked.output(tmp_path / "x.output.csv", FOLD, classes, folder)
    header, *rows = path.read_text().splitlines()
    path.write_text("\r\n".join([header, *rows[::-1]]) + "\r\n", encoding="utf-8-sig", newline="")
    same(read_answers(path, [TRUTH]))


def test_predictions_csv_with_and_without_its_own_labels(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    FOLD.write_csv(path)
    same(read_answers(path, [TRUTH]))
    replace(FOLD, label=("",) * len(FOLD)).write_csv(path)
    same(read_answers(path, [TRUTH]))


def test_the_test_fold_is_found_among_several(tmp_path: Path) -> None:
    animals = Truth("runs/b", ("cat", "dog"), {("1.wav", 0, "a"): "cat"})
    half = Truth("runs/c", FOLD.classes, dict(list(TRUTH.label.items())[:9]))
    same(read_answers(ranked.output(tmp_path / "x.csv", FOLD), [animals, half, TRUTH]))


def test_segments_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    clips = replace(FOLD, filename=tuple(f"{i // 2}.wav" for i in range(len(FOLD))), segment=np.arange(len(FOLD)) % 2)
    truth = Truth("runs/a", clips.classes, answers_of(clips, "x").label)
    path = ranked.output(tmp_path / "x.csv", clips)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *lines[1::2]]) + "\n")
    with pytest.raises(FormatError, match=r"2 segments of 0\.wav; expected columns .*segment, device"):
        read_answers(path, [truth])
    path.write_text("\n".join(f"{'segment' if i == 0 else (i - 1) % 2}\t{line}" for i, line in enumerate(lines)) + "\n")
    same(read_answers(path, [truth]), clips)


def change(line: int, column: int, value: str) -> Callable[[list[list[str]]], None]:
    def apply(table: list[list[str]]) -> None:
        table[line - 1][column] = value

    return apply


def drop(line: int) -> Callable[[list[list[str]]], None]:
    return lambda table: table.pop(line - 1) and None


def twice(line: int) -> Callable[[list[list[str]]], None]:
    return lambda table: table.append(list(table[line - 1]))


FAULTS = {
    "a probability above 1": (change(4, 3, "1.5"), r"x\.csv, line 4: expected probabilities between 0 and 1"),
    "a negative one": (change(4, 3, "-0.1"), r"line 4: expected probabilities between 0 and 1"),
    "not a number": (change(5, 2, "often"), r"line 5: airport: expected a probability, found 'often'"),
    "nan": (change(5, 2, "nan"), r"line 5: expected probabilities between 0 and 1"),
    "a wrong sum": (lambda table: table.__setitem__(5, [*table[5][:2], *["0.2"] * 10]), r"line 6: .*sum to 1, .*2"),
    "an unknown class": (change(7, 1, "trm"), r"line 7: .*scene_label .*did you mean 'tram'"),
    "a row twice": (twice(3), r"line 62: .* was given before, in line 3"),
    "a row missing": (drop(3), r"each of the 60 segments of runs/a; 1 are missing, such as audio/airport"),
    "a row too many": (change(3, 0, "new.wav"), r"1 rows are none of them, such as new\.wav in line 3"),
    "a class missing": (lambda table: [row.pop() for row in table] and None, r"line 1: expected one column .*tram"),
    "a field missing": (lambda table: table[8].pop() and None, r"line 9: expected 12 fields, found 11"),
    "no rows": (lambda table: table.__delitem__(slice(1, None)), r"at least one row below the header"),
    "no label column": (change(1, 1, "label"), r"no column 'scene_label'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_told_with_their_line(name: str, tmp_path: Path) -> None:
    spoil, said = FAULTS[name]
    path = ranked.output(tmp_path / "x.csv", FOLD)
    table = [line.split("\t") for line in path.read_text().splitlines()]
    spoil(table)
    path.write_text("".join("\t".join(row) + "\n" for row in table))
    with pytest.raises((FormatError, DataError), match=said):
        read_answers(path, [TRUTH])


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    with pytest.raises(FormatError, match="does not exist"):
        read_answers(path, [TRUTH])
    path.write_bytes(b"\xff\xfe\x00garbage")
    with pytest.raises((FormatError, DataError), match="cannot be read"):
        read_answers(path, [TRUTH])
    path.write_text("")
    with pytest.raises((FormatError, DataError), match="empty file"):
        read_answers(path, [TRUTH])


def test_labels_of_its_own_must_be_the_true_ones(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    replace(FOLD, label=("tram", *FOLD.label[1:])).write_csv(path)
    with pytest.raises(DataError, match=r"line 2: expected the label 'airport' as in runs/a, found 'tram'"):
        read_answers(path, [TRUTH])


def test_nothing_is_ranked_without_true_labels(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="--reference"):
        read_answers(ranked.output(tmp_path / "x.csv", FOLD), [])


def test_some_rows_are_enough_where_only_what_is_common_counts(tmp_path: Path) -> None:
    path = ranked.output(tmp_path / "x.csv", ranked.part(FOLD, slice(0, 10)))
    with pytest.raises(FormatError, match="50 are missing"):
        read_answers(path, [TRUTH])
    same(read_answers(path, [TRUTH], partial=True), ranked.part(FOLD, slice(0, 10)))


def test_the_choice_of_a_foreign_system_counts_even_if_another_class_is_more_probable(tmp_path: Path) -> None:
    path = ranked.output(tmp_path / "x.csv", FOLD)
    table = [line.split("\t") for line in path.read_text().splitlines()]
    best = table[3][1]
    table[3][1] = next(name for name in SCENES if name != best)
    path.write_text("".join("\t".join(row) + "\n" for row in table))
    found = read_answers(path, [TRUTH])
    assert found.not_most_probable == 1
    assert answers_of(FOLD, "x").not_most_probable == 0


REFERENCES = {
    "predictions.csv": lambda path: FOLD.write_csv(path),
    "DCASE list": lambda path: path.write_text(
        "filename\tscene_label\n" + "".join(f"{n}\t{c}\n" for n, c in zip(FOLD.filename, FOLD.label, strict=True))
    ),
    "meta.csv": lambda path: path.write_text(
        "filename,label,fold,device\n"
        + "".join(f"{n},{c},1,{d}\n" for n, c, d in zip(FOLD.filename, FOLD.label, FOLD.device, strict=True))
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_true_labels_from_a_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    REFERENCES[name](path)
    truth = read_truth(path)
    assert truth.label == TRUTH.label
    same(read_answers(ranked.output(tmp_path / "x.csv", FOLD), [truth]))


def test_a_reference_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "reference.csv"
    for text, said in (
        ("filename\tscene_label\n", "at least one row"),
        ("filename,label\nx.wav,bus\nx.wav,bus\n", "line 3: .*given before"),
        ("filename,segment,label\nx.wav,two,bus\n", "line 2: expected segment to be a whole number"),
        ("name,label\nx.wav,bus\n", "no column 'filename'"),
    ):
        path.write_text(text)
        with pytest.raises((FormatError, DataError), match=said):
            read_truth(path)


def test_a_run_that_answers_a_segment_twice() -> None:
    with pytest.raises(FormatError, match="each segment once"):
        answers_of(replace(FOLD, filename=(FOLD.filename[1], *FOLD.filename[1:]), device=("s1", *FOLD.device[1:])), "x")
    with pytest.raises(FormatError, match="labelled segments"):
        answers_of(replace(FOLD, label=("",) * len(FOLD)), "x")
