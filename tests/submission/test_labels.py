"""A label in ASCII from a name in any letters, or a refusal: never a name that lost letters without a word."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from submission.packing.package import pack
from system.errors import ConfigError
from tests.submission.conftest import PEOPLE, MakeRun, ask


def label_of(lastname: str, make_run: MakeRun, tmp_path: Path, label: str | None = None) -> str:
    people = tmp_path / "people.yaml"
    author = {**PEOPLE["authors"][0], "lastname": lastname}
    people.write_text(yaml.safe_dump({**PEOPLE, "authors": [author]}))
    return pack(ask("2022", make_run(), people=people, label=label, draft=True)).labels[0]


@pytest.mark.parametrize(
    ("lastname", "plain"),
    [
        ("Strauß", "Strauss"),
        ("Øverås", "Overas"),
        ("Łukasik-Nowak", "Lukasik-Nowak"),
        ("Ægir Þór", "Aegir-Thor"),
        ("Nguyễn", "Nguyen"),
        ("O’Brien", "O-Brien"),
        ("-x-", "x"),
    ],
)
def test_letters_that_ascii_can_spell(lastname: str, plain: str, make_run: MakeRun, tmp_path: Path) -> None:
    assert label_of(lastname, make_run, tmp_path) == f"{plain}_TU_task1_1"


@pytest.mark.parametrize(
    ("lastname", "words"),
    [("Иванов", "cannot spell И, в, а"), ("Li 王", "cannot spell 王"), ("...", "no letter or digit")],
)
def test_letters_that_it_cannot(lastname: str, words: str, make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"{words}.*; give one with --label"):
        label_of(lastname, make_run, tmp_path)
    assert label_of(lastname, make_run, tmp_path, "Ivanov_TU_task1_1") == "Ivanov_TU_task1_1"
