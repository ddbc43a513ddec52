"""Every edition's package is valid, has the official files and keys, and misses none of them unnoticed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
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
from tests.submission.conftest import Examples, ask, guess, members_of
from tests.submission.mutated import ALL, checked, meta_of, quick


@pytest.mark.parametrize("key", ALL)
def test_a_package_is_valid_and_tells_what_was_measured(key: str, examples: Examples, tmp_path: Path) -> None:
    example = examples[key]
    assert checked(example, example.members, tmp_path / "x.zip", runs=True) == []
    costs = json.loads((example.runs[next(iter(example.runs))] / "quant/brevitas/complexity.json").read_text())
    meta = meta_of(example)
    sources = {measure.source: value_at(meta, path) for path, measure in FORMATS[key].measured.items()}
    assert sources["params"] == costs["params"]
    times = round(EDITIONS[key].segment_seconds or 1)  # segments of one second
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
