"""The packages of every edition with one file changed, and what the validator says of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from submission import archive
from submission.checks.fault import Fault
from submission.formats import FORMATS
from submission.packing.systems import SystemRequest
from submission.validate import validate
from tests.submission.conftest import Example, Members

ALL = list(FORMATS)
TABLES = [key for key in ALL if FORMATS[key].outputs]
Draw = Callable[[Any], Any]
Mutate = Callable[[Draw, Example, bytes], bytes]
quick = settings(max_examples=3, deadline=None, suppress_health_check=list(HealthCheck))


def checked(example: Example, members: Members, path: Path, runs: bool = False) -> list[Fault]:
    archive.write_zip(path, members)
    systems = [SystemRequest(example.runs, label_map=example.label_map)] if runs else []
    return validate(path, example.edition, example.eval_root, runs=systems)


def meta_of(example: Example) -> Any:
    return yaml.safe_load(example.members[example.file(".meta.yaml")])


def noticed(example: Example, name: str, content: bytes, words: str, path: Path, runs: bool = False) -> None:
    found = checked(example, {**example.members, name: content}, path, runs)
    assert [fault for fault in found if fault.file == name and words in fault.message], found


def bad_byte(draw: Draw, example: Example, content: bytes) -> bytes:
    place = draw(st.integers(0, len(content) - 1))
    return content[:place] + b"\xff" + content[place:]
