"""The whole way on the real recordings beside the repository, briefly: slow, and skipped where they are absent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
BUDGET = "8k_params_1M_macs"
SETS = {
    "esc10": ("esc10_32k", []),
    "esc10_devices": ("esc10_32k", ["data.device_irs={shared}/micirp"]),
    "speech_commands": ("speech_commands_6w_16k", ["features.sample_rate=16000", "features.f_max=8000"]),
}
pytestmark = pytest.mark.slow


def call(where: Path, script: str, *words: str) -> str:
    environment = {**os.environ, "TINYSCENE_CACHE": str(where / "cache")}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words], cwd=where, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def walk(where: Path, data: list[str]) -> Path:
    """search -> QAT -> package of a small network, three epochs long."""
    call(
        where, "search/run.py", "--budget", BUDGET, "--trials", "1", "--epochs", "1", "--final-epochs", "3",
        "--run", "r", "--set", "quant.epochs=1", *data,
    )  # fmt: skip
    call(where, "quant/run.py", "qat", "--run", "r")
    call(where, "submission/pack.py", "--edition", "own", "--run", "r", "--draft")
    (package,) = (where / "r/submission").glob("*.zip")
    call(where, "submission/validate.py", str(package), "--edition", "own")
    return where / "r"


def check(run: Path) -> dict[str, Any]:
    parity = json.loads((run / "quant/brevitas/parity.json").read_text())
    assert parity["argmax_agreement"] >= 0.999
    assert parity["max_lsb"] <= 2
    assert parity["fused"]["conv_integer"] == parity["fused"]["conv_total"]
    scores = json.loads((run / "quant/brevitas/scores.json").read_text())
    assert scores["split"] == "test"
    return {**scores, "compared": parity["n"]}


@pytest.mark.parametrize("name", SETS)
def test_real_recordings(name: str, shared_data: Path, tmp_path: Path) -> None:
    folder, settings = SETS[name]
    extra = [word for setting in settings for word in ("--set", setting.format(shared=shared_data))]
    scores = check(walk(tmp_path, ["--dataset", "csv", "--data-root", str(shared_data / folder), *extra]))
    assert scores["accuracy"] > 1.5 / len(scores["class_wise"])  # above chance after three epochs
    if name == "esc10_devices":
        assert set(scores["device_wise"]) == {"a", "s1", "s2", "s3", "s4", "s5", "s6"}
        assert set(scores["device_groups"]) == {"real", "seen", "unseen"}
    if name == "esc10":
        assert scores["compared"] >= 1000
        assert "clip_accuracy" in scores


def test_a_folder_in_the_tau_layout(tmp_path: Path) -> None:
    """`made` is such a folder: made by one command, then read from where it lies as tau2022."""
    call(tmp_path, "system/run.py", "data", "--dataset", "made")
    (folder,) = {path.parent for path in (tmp_path / "cache").rglob("meta.csv")}
    scores = check(walk(tmp_path, ["--dataset", "tau2022", "--data-root", str(folder)]))
    assert set(scores["device_groups"]) == {"real", "seen", "unseen"}
