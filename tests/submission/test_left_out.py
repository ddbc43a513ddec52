"""What a meta.yaml may leave out or empty differs between the editions, as their validators do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from submission.checks.fault import Fault
from submission.packing.package import pack
from submission.packing.systems import SystemRequest
from submission.validate import validate
from system.errors import ConfigError
from tests.submission.conftest import PEOPLE, Example, Examples, ask, faults_of, guess, members_of


def faults_with(change: Callable[[Any], None], example: Example, path: Path) -> list[Fault]:
    """The faults of an example whose meta.yaml is changed."""
    name = example.file(".meta.yaml")
    meta = yaml.safe_load(example.members[name])
    change(meta)
    members = {**example.members, name: yaml.safe_dump(meta, sort_keys=False, allow_unicode=True).encode()}
    return faults_of(members, path, example.eval_root, example.edition)


def without_template_keys(meta: Any) -> None:
    del meta["system"]["description"]["complexity_management"]
    for key in ("total_parameters_non_zero", "model_size"):
        del meta["system"]["complexity"][key]


def test_2021_does_not_insist_on_what_only_its_template_has(examples: Examples, tmp_path: Path) -> None:
    example, path = examples["2021A"], tmp_path / "x.zip"
    assert faults_with(without_template_keys, example, path) == []
    assert validate(path, "2021A", example.eval_root, runs=[SystemRequest(example.runs)]) == []
    assert len(faults_with(without_template_keys, examples["2020B"], path)) == 3


def test_2020_wants_a_list_of_external_data_sets(examples: Examples, tmp_path: Path) -> None:
    def tell(value: Any) -> Callable[[Any], None]:
        return lambda meta: meta["system"].update(external_datasets=value)

    (fault,) = faults_with(tell(None), examples["2020B"], tmp_path / "x.zip")
    assert "external_datasets: expected a list, found nothing" in fault.message
    assert faults_with(tell([]), examples["2020B"], tmp_path / "x.zip") == []
    assert faults_with(tell(None), examples["2021A"], tmp_path / "x.zip") == []


def test_a_people_file_must_tell_them(examples: Examples, tmp_path: Path) -> None:
    example, people = examples["2020B"], tmp_path / "people.yaml"

    def packed(told: dict[str, Any]) -> bytes:
        people.write_text(yaml.safe_dump(told))
        request = ask(
            "2020B", example.runs, people=people, eval_root=example.eval_root, label_map=example.label_map, out=tmp_path
        )
        return members_of(pack(request, guess))[example.file(".meta.yaml")]

    silent = {key: value for key, value in PEOPLE.items() if key != "external_datasets"}
    with pytest.raises(ConfigError, match=r"--people must provide system\.external_datasets$"):
        packed(silent)
    assert b"external_datasets: []" in packed({**silent, "external_datasets": []})


def test_a_draft_of_2020_needs_no_people(examples: Examples, tmp_path: Path) -> None:
    example = examples["2020B"]
    pack(ask("2020B", example.runs, draft=True, label_map=example.label_map, out=tmp_path))
