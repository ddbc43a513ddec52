"""The command itself, with real trainings: killed at random moments, interrupted, and by two workers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from search.claims import is_dead
from search.finalists import SEEDS
from search.storage import WORKER, open_study, trials_of, was_trained
from tests import tiny
from tests.search.sleeping import facts

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
FEATURES = {"sample_rate": 8000, "n_fft": 512, "win_length": 320, "hop_length": 320, "n_mels": 24}
TRIALS = 8


@pytest.fixture
def words(csv_folder: Callable[..., Path], cache: Path, tmp_path: Path) -> list[str]:
    rows = [(f"{n}.wav", tiny.CLASSES[n % 3], n // 12 + 1) for n in range(24)]
    features = [f"--set=features.{key}={value}" for key, value in FEATURES.items()]
    return [
        sys.executable, str(ROOT / "search/run.py"), "--device", "cpu", "--budget", "3k_params_1M_macs",
        "--dataset", "csv", "--data-root", str(csv_folder(rows)), *features, "--set=train.batch_size=8",
        "--trials", str(TRIALS), "--epochs", "3", "--final-epochs", "2", "--workers", "2", "--run", "r",
    ]  # fmt: skip


def finished(run: Path) -> dict[int, Any]:
    if not (run / "study.db").is_file():
        return {}
    trials = trials_of(open_study(f"sqlite:///{run}/study.db", "search"))
    return {trial.number: facts(trial) for trial in trials if trial.state.is_finished()}


def test_kill_9_at_ten_random_moments_in_a_row(words: list[str], tmp_path: Path) -> None:
    """The command, or one of its workers, killed; what was finished stays, no network is trained by two trials."""
    generator, run, known = random.Random(1), tmp_path / "r", {}
    for number in range(10):
        with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            begun, count = time.monotonic(), len(known)
            while process.poll() is None and time.monotonic() - begun < 400 and len(finished(run)) <= count:
                time.sleep(0.2)  # it is at work
            time.sleep(generator.uniform(0, 3))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            found = [int(pid) for pid in children.read_text().split()] if children.exists() else []
            victim = generator.choice(found) if found and number % 2 else process.pid
            with suppress(ProcessLookupError):  # a worker that ended by itself
                os.kill(victim, signal.SIGKILL)
            if victim != process.pid:
                time.sleep(generator.uniform(0, 1))
                process.kill()
            process.communicate(timeout=60)
        now = finished(run)
        assert {number: now[number] for number in known} == known
        known = now
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    trials = trials_of(open_study(f"sqlite:///{run}/study.db", "search"))
    assert {number: facts(trials[number]) for number in known} == known
    specs = [json.dumps(trial.user_attrs["spec"]) for trial in trials if was_trained(trial)]
    assert len(specs) == len(set(specs)) == TRIALS
    result = json.loads((run / "search.json").read_text())
    scores = json.loads((run / "best" / "scores.json").read_text())
    assert scores["split"] == "test"
    assert {"log_loss", "accuracy"} <= set(scores["validation"])
    assert result["best"]["spec"]
    assert not list(run.rglob("*.part"))


def test_control_c_reaches_the_workers_and_tells_how_to_continue(words: list[str], tmp_path: Path) -> None:
    words = [*words, "--set", "train.learning_rate=0.002"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begun = time.monotonic()
        while process.poll() is None and time.monotonic() - begun < 400 and not finished(tmp_path / "r"):
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=400)
    assert process.returncode == 130, told
    assert "to continue: python search/run.py --device cpu --budget 3k_params_1M_macs" in told
    assert "train.learning_rate=0.002" in told
    assert "Traceback" not in told
    trials = trials_of(open_study(f"sqlite:///{tmp_path}/r/study.db", "search"))
    left = [trial.user_attrs[WORKER] for trial in trials if trial.state.name == "RUNNING"]
    assert all(is_dead(owner) for owner in left)  # interrupted before it began: taken back when the command continues


def test_finalists_and_int8_go_through_to_the_end(words: list[str], tmp_path: Path) -> None:
    words = [word if word != str(TRIALS) else "3" for word in words]
    words += ["--objective", "int8", "--finalists", "2", "--set", "quant.epochs=1"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "r" / "search.json").read_text())
    whole = [trial for trial in result["trials"] if trial["state"] == "COMPLETE"]
    assert all(trial["float_log_loss"] != trial["log_loss"] for trial in whole)
    told = json.loads((tmp_path / "r" / "finalists.json").read_text())
    assert len(told["trainings"]) == SEEDS * len(told["finalists"])
    assert (tmp_path / "r" / "best" / "scores.json").is_file()
