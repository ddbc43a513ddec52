"""An edition is data: one entry in system/editions.py and one in submission/formats.py are all it takes."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
import yaml

from submission.formats import FORMATS
from submission.packing.package import pack
from submission.packing.systems import SystemRequest
from submission.schema import Kind, Leaf, Measure, PackageFormat
from submission.validate import validate
from system.editions import EDITIONS, Edition
from system.errors import BudgetError
from tests.submission.conftest import MakeRun, ask, faults_of, guess, made_up, members_of

SOUNDS = ("door", "kettle", "rain", "siren")
RULES = Edition(
    key="kitchen2031",
    title="Kitchen sounds, 2031",
    classes=SOUNDS,
    limits="64kB_2M_macs",
    segment_seconds=2.0,
    splits=("night", "day"),
    evaluation_list="lists/hidden.txt",
    evaluation_rows=30,
    evaluation_name="k{index:03}.flac",
    ranking="accuracy",
    unverified=("what a kettle is",),
)
FORMAT = PackageFormat(
    task="kitchen",
    label="{task}_{institute}_{lastname}_{index}",
    folder="entry/{label}",
    outputs={"night": "night.tsv", "day": "day.tsv"},
    meta_name="about.yaml",
    report="entry/{team}.technical_report.pdf",
    key_columns=("file",),
    label_column="sound",
    delimiter="|",
    meta={
        "submission": {"label": Leaf(Kind.TEXT), "abbreviation": Leaf(Kind.TEXT)},
        "cost": {"kilobytes": Leaf(Kind.AMOUNT), "operations": Leaf(Kind.COUNT)},
    },
    measured={"cost.kilobytes": Measure("total_bytes", unit=1000), "cost.operations": Measure("macs")},
)


@pytest.fixture(autouse=True)
def edition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EDITIONS, "_items", {**EDITIONS._items, RULES.key: RULES})
    monkeypatch.setattr(FORMATS, "_items", {**FORMATS._items, RULES.key: FORMAT})


@pytest.fixture
def kitchen(tmp_path: Path) -> Path:
    path = tmp_path / "kitchen/lists/hidden.txt"
    path.parent.mkdir(parents=True)
    path.write_text("filename\n" + "".join(f"sounds/k{i:03}.flac\n" for i in range(30)))
    return tmp_path / "kitchen"


def test_a_new_edition_is_packed_checked_and_limited(
    make_run: MakeRun, people: Path, kitchen: Path, tmp_path: Path
) -> None:
    costs = {"total_bytes": 60_000, "macs": 900_000, "macs_exact": 900_000}
    runs = {
        name: make_run(name, made_up(SOUNDS, n=80, seed=seed), costs, data={"segment_seconds": 1.0})
        for seed, name in enumerate(RULES.splits)
    }
    packed = pack(ask("kitchen2031", runs, people=people, eval_root=kitchen), guess)
    assert packed.labels == ("kitchen_TU_Muller_1",)
    assert any("what a kettle is" in warning for warning in packed.warnings)
    members = members_of(packed)
    folder = "entry/kitchen_TU_Muller_1"
    assert sorted(members) == [f"{folder}/{name}" for name in ("about.yaml", "day.tsv", "night.tsv")]
    meta = yaml.safe_load(members[f"{folder}/about.yaml"])
    assert meta["cost"] == {"kilobytes": 60.0, "operations": 1_800_000}  # two segments of one second
    rows = list(csv.reader(io.StringIO(members[f"{folder}/day.tsv"].decode()), delimiter="|"))
    assert rows[0] == ["file", "sound", *SOUNDS]
    assert [row[0] for row in rows[1:]] == [f"k{i:03}.flac" for i in range(30)]
    assert validate(packed.zip_path, "kitchen2031", kitchen, runs=[SystemRequest(runs)]) == []
    assert validate(packed.zip_path, "kitchen2031") == []

    told = meta["cost"] | {"kilobytes": 64.5}
    broken = {
        **members,
        f"{folder}/about.yaml": yaml.safe_dump({**meta, "cost": told}).encode(),
        f"{folder}/day.tsv": re.sub(rb"k003.flac\|\w+", b"k003.flac|window", members[f"{folder}/day.tsv"]),
    }
    found = " ".join(map(str, faults_of(broken, tmp_path / "x.zip", kitchen, "kitchen2031")))
    assert "64,500.0 bytes of 64,000 allowed" in found
    assert "expected one of door, kettle" in found

    heavy = make_run("heavy", made_up(SOUNDS, n=80), {**costs, "macs": 1_100_000}, data={"segment_seconds": 1.0})
    with pytest.raises(BudgetError, match="2,200,000 MACs of 2,000,000 allowed"):
        pack(ask("kitchen2031", dict.fromkeys(RULES.splits, heavy), people=people, eval_root=kitchen), guess)
