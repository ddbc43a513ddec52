"""Several processes train one network: by the same command, to the same result within noise, on every row once."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from system.checkpoint import load_checkpoint
from system.errors import ConfigError
from system.files import read_json
from system.options import check_devices
from system.processes import is_first
from system.scoring.predictions import Predictions
from tests.conftest import REPOSITORY

SCRIPT = str(REPOSITORY / "system" / "run.py")
SETTINGS = (
    "features.sample_rate=8000", "features.n_fft=256", "features.win_length=200", "features.hop_length=80",
    "features.n_mels=16", "data.segment_seconds=0.2", "model.width=16", "model.norm=batch", "model.pooling=average",
    "model.stages=[{depth: 1}, {depth: 1, stride: [2, 2], ratio: 2.0}]", "train.epochs=6", "train.batch_size=16",
    "train.average=ema", "augment.mixup_alpha=0.2",
)  # fmt: skip


def test_the_first_process_is_told_by_what_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert is_first()
    for variables, first in (
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            assert is_first() is first


def test_a_number_of_processes_that_cannot_be_is_refused() -> None:
    check_devices("cpu", 2, 3)
    with pytest.raises(ConfigError, match="--devices: expected at least 1, found 0"):
        check_devices("cpu", 0, 1)
    with pytest.raises(ConfigError, match="--nodes: expected at least 1, found -1"):
        check_devices("cpu", 1, -1)


def tones(root: Path) -> Path:
    """A csv folder of two classes, tones below and above, in noise; 91 recordings, an odd number in every part."""
    generator = np.random.default_rng(0)
    (root / "audio").mkdir(parents=True)
    time = np.arange(1600) / 8000
    lines = ["filename,label,fold"]
    for number in range(91):
        high = number % 2
        wave = np.sin(2 * np.pi * (500 + 1500 * high) * time) + generator.standard_normal(1600)
        soundfile.write(root / "audio" / f"{number}.wav", 0.1 * wave, 8000)
        lines.append(f"audio/{number}.wav,{('low', 'high')[high]},{1 + number // 2 % 5}")
    (root / "meta.csv").write_text("\n".join(lines) + "\n")
    return root


class Place:
    """A folder with the tones, where commands are called."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, tones(root / "set")

    def run(self, *words: str) -> str:
        environment = {**os.environ, "TINYSCENE_CACHE": str(self.root / "cache"), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *words, "--device", "cpu"], env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def train(self, name: str, *more: str, settings: Sequence[str] = (), launch: Sequence[str] = ()) -> Path:
        data = ("--dataset", "csv", "--data-root", str(self.data))
        words = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
        said = self.run(*launch, SCRIPT, "train", "--run", str(self.root / name), *data, *words, *more)
        assert said.count("(float, test fold)") == 1
        return self.root / name / "best"


@pytest.mark.slow
def test_two_processes_are_one(tmp_path: Path) -> None:
    place = Place(tmp_path)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29531", "--")
    one = place.train("one")
    found = [place.train("two", "--devices", "2"), place.train("torchrun", "--devices", "2", launch=torchrun)]
    first = read_json(one / "scores.json", "")
    for best in found:
        scores = read_json(best / "scores.json", "")
        assert (scores["n"], scores["validation"]["n"]) == (first["n"], first["validation"]["n"])
        rows = [Predictions.read_csv(folder / "predictions.csv").filename for folder in (one, best)]
        assert rows[0] == rows[1]
        assert scores["accuracy"] > 0.9 < first["accuracy"]
        assert abs(scores["log_loss"] - first["log_loss"]) < 0.15
        # what the history says of the validation part is what the checkpoint does there, in one process
        again = place.run(SCRIPT, "evaluate", "--run", str(best.parent))
        history = train_history(best)
        assert len(history) == 6
        assert f"accuracy {float(history[-1]['accuracy']):.4f}" in again


def train_history(best: Path) -> list[dict[str, str]]:
    with (best / "history.csv").open() as file:
        return list(csv.DictReader(file))


ALIKE = (  # nothing at random, and no statistics of a process's share
    "train.frozen_norms=all", "train.average=none", "augment.mixup_alpha=0", "augment.time_masks=0",
    "augment.frequency_masks=0", "model.dropout=0", "train.optimizer=sgd", "train.epochs=1", "train.batch_size=7",
)  # fmt: skip


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path: Path) -> None:
    """Of seven rows one process has four, the other three; of the last batch, a single row, the other has none."""
    place = Place(tmp_path)
    runs = [place.train(name, "--devices", name, settings=ALIKE) for name in ("1", "2")]
    one, two = (load_checkpoint(best / "model.safetensors").state for best in runs)
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-5)
    losses = [float(train_history(best)[-1]["train_loss"]) for best in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
