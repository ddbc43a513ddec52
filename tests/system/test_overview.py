"""What `system/run.py data` says of a data set, and `train` of a class that a part is without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from system import run as commands
from system.dataset import prepare
from system.overview import absences
from system.spec import DataSpec
from tests.tiny import FEATURES

ROWS = [(f"{label}{n}.wav", label, 1 + n % 2) for label in ("dog", "rain") for n in range(8)] + [("owl.wav", "owl", 2)]


def test_the_command(cache: Path, csv_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = csv_folder(ROWS)
    soundfile.write(root / "dog0.wav", 0.1 * np.random.default_rng(0).standard_normal(20000), 8000)
    commands.main(
        ["data", "--dataset", "csv", "--data-root", str(root), "--set", f"features={json.dumps(FEATURES.plain())}"]
    )
    first, _, *lines = capsys.readouterr().out.splitlines()
    assert first == "csv: 3 classes (dog, owl, rain)"
    assert [line.split(";")[0] for line in lines] == [
        "  train: 7 segments of 7 clips, 7 sources",
        "  validation: 2 segments of 2 clips, 2 sources",
        "  test: 10 segments of 8 clips, 8 sources",
        "  0.3 minutes in all, in clips of 1 to 2.5 s",
        "  clips of       train  validation        test",
        "  dog                3           1           4",
        "  owl                1           0           0",
        "  rain               3           1           4",
        "  class 'owl' is not in the validation part",
        "  class 'owl' is not in the test fold",
    ]


def test_a_training_tells_what_nothing_is_known_of(
    cache: Path, csv_folder: Callable[..., Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = csv_folder(ROWS)

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("system.experiment.check_sources", ended)
    with pytest.raises(KeyboardInterrupt):
        commands.main(["train", "--dataset", "csv", "--data-root", str(root), "--run", str(root / "run")])
    assert "\nclass 'owl' is not in the test fold\n" in "\n" + capsys.readouterr().err


def test_a_part_that_is_empty_is_without_nothing(cache: Path, csv_folder: Callable[..., Path]) -> None:
    data = DataSpec(dataset="csv", root=str(csv_folder(ROWS)), validation_share=0)
    assert list(absences(prepare(data, FEATURES, 0))) == ["class 'owl' is not in the test fold"]
