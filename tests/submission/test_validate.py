"""Each class of fault is noticed, with its file and line; a package of full length is checked in seconds."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from submission import archive
from submission.formats import FORMATS
from submission.packing.rows import output_csv
from submission.validate import main, validate
from system.editions import EDITIONS, SCENES
from system.errors import ConfigError, guarded
from tests.submission.conftest import FOLDER, LABEL, META, OUTPUT, Members, faults_of


def line(number: int, change: Callable[[list[str]], list[str]]) -> Callable[[bytes], bytes]:
    """Change the fields of one line of output.csv, counted from 1."""

    def mutate(content: bytes) -> bytes:
        lines = content.decode().splitlines()
        lines[number - 1] = "\t".join(change(lines[number - 1].split("\t")))
        return ("\n".join(lines) + "\n").encode()

    return mutate


def put(index: int, text: str) -> Callable[[list[str]], list[str]]:
    return lambda fields: [*fields[:index], text, *fields[index + 1 :]]


def another_label(fields: list[str]) -> list[str]:
    return put(1, next(name for name in SCENES if name != fields[1]))(fields)


def drop_line(number: int) -> Callable[[bytes], bytes]:
    return lambda content: b"".join(line for i, line in enumerate(content.splitlines(True), 1) if i != number)


TABLE_FAULTS = {
    "label is not the argmax": (line(7, another_label), 7, "more probable"),
    "label is no class": (line(5, put(1, "bus_stop")), 5, "expected one of airport"),
    "sum": (line(9, lambda fields: [*fields[:2], *(["0.05"] * 10)]), 9, "sum to 1"),
    "negative": (line(4, put(3, "-0.1")), 4, "from 0 to 1"),
    "above one": (line(4, put(3, "1.5")), 4, "from 0 to 1"),
    "nan": (line(4, put(3, "nan")), 4, "from 0 to 1"),
    "infinite": (line(4, put(3, "inf")), 4, "from 0 to 1"),
    "no number": (line(4, put(3, "a lot")), 4, "expected a number"),
    "empty number": (line(4, put(3, "")), 4, "expected a number"),
    "a field too few": (line(3, lambda fields: fields[:-1]), 3, "expected 12 fields, found 11"),
    "a field too many": (line(3, lambda fields: [*fields, "0"]), 3, "expected 12 fields, found 13"),
    "duplicate": (line(8, put(0, "1.wav")), 8, "given before, in line 3"),
    "duplicate in another folder": (line(8, put(0, "audio/1.wav")), 8, "given before, in line 3"),
    "not in the list": (line(8, put(0, "200.wav")), 8, "not in the evaluation list"),
    "row missing": (drop_line(150), None, "148.wav"),
    "column twice": (line(1, put(4, "bus")), 1, "a column occurs twice"),
    "column missing": (line(1, put(4, "monorail")), 1, "missing metro"),
    "not separated by tabs": (lambda content: content.replace(b"\t", b","), 1, "separated by tabs"),
    "not UTF-8": (lambda content: content[:2000] + b"\xff" + content[2000:], None, "UTF-8"),
    "byte order mark": (lambda content: b"\xef\xbb\xbf" + content, 1, "byte order mark"),
    "lines of an old Mac": (lambda content: content.replace(b"\n", b"\r"), 1, "cannot be read as a table: new-line"),
    "no rows": (lambda content: content.splitlines(True)[0], None, "at least one row"),
    "empty": (lambda content: b"", 1, "expected the columns"),
}


@pytest.mark.parametrize("name", TABLE_FAULTS)
def test_faults_of_the_table(package: Members, tmp_path: Path, eval_root: Path, name: str) -> None:
    mutate, number, words = TABLE_FAULTS[name]
    found = faults_of({**package, OUTPUT: mutate(package[OUTPUT])}, tmp_path / "x.zip", eval_root)
    hits = [fault for fault in found if words in fault.message]
    assert hits
    assert all(fault.file == OUTPUT for fault in found)
    assert number is None or hits[0].line == number


def at(path: str, value: Any) -> Callable[[bytes], bytes]:
    """Replace the value of a dotted path in meta.yaml; `...` removes it."""

    def mutate(content: bytes) -> bytes:
        meta = node = yaml.safe_load(content)
        *keys, last = path.split(".")
        for key in keys:
            node = node[int(key)] if isinstance(node, list) else node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
        return yaml.safe_dump(meta, sort_keys=False, allow_unicode=True).encode()

    return mutate


RESULTS = "results.development_dataset"
META_FAULTS = {
    "parameters over the limit": (at("system.complexity.total_parameters", 99_999_999), "128,000 allowed (99,871,999"),
    "macs over the limit": (at("system.complexity.macs", 30_000_001), "(1 too many)"),
    "a count as text": (at("system.complexity.macs", "12"), "expected a whole number"),
    "a count below zero": (at("system.complexity.macs", -1), "expected a whole number"),
    "truth as a count": (at("system.complexity.macs", True), "expected a whole number"),
    "missing key": (at("system.description.pipeline", ...), "system.description.pipeline: is missing"),
    "missing section": (at("results", ...), "results: is missing"),
    "section of another type": (at("system.complexity", [1]), "expected a mapping"),
    "empty text": (at("submission.name", " "), "a text that is not empty"),
    "long abbreviation": (at("submission.abbreviation", "abcdefghijk"), "1 to 10 characters"),
    "other label": (at("submission.label", "Muller_TU_task1_2"), f"expected '{LABEL}'"),
    "no corresponding author": (at("submission.authors.0.corresponding", False), "exactly one"),
    "two corresponding authors": (at("submission.authors.1.corresponding", True), "exactly one"),
    "no authors": (at("submission.authors", []), "at least one entry"),
    "e-mail": (at("submission.authors.0.email", "ada at home"), "e-mail"),
    "missing class": (at(f"{RESULTS}.class_wise.tram", ...), "class_wise.tram: is missing"),
    "unknown class": (at(f"{RESULTS}.class_wise.boat", {"accuracy": 1.0, "logloss": 1.0}), "expected one of"),
    "class without a number": (at(f"{RESULTS}.class_wise.tram.accuracy", None), "from 0 to 100"),
    "accuracy over 100": (at(f"{RESULTS}.overall.accuracy", 101), "from 0 to 100"),
    "infinite loss": (at(f"{RESULTS}.overall.logloss", float("inf")), "finite"),
    "missing device": (at(f"{RESULTS}.device_wise.s6", ...), "device_wise.s6: is missing"),
    "still a draft": (at("submission.name", "DRAFT of mine"), "draft"),
    "placeholder": (at("submission.authors.0.email", "name@example.org"), "placeholder"),
    "data set without length": (at("system.external_datasets.0.total_audio_length", ...), "is missing"),
    "not YAML": (lambda content: b"submission: [\n" + content, "not valid YAML"),
    "a list": (lambda content: b"- 1\n", "expected a mapping of sections"),
    "empty": (lambda content: b"", "expected a mapping of sections"),
    "not UTF-8": (lambda content: content + b"\xff", "UTF-8"),
    "repeated key": (lambda content: content + b"results: {}\n", "given before"),
    "alias": (lambda content: b"a: &x [1]\nb: *x\n" + content, "alias"),
    "keys merged": (
        lambda content: content.replace(b"    macs:", b"    <<:\n      macs:"),
        "system.complexity.<<: expected each key",
    ),
    "object": (lambda content: b"a: !!python/name:os.system\n" + content, "not valid YAML"),
    "a truth that is none": (lambda content: b"a: !!bool maybe\n" + content, "'maybe' is no bool"),
    "a time that is none": (lambda content: b"a: !!timestamp foo\n" + content, "'foo' is no timestamp"),
    "a number of no digits": (lambda content: b'a: !!int ""\n' + content, "'' is no int"),
    "a letter that is none": (lambda content: b'a: "\\UFFFFFFFF"\n' + content, "not valid YAML"),
    "a count of 400 digits": (at("system.complexity.macs", 10**400), "expected a whole number"),
    "a loss of 400 digits": (at(f"{RESULTS}.overall.logloss", 10**400), "finite"),
    "a count of 6000 digits": (
        lambda content: content.replace(b"  macs: ", b"  macs: 0x" + b"f" * 5000),
        "found a number of too many digits",
    ),
    "half a letter": (at(f"{RESULTS}.class_wise.\ud800", {"accuracy": 1.0, "logloss": 1.0}), "\ud800: expected one of"),
    "deep": (lambda content: b"a: " + b"[" * 100_000, "at most 20 levels"),
    "huge": (lambda content: content + b"#" * (1 << 20), "at most"),
}


@pytest.mark.parametrize("name", META_FAULTS)
def test_faults_of_the_meta_file(package: Members, tmp_path: Path, eval_root: Path, name: str) -> None:
    mutate, words = META_FAULTS[name]
    found = faults_of({**package, META: mutate(package[META])}, tmp_path / "x.zip", eval_root)
    assert any(words in fault.message for fault in found), found
    assert all(fault.file == META for fault in found)
    assert [str(fault).encode() for fault in found]  # each can be printed


def test_a_fault_of_the_meta_file_names_its_line(package: Members, tmp_path: Path, eval_root: Path) -> None:
    content = at("system.complexity.macs", 30_000_001)(package[META])
    (fault,) = faults_of({**package, META: content}, tmp_path / "x.zip", eval_root)
    assert fault.line is not None
    assert content.decode().splitlines()[fault.line - 1].strip() == "macs: 30000001"


def test_null_written_in_the_official_way_is_read(package: Members, tmp_path: Path, eval_root: Path) -> None:
    content = package[META].replace(b"embeddings: null", b"embeddings: !!null")
    assert content != package[META]
    assert faults_of({**package, META: content}, tmp_path / "x.zip", eval_root) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: {META: m[META]}, "is missing"),
        (lambda m: {OUTPUT: m[OUTPUT]}, "is missing"),
        (lambda m: {}, "expected the files of a system"),
        (lambda m: {**m, f"{FOLDER}/notes.txt": b"x"}, "is not part of a package"),
        (lambda m: {**m, "readme.md": b"x"}, "is not part of a package"),
        (lambda m: {f"task2{k[5:]}": v for k, v in m.items()}, "is not part of a package"),
        (lambda m: {k.replace(LABEL, "Mul_ler_TU_task1_1"): v for k, v in m.items()}, "expected a label such as"),
        (lambda m: {k.replace(LABEL, "Muller_TU_task1_7"): v for k, v in m.items()}, "expected a label such as"),
        (lambda m: {k.replace(LABEL, "Muller_TU_task1_2", 1): v for k, v in m.items()}, "is not part of a package"),
        (lambda m: {**m, "DRAFT": b""}, "is a draft"),
    ],
)
def test_faults_of_the_layout(
    package: Members, tmp_path: Path, eval_root: Path, change: Callable[[Members], Members], words: str
) -> None:
    assert any(words in str(fault) for fault in faults_of(change(package), tmp_path / "x.zip", eval_root))


def test_reports_and_folders_are_let_through(package: Members, tmp_path: Path, eval_root: Path) -> None:
    path = tmp_path / "x.zip"
    archive.write_zip(path, {**package, "task1/Muller_TU_task1.technical_report.pdf": b"%PDF-1.7"})
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.mkdir("task1")
    assert validate(path, "2022", eval_root) == []


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (None, 0, "no fault found"),
        (lambda content: content.replace(b"\t", b",", 1), 1, "line 1: expected the columns"),
        (b"no zip", 2, "error: "),
    ],
    ids=["clean", "faults", "not readable"],
)
def test_exit_codes(
    package: Members, tmp_path: Path, eval_root: Path, change: Any, code: int, said: str,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = tmp_path / "x.zip"
    archive.write_zip(path, {**package, OUTPUT: change(package[OUTPUT])} if callable(change) else package)
    if isinstance(change, bytes):
        path.write_bytes(change)
    monkeypatch.setattr("sys.argv", ["validate.py", str(path), "--edition", "2022", "--eval-root", str(eval_root)])
    assert guarded(main) == code
    assert said in "".join(capsys.readouterr())


def test_unknown_edition(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'own'"):
        validate(tmp_path / "x.zip", "owns")


def test_a_fault_is_told_in_one_short_line_that_shows_letters_as_they_follow(
    package: Members, tmp_path: Path, eval_root: Path
) -> None:
    names = ["task1/" + "long" * 15_000, "task1/fdp.\u202egpj", "task1/\u2067a\u2069\u200f"]
    wide = line(4, put(3, "9" * 100_000))(package[OUTPUT])
    found = faults_of({**package, OUTPUT: wide, **dict.fromkeys(names, b"")}, tmp_path / "x.zip", eval_root)
    assert {*names, OUTPUT} == {fault.file for fault in found}
    for told in map(str, found):
        assert len(told) < 2100
        assert told.isprintable()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_a_fault_or_unreadable_never_a_crash(
    package: Members, tmp_path: Path, eval_root: Path, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(package)))
    content = package[name]
    start = data.draw(st.integers(0, len(content) - 1))
    length = data.draw(st.integers(0, 50))
    mutated = content[:start] + data.draw(st.binary(max_size=20)) + content[start + length :]
    for fault in faults_of({**package, name: mutated}, tmp_path / "x.zip", eval_root):
        assert str(fault).isprintable() or fault.file == name


# -- full length ------------------------------------------------------------------------------------------------------


def test_the_official_list_is_checked_in_seconds(package: Members, tmp_path: Path) -> None:
    rows = EDITIONS["2022"].evaluation_rows
    assert rows == 118_800
    values = np.random.default_rng(0).dirichlet(np.ones(10), size=rows)
    keys = [(f"{index}.wav",) for index in range(rows)]
    full = {**package, OUTPUT: output_csv(FORMATS["2022"], SCENES, keys, values)}
    path = tmp_path / "x.zip"
    archive.write_zip(path, full)
    start = time.process_time()  # of this process alone: other work on the machine does not count
    assert validate(path, "2022") == []
    assert time.process_time() - start < 5
    assert "118,600" in faults_of(package, path, None)[0].message


@pytest.mark.parametrize(
    ("row", "told", "last"),
    [
        ("{}.wav\t0\n", 10_001, "has more than 10,000 faults: the others were not looked for"),
        ("{}.wav\tpark" + 10 * "\t2" + "\n", 1, "expected 200 rows, found more than 10,200"),
        ("0.wav\tpark" + 10 * "\tx" + "\n", 1, "expected 200 rows, found more than 10,200"),
    ],
    ids=["too few fields", "other recordings", "one recording again and again"],
)
def test_a_table_of_a_million_faults_is_read_no_further_than_its_faults_are_told(
    package: Members, tmp_path: Path, eval_root: Path, row: str, told: int, last: str
) -> None:
    """Each fault takes time and memory, and nobody reads them all."""
    header = package[OUTPUT].splitlines(True)[0]
    table = header + "".join(row.format(number) for number in range(100_000)).encode()
    found = faults_of({**package, OUTPUT: table}, tmp_path / "x.zip", eval_root)
    assert len(found) == told
    assert found[-1].message == last


def test_faults_of_values_are_told_up_to_the_same_number(package: Members, tmp_path: Path, eval_root: Path) -> None:
    header, first = package[OUTPUT].splitlines(True)[:2]
    rows = [f"{number}.wav\tnowhere".encode() + 10 * b"\tx" + b"\n" for number in range(1, 5000)]
    found = faults_of({**package, OUTPUT: header + first + b"".join(rows)}, tmp_path / "x.zip", eval_root)
    assert len(found) == 10_001
    assert "the others were not looked for" in found[-1].message
