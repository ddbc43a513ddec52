"""A run on sound events is packed as what it decided in each segment, and as the list of sounds that follows."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from submission.packing.package import pack
from submission.packing.systems import SystemRequest
from submission.validate import validate
from system.errors import FormatError, RunError
from system.files import read_json, write_json
from tests.submission.conftest import SOUNDING, Example, Examples, MakeRun, ask, guess, write_answers
from tests.submission.mutated import checked, meta_of, noticed


@pytest.fixture
def example(examples: Examples) -> Example:
    return examples["own_events"]


def table(example: Example, ending: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(example.members[example.file(ending)].decode()), delimiter="\t"))


def test_the_tables_are_what_the_run_answered(example: Example) -> None:
    quant = example.runs[""] / "quant" / "brevitas"
    with (quant / "predictions.csv").open(newline="") as file:
        answered = list(csv.DictReader(file))
    rows = table(example, ".output.csv")
    assert list(rows[0]) == ["filename", "segment", "device", "event_labels", *SOUNDING]
    assert [row["event_labels"] for row in rows] == [row["predicted"] for row in answered]
    assert any("|" in row["event_labels"] for row in rows)
    assert "" in {row["event_labels"] for row in rows}, "silence is an answer"
    for name in SOUNDING:
        assert [float(row[name]) for row in rows] == [float(row[name]) for row in answered]
    with (quant / "events.csv").open(newline="") as file:
        sounds = list(csv.DictReader(file))
    listed = table(example, ".events.csv")
    assert list(listed[0]) == ["filename", "device", "onset", "offset", "event_label"]
    assert [list(row.values()) for row in listed] == [list(row.values()) for row in sounds]


def test_meta_tells_how_sounds_are_decided_and_scored(example: Example) -> None:
    meta = meta_of(example)
    scores = read_json(example.runs[""] / "quant/brevitas/scores.json", "")
    assert meta["task"]["thresholds"] == dict.fromkeys(SOUNDING, 0.5)
    assert (meta["task"]["median_window"], meta["task"]["segment_seconds"]) == (3, 1.0)
    overall = meta["results"]["development_dataset"]["overall"]
    assert overall["mAP"] == pytest.approx(scores["mAP"], abs=1e-6)
    for kind in ("segment_based", "event_based"):
        for key in ("f1", "error_rate"):
            assert overall[kind][key] == pytest.approx(scores[kind][key], abs=1e-6)
    assert "median probability of 3 segments" in meta["system"]["description"]["decision_making"]


def test_the_package_is_valid_and_its_numbers_are_the_run_s(example: Example, tmp_path: Path) -> None:
    assert checked(example, example.members, tmp_path / "x.zip", runs=True) == []
    for path in ("mAP", "segment_based.f1", "event_based.error_rate"):
        meta = meta_of(example)
        *sections, last = ["results", "development_dataset", "overall", *path.split(".")]
        inner = meta
        for section in sections:
            inner = inner[section]
        inner[last] = inner[last] / 2
        name = example.file(".meta.yaml")
        noticed(example, name, yaml.safe_dump(meta).encode(), "as measured", tmp_path / "x.zip", runs=True)


def test_the_report_tells_the_scores_of_events(quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    pack(ask("own_events", quantized_runs["events"], draft=True, out=tmp_path), guess)
    text = (tmp_path / "technical_report.md").read_text()
    scores = read_json(quantized_runs["events"] / "quant/brevitas/scores.json", "")
    assert f"| mean average precision | {scores['mAP']:.3f} |" in text
    assert f"| error rate of events | {scores['event_based']['error_rate']:.3f} |" in text
    assert "| dog, average precision | " in text
    assert "accuracy" not in text


Rows = list[list[str]]


def line(number: int, change: Callable[[list[str]], list[str]]) -> Callable[[Rows], Rows]:
    return lambda rows: [change(list(row)) if at == number else row for at, row in enumerate(rows)]


def cell(number: int, column: int, text: str) -> Callable[[Rows], Rows]:
    return line(number, lambda row: [*row[:column], text, *row[column + 1 :]])


FAULTS: dict[str, tuple[str, Callable[[Rows], Rows], str]] = {
    "a class that is none": (".output.csv", cell(1, 3, "nowhere"), "expected different classes of dog, rain, siren"),
    "a class twice": (".output.csv", cell(1, 3, "dog|dog"), "expected different classes"),
    "no probability": (".output.csv", cell(1, 5, "1.5"), "from 0 to 1"),
    "a sound of no class": (".events.csv", cell(1, 4, "nowhere"), "expected one of dog, rain, siren"),
    "a sound that ends before it begins": (".events.csv", cell(1, 3, "0"), "an onset before its offset"),
    "an onset that is no number": (".events.csv", cell(1, 2, "soon"), "an onset before its offset"),
    "an onset before the recording": (".events.csv", cell(1, 2, "-1"), "an onset before its offset"),
    "an endless sound": (".events.csv", cell(1, 3, "inf"), "an onset before its offset"),
    "a recording that was not heard": (".events.csv", cell(1, 0, "other.wav"), "is in no segment of 'other.wav'"),
    "a sound twice": (".events.csv", lambda rows: [*rows, rows[1]], "before the one before it ends"),
    "no sounds": (".events.csv", lambda rows: rows[:1], "as the table has it"),
    "a field too few": (".events.csv", line(1, lambda row: row[:-1]), "expected 5 fields"),
    "another header": (".events.csv", cell(0, 4, "label"), "expected the columns filename, device, onset"),
}


@pytest.mark.parametrize(("ending", "change", "words"), FAULTS.values(), ids=FAULTS)
def test_faults_of_the_tables_are_noticed(
    example: Example, tmp_path: Path, ending: str, change: Callable[[Rows], Rows], words: str
) -> None:
    name = example.file(ending)
    rows = [text.split("\t") for text in example.members[name].decode().splitlines()]
    content = "".join("\t".join(row) + "\n" for row in change(rows)).encode()
    noticed(example, name, content, words, tmp_path / "x.zip")


def test_what_the_table_decides_and_the_list_lacks_is_told_once(example: Example, tmp_path: Path) -> None:
    name = example.file(".events.csv")
    first, *others = example.members[name].decode().splitlines(keepends=True)
    filename, device, _, _, label = others[0].rstrip("\n").split("\t")
    kept = [row for row in others if not (row.startswith(f"{filename}\t") and row.endswith(f"\t{label}\n"))]
    found = checked(example, {**example.members, name: (first + "".join(kept)).encode()}, tmp_path / "x.zip")
    assert [fault.message for fault in found] == [
        f"expected {label} in {filename!r} on device {device!r}, as the table has it"
    ]


def test_nothing_heard_is_an_answer(example: Example, tmp_path: Path) -> None:
    output, sounds = example.file(".output.csv"), example.file(".events.csv")
    rows = [text.split("\t") for text in example.members[output].decode().splitlines()]
    silent = [rows[0], *([*row[:3], "", *row[4:]] for row in rows[1:])]
    header = example.members[sounds].splitlines(keepends=True)[0]
    content = "".join("\t".join(row) + "\n" for row in silent).encode()
    assert checked(example, {**example.members, output: content, sounds: header}, tmp_path / "x.zip") == []


def test_a_missing_list_of_sounds_is_a_fault(example: Example, tmp_path: Path) -> None:
    name = example.file(".events.csv")
    members = {key: value for key, value in example.members.items() if key != name}
    assert [(fault.file, fault.message) for fault in checked(example, members, tmp_path / "x.zip")] == [
        (name, "is missing")
    ]


@pytest.mark.parametrize("key", ["own", "2022"])
def test_an_edition_of_scenes_names_the_one_of_events(key: str, quantized_runs: dict[str, Path]) -> None:
    with pytest.raises(RunError, match=rf"sound events.*edition {key} is of one class.*--edition own_events"):
        pack(ask(key, quantized_runs["events"], draft=True), guess)


def test_the_edition_of_events_names_the_one_of_scenes(quantized_runs: dict[str, Path]) -> None:
    with pytest.raises(RunError, match=r"one class for each recording.*own_events is of sound events.*--edition own$"):
        pack(ask("own_events", quantized_runs["scenes"], draft=True), guess)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("events.csv", None, "events.csv does not exist; python quant/run.py writes it"),
        ("events.csv", lambda text: text.replace("onset", "start"), "expected the columns filename,device,onset"),
        ("events.csv", lambda text: text + "a,b\n", "expected the columns"),
        ("events.csv", lambda text: "", "not a CSV file"),
        ("predictions.csv", lambda text: text.replace(",dog,", ",cat,"), "expected classes of its header, found"),
    ],
    ids=["no list", "other columns", "a short row", "an empty list", "an unknown class"],
)
def test_damaged_answers_are_named(make_run: MakeRun, file: str, change: Any, words: str) -> None:
    run = make_run()
    quant = run / "quant" / "brevitas"
    write_answers(quant, SOUNDING, ("a",), events=True)
    path = quant / file
    if change is None:
        path.unlink()
    else:
        header, _, body = path.read_text().partition("\n")
        text = f"{header}\n{body}"
        path.write_text(change(text) if file == "events.csv" else f"{header}\n{change(body)}")
    with pytest.raises(FormatError) as caught:
        pack(ask("own_events", run, draft=True), guess)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_tags_without_a_time_have_no_scores_in_time(make_run: MakeRun) -> None:
    run = make_run()
    quant = run / "quant" / "brevitas"
    write_answers(quant, SOUNDING, ("a",), events=True)
    scores = read_json(quant / "scores.json", "")
    for kind in ("segment_based", "event_based"):
        del scores[kind]
    write_json(quant / "scores.json", scores)
    packed = pack(ask("own_events", run, draft=True), guess)
    assert validate(packed.zip_path, "own_events", runs=[SystemRequest({"": run})]) == []
