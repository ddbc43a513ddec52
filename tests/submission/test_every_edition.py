"""Every edition's package is valid, has the official files and keys, and each class of fault in it is noticed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from submission import archive
from submission.checks.fault import Fault
from submission.formats import FORMATS
from submission.packing.package import pack
from submission.packing.systems import SystemRequest
from submission.schema import value_at
from submission.validate import validate
from system.budget import QUANTITIES, Budget
from system.editions import EDITIONS
from tests.submission.conftest import Example, Examples, Members, ask, guess, members_of

ALL = list(FORMATS)
TABLES = [key for key in ALL if FORMATS[key].outputs]


def checked(example: Example, members: Members, path: Path, runs: bool = False) -> list[Fault]:
    archive.write_zip(path, members)
    systems = [SystemRequest(example.runs, label_map=example.label_map)] if runs else []
    return validate(path, example.edition, example.eval_root, runs=systems)


def meta_of(example: Example) -> Any:
    return yaml.safe_load(example.members[example.file(".meta.yaml")])


@pytest.mark.parametrize("key", ALL)
def test_a_package_is_valid_and_tells_what_was_measured(key: str, examples: Examples, tmp_path: Path) -> None:
    example = examples[key]
    assert checked(example, example.members, tmp_path / "x.zip", runs=True) == []
    costs = json.loads((example.runs[next(iter(example.runs))] / "quant/brevitas/complexity.json").read_text())
    meta = meta_of(example)
    sources = {measure.source: value_at(meta, path) for path, measure in FORMATS[key].measured.items()}
    assert sources["params"] == costs["params"]
    times = 10 if key in ("2020B", "2021A") else 3 if key == "biodcase2026" else 1  # segments of one second
    assert sources.get("macs", times * costs["macs"]) == times * costs["macs"]
    assert sources.get("total_bytes", costs["total_bytes"]) == costs["total_bytes"]


PATHS = {
    "2020B": ["submission/task1/{label}/{label}.output.csv", "submission/task1/{label}/{label}.meta.yaml"],
    "2022": ["task1/{label}/{label}.output.csv", "task1/{label}/{label}.meta.yaml"],
    "2024": [f"task1/{{label}}/{{label}}.output.split_{n}.csv" for n in (5, 10, 25, 50, 100)],
    "2025": ["predictions/{label}/output.csv", "Muller_TU_task1/{label}.py", "predictions/{label}/complexity.json"],
    "biodcase2026": ["{label}/{label}.meta.yaml", "{label}/config_submission.yaml",
                     "{label}/your_submission_model/label_dict.yaml"],
}  # fmt: skip
PATHS |= {"2021A": PATHS["2020B"], "2023": PATHS["2022"]}


@pytest.mark.parametrize("key", PATHS)
def test_files_lie_where_the_organisers_look(key: str, examples: Examples) -> None:
    example = examples[key]
    assert {path.format(label=example.label) for path in PATHS[key]} <= set(example.members)


DESCRIPTION = (
    "input_sampling_rate acoustic_features embeddings data_augmentation machine_learning_method "
    "ensemble_method_subsystem_count decision_making external_data_usage"
)
KEYS = {  # the keys that the public validators ask for
    "2020B": (f"{DESCRIPTION} complexity_management", "total_parameters total_parameters_non_zero model_size"),
    "2021A": (f"{DESCRIPTION}", "total_parameters"),
    "2022": (
        f"{DESCRIPTION} complexity_management pipeline framework",
        "total_parameters total_parameters_non_zero memory_use macs",
    ),
    "2023": (
        f"{DESCRIPTION} complexity_management pipeline framework",
        "total_model_size total_parameters total_parameters_non_zero memory_use macs",
    ),
    "2024": (
        "input_sampling_rate acoustic_features data_augmentation machine_learning_method external_data_usage "
        "complexity_management pipeline framework split_adaptations system_adaptations",
        "total_model_size total_parameters macs",
    ),
}


@pytest.mark.parametrize("key", KEYS)
def test_meta_has_the_official_keys(key: str, examples: Examples) -> None:
    meta, rules = meta_of(examples[key]), EDITIONS[key]
    assert {"submission", "system", "results"} <= set(meta)
    assert {"label", "name", "abbreviation", "authors"} <= set(meta["submission"])
    assert {"description", "complexity", "external_datasets", "source_code"} <= set(meta["system"])
    description, complexity = (set(keys.split()) for keys in KEYS[key])
    assert description <= set(meta["system"]["description"])
    assert complexity <= set(meta["system"]["complexity"])
    if key == "2023":
        assert set(meta["system"]["energy_consumption"]) == {"training", "inference", "baseline_inference"}
    development = meta["results"]["development_dataset"]
    for results in [development[split] for split in rules.splits] or [development]:
        assert set(results["overall"]) == {"accuracy", "logloss"}
        assert set(results["class_wise"]) == set(rules.classes or ())
        assert set(results.get("device_wise", ())) == set(rules.devices or ())


@pytest.mark.parametrize("key", ALL)
def test_every_limit_of_an_edition_is_in_its_meta_file(key: str) -> None:
    rules = EDITIONS[key]
    quantities = Budget.parse(rules.limits).limits() if rules.limits else ()
    sources = {measure.source for measure in FORMATS[key].measured.values()}
    wanted = {QUANTITIES[name][0] for name in quantities}
    assert {
        ("bytes_nonzero" if name == "total_bytes" and not rules.limits_count_zeros else name) for name in wanted
    } <= (sources)


# -- faults -----------------------------------------------------------------------------------------------------------

Draw = Callable[[Any], Any]
Mutate = Callable[[Draw, Example, bytes], bytes]


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


def another_label(draw: Draw, row: list[str], keys: int) -> list[str]:
    best = max(range(keys + 1, len(row)), key=lambda column: float(row[column]))
    worst = min(range(keys + 1, len(row)), key=lambda column: float(row[column]))
    return [*row[:keys], "\0label", *row[keys + 1 : best], row[worst], *row[best + 1 :]]


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


def bad_byte(draw: Draw, example: Example, content: bytes) -> bytes:
    place = draw(st.integers(0, len(content) - 1))
    return content[:place] + b"\xff" + content[place:]


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
LISTED_FAULTS: dict[str, tuple[Mutate, str]] = {
    "row missing": (drop_row, "of the evaluation list are missing"),
    "row of another list": (in_row(lambda draw, row, keys: ["99999999.wav", *row[1:]]), "not in the evaluation list"),
    "a name that is none": (in_row(lambda draw, row, keys: ["x.flac", *row[1:]]), "not in the evaluation list"),
}


def paths_in(value: Any, path: str = "") -> list[str]:
    """Every dotted path of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in items:
        found += [f"{path}.{key}".strip("."), *paths_in(item, f"{path}.{key}")]
    return found


