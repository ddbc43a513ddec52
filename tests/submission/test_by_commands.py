"""By the commands a team types: one run on the embedded data and one on ESC-10, into a package of every edition."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from submission.formats import FORMATS
from system.editions import BIRDS, EDITIONS, SCENES, Edition
from tests.submission.conftest import INDOOR, PEOPLE, write_list, write_wav

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["train.epochs=1", "model.width=8", "quant.calibration_segments=64"]
ROWS = 21
pytestmark = pytest.mark.slow

SCENE_EDITIONS = [key for key in FORMATS if not EDITIONS[key].events]  # that of events: tests/test_events_end_to_end.py


class Place:
    """A folder where a team works."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "people.yaml").write_text(yaml.safe_dump(PEOPLE, allow_unicode=True), encoding="utf-8")
        for name, devices in (("evaluation", None), ("evaluation_devices", EDITIONS["2025"].evaluation_devices)):
            told = None if devices is None else [devices[i % len(devices)] for i in range(ROWS)]
            write_list(root / name, [f"audio/{i}.wav" for i in range(ROWS)], told)
            for i in range(ROWS):
                write_wav(root / name / f"audio/{i}.wav", 0.1 * np.random.default_rng(i).normal(size=44_100))

    def call(self, script: str, *words: str) -> str:
        environment = {**os.environ, "TINYSCENE_CACHE": str(self.root / "cache"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(ROOT / script), *words], cwd=self.root, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def train(self, run: str, *data: str) -> None:
        settings = [word for setting in QUICK for word in ("--set", setting)]
        self.call("system/run.py", "train", "--run", run, *data, *settings)
        self.call("quant/run.py", "ptq", "--run", run)

    def package(self, key: str, run: str, classes: tuple[str, ...]) -> str:
        """Pack and validate, with a label map where the classes differ."""
        rules = EDITIONS[key]
        runs = [word for part in rules.splits or ("",) for word in ("--run", f"{part}={run}" if part else run)]
        same = list(runs)
        if mapping := label_map(rules, classes):
            path = self.root / f"{key}.map.yaml"
            path.write_text(yaml.safe_dump(mapping))
            same += ["--label-map", str(path)]
        evaluation = "evaluation_devices" if rules.evaluation_devices else "evaluation"
        listed = ["--eval-root", evaluation] if rules.evaluation_list else []
        out = f"{run}-{key}"
        self.call("submission/pack.py", "--edition", key, *same, *listed, "--people", "people.yaml", "--out", out)
        (file,) = (self.root / out).glob("*.zip")
        return self.call("submission/validate.py", str(file), "--edition", key, *same, *listed)


def label_map(rules: Edition, classes: tuple[str, ...]) -> dict[str, object]:
    """Class of a run: class of the edition, as a team would write it; none where they are the same."""
    if rules.classes is None or set(rules.classes) == set(classes):
        return {}
    if rules.key == "2020B":
        return {name: INDOOR.get(name, list(INDOOR.values())[i]) for i, name in enumerate(classes)}
    mapping: dict[str, object] = dict(zip(classes, rules.classes, strict=False))
    return mapping | {"(none)": list(rules.classes[len(classes) :])} if len(rules.classes) > len(classes) else mapping


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("made"))
    place.train("run")
    return place


@pytest.fixture(scope="module")
def esc10(shared_data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = Place(tmp_path_factory.mktemp("esc10"))
    place.train("run", "--dataset", "csv", "--data-root", str(shared_data_folder / "esc10_32k"))
    return place


@pytest.fixture(scope="module")
def shared_data_folder() -> Path:
    from tests.conftest import SHARED_DATA

    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not on this machine")
    return SHARED_DATA


@pytest.mark.parametrize("key", SCENE_EDITIONS)
def test_every_edition_from_the_embedded_data(key: str, made: Place) -> None:
    assert "no fault found" in made.package(key, "run", SCENES)


@pytest.mark.parametrize(
    "key", [key for key in SCENE_EDITIONS if len(EDITIONS[key].classes or SCENES) in (10, len(BIRDS))]
)
def test_every_ten_class_edition_from_real_sounds(key: str, esc10: Place) -> None:
    header = (esc10.root / "run/quant/brevitas/predictions.csv").read_text().splitlines()[0]
    assert "no fault found" in esc10.package(key, "run", tuple(header.split(",")[5:]))