def changed(document: Any, path: str, value: Any) -> bytes:
    """The document with another value at a path; `...` removes it."""
    node = document
    *keys, last = path.split(".")
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is ...:
        del node[int(last) if isinstance(node, list) else last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def at(path: str, value: Any) -> Mutate:
    return lambda draw, example, content: changed(yaml.safe_load(content), path, value)


OPTIONAL = {"2021A": ("complexity_management", "total_parameters_non_zero", "model_size")}


def remove_any(draw: Draw, example: Example, content: bytes) -> bytes:
    document = yaml.safe_load(content)
    optional = OPTIONAL.get(example.edition, ())
    names = [(path, path.rpartition(".")[2]) for path in paths_in(document)]
    keys = [path for path, name in names if not name.isdigit() and name not in optional]
    return changed(document, draw(st.sampled_from(keys)), ...)


def wrong_type(draw: Draw, example: Example, content: bytes) -> bytes:
    """A section instead of a value, or a value instead of a section."""
    document = yaml.safe_load(content)
    path = draw(st.sampled_from([path for path in paths_in(document) if value_of(document, path) is not None]))
    section = isinstance(value_of(document, path), dict | list)
    return changed(document, path, draw(st.sampled_from([1.5, "text"])) if section else {"a": 1})


def value_of(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def over_a_limit(draw: Draw, example: Example, content: bytes) -> bytes:
    limits = Budget.parse(EDITIONS[example.edition].limits or "").limits()
    costs = {QUANTITIES[name][0]: limit for name, limit in limits.items()}
    costs["bytes_nonzero"] = costs.get("total_bytes", 0)
    layout = FORMATS[example.edition]
    path, measure = draw(
        st.sampled_from(
            [(p, m) for p, m in layout.measured.items() if costs.get(m.source) and m.source != "params_nonzero"]
        )
    )
    over = costs[measure.source] / measure.unit + draw(st.integers(1, 10**9))
    return changed(yaml.safe_load(content), path, over if measure.unit > 1 else int(over))


META_FAULTS: dict[str, tuple[Mutate, str]] = {
    "a key missing": (remove_any, ""),
    "a value of another type": (wrong_type, "expected"),
    "another label": (at("submission.label", "Muller_TU_task1_9"), "as in the path"),
    "abbreviation": (at("submission.abbreviation", "eleven chars"), "1 to 10 characters"),
    "two corresponding authors": (at("submission.authors.1.corresponding", True), "exactly one"),
    "no corresponding author": (at("submission.authors.0.corresponding", False), "exactly one"),
    "e-mail": (at("submission.authors.0.email", "at home"), "e-mail"),
    "a draft's name": (at("submission.name", "DRAFT"), "draft"),
    "not YAML": (lambda draw, example, content: content + b"\n]", "not valid YAML"),
    "not UTF-8": (bad_byte, "UTF-8"),
    "an alias": (lambda draw, example, content: b"a: &x 1\nb: *x\n" + content, "alias"),
    "a key twice": (lambda draw, example, content: content + b"results: {}\n", "given before"),
}


def noticed(example: Example, name: str, content: bytes, words: str, path: Path, runs: bool = False) -> None:
    found = checked(example, {**example.members, name: content}, path, runs)
    assert [fault for fault in found if fault.file == name and words in fault.message], found


quick = settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("key", TABLES)
@pytest.mark.parametrize("fault", [*TABLE_FAULTS, *LISTED_FAULTS])
@quick
@given(data=st.data())
def test_a_fault_in_a_table_is_noticed(
    key: str, fault: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example = examples[key]
    if fault in LISTED_FAULTS and example.eval_root is None:
        return
    mutate, words = {**TABLE_FAULTS, **LISTED_FAULTS}[fault]
    tables = [name for name in example.members if name.endswith(".csv") and "output" in name]
    name = data.draw(st.sampled_from(tables))
    noticed(example, name, mutate(data.draw, example, example.members[name]), words, tmp_path / "x.zip")


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("fault", META_FAULTS)
@quick
@given(data=st.data())
def test_a_fault_in_meta_is_noticed(
    key: str, fault: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    mutate, words = META_FAULTS[fault]
    noticed(example, name, mutate(data.draw, example, example.members[name]), words, tmp_path / "x.zip")


@pytest.mark.parametrize("key", [key for key in ALL if EDITIONS[key].limits])
@quick
@given(data=st.data())
def test_a_number_over_a_limit_is_noticed(key: str, examples: Examples, tmp_path: Path, data: st.DataObject) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    content = over_a_limit(data.draw, example, example.members[name])
    noticed(example, name, content, "too many)", tmp_path / "x.zip")


@pytest.mark.parametrize("key", ALL)
@quick
@given(data=st.data())
def test_a_number_that_was_not_measured_is_noticed(
    key: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    scores = (".accuracy", ".logloss", ".accuracy_inference", ".roc_auc_inference")
    scored = [path for path in paths_in(meta_of(example)) if path.endswith(scores)]
    path = data.draw(st.sampled_from([*FORMATS[key].measured, *scored]))
    content = changed(meta_of(example), path, value_of(meta_of(example), path) + data.draw(st.sampled_from([-1, 1])))
    noticed(example, name, content, "as measured", tmp_path / "x.zip", runs=True)


@pytest.mark.parametrize("key", [key for key in TABLES if key != "own"])
def test_results_that_contradict_each_other_are_noticed(key: str, examples: Examples, tmp_path: Path) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    splits = EDITIONS[key].splits
    block = "results.development_dataset" + (f".{splits[-1]}" if splits else "")
    for value, words in (("accuracy", "mean of the class accuracies"), ("logloss", "between those of the classes")):
        content = changed(meta_of(example), f"{block}.overall.{value}", 99.0)
        noticed(example, name, content, words, tmp_path / "x.zip")


@pytest.mark.parametrize("key", ALL)
@quick
@given(data=st.data())
def test_a_file_that_is_missing_or_damaged_is_noticed(
    key: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example, layout = examples[key], FORMATS[key]
    words = {"label": example.label, "team": example.label.rpartition("_")[0]}
    folder = layout.folder.format(**words)
    own = [f"{folder}/{name.format(**words)}" for name in (layout.meta_name, *layout.outputs.values())]
    gone = data.draw(st.sampled_from([*own, *(name.format(**words) for name in layout.needed)]))
    found = checked(example, {k: v for k, v in example.members.items() if k != gone}, tmp_path / "x.zip")
    assert Fault(gone, None, "is missing") in found
    path = tmp_path / "x.zip"
    archive.write_zip(path, example.members)
    content = bytearray(path.read_bytes())
    offset = content.index(gone.encode()) + len(gone) + 8  # inside its packed bytes
    content[offset] ^= 0xFF
    path.write_bytes(bytes(content))
    if len(example.members[gone]) > 40:
        assert any(
            fault.file == gone and "damaged" in fault.message for fault in validate(path, key, example.eval_root)
        )


@pytest.mark.parametrize("key", ALL)
def test_files_that_belong_to_nothing_are_noticed(key: str, examples: Examples, tmp_path: Path) -> None:
    example = examples[key]
    folder = FORMATS[key].folder.format(label=example.label)
    for name in ("notes.exe", f"{folder}/{example.label}_2.output.csv", f"{folder}/deep/er/notes.exe"):
        found = checked(example, {**example.members, name: b"x"}, tmp_path / "x.zip")
        assert any(fault.file == name and "not part of a package" in fault.message for fault in found), name


@pytest.mark.parametrize("key", ALL)
def test_four_systems_in_one_zip_with_the_report(key: str, examples: Examples, tmp_path: Path) -> None:
    example = examples[key]
    report = tmp_path / "report.pdf"
    report.write_bytes(b"%PDF-1.7 four pages")
    packed = pack(
        ask(key, *[example.runs] * 4, people=example.people, eval_root=example.eval_root, label_map=example.label_map,
            report=report, out=tmp_path / "out"),
        guess,
    )  # fmt: skip
    team = example.label.rpartition("_")[0]
    assert packed.labels == tuple(f"{team}_{n}" for n in (1, 2, 3, 4))
    members = members_of(packed)
    assert members[FORMATS[key].report.format(team=team)] == report.read_bytes()
    systems = [SystemRequest(example.runs, label_map=example.label_map)] * 4
    assert validate(packed.zip_path, key, example.eval_root, runs=systems) == []
    five = {**members, **{name.replace("_4", "_5"): value for name, value in members.items() if "_4" in name}}
    assert checked(example, five, tmp_path / "x.zip")
