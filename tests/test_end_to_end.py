"""wav -> search -> QAT -> INT8 ONNX -> zip -> validation, by the scripts a user calls, on recordings made here."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
import yaml
from safetensors import safe_open

from quant.graph import fusion

ROOT = Path(__file__).resolve().parents[1]
RATE, CLIPS, FOLDS = 8000, 36, 3
BUDGET = "3k_params_200k_macs"
SMALL = [
    "features.sample_rate=8000", "features.n_fft=256", "features.win_length=200", "features.hop_length=160",
    "features.n_mels=16", "data.segment_seconds=0.5", "train.batch_size=16", "quant.epochs=1",
    "quant.calibration_segments=32",
]  # fmt: skip
SETTINGS = [word for setting in SMALL for word in ("--set", setting)]


def tone(label: str, seed: int) -> np.ndarray:
    """Two seconds: rising, falling or steady pitch in noise."""
    generator = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    slope = {"rising": 600.0, "falling": -600.0, "steady": 0.0}[label]
    frequency = generator.uniform(1200, 1800) + slope * (time % 0.5)
    return 0.3 * np.sin(2 * np.pi * np.cumsum(frequency) / RATE) + 0.02 * generator.standard_normal(time.size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("recordings")
    rows = []
    for number in range(CLIPS):
        label = ("rising", "falling", "steady")[number % 3]
        soundfile.write(root / f"{number}.wav", tone(label, number), RATE)
        rows.append([f"{number}.wav", label, 1 + number // 3 % FOLDS, f"source{number // 3}"])
    with (root / "meta.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["filename", "label", "fold", "source_id"], *rows])
    return root


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workplace")


def call(workplace: Path, script: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a script of this clone from another folder."""
    environment = {**os.environ, "TINYSCENE_CACHE": str(workplace / "cache"), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *words], cwd=workplace, env=environment, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def search(workplace: Path, folder: Path, trials: int) -> subprocess.CompletedProcess[str]:
    return call(
        workplace, "search/run.py", "--budget", BUDGET, "--dataset", "csv", "--data-root", str(folder), "--trials",
        str(trials), "--epochs", "1", "--final-epochs", "2", "--run", "runs/tiny", *SETTINGS,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(workplace: Path, folder: Path) -> Path:
    """A searched and quantized run."""
    search(workplace, folder, trials=2)
    call(workplace, "quant/run.py", "qat", "--run", "runs/tiny")
    return workplace / "runs/tiny"


def test_the_run_folder_is_what_the_contract_says(run: Path) -> None:
    for name in (
        "config.yaml", "study.db", "search.json", "pareto.csv", "pareto.png", "best/config.yaml",
        "best/model.safetensors", "best/history.csv", "best/scores.json", "best/predictions.csv",
        "best/complexity.json", "quant/brevitas/float.onnx", "quant/brevitas/int8.onnx", "quant/brevitas/parity.json",
        "quant/brevitas/complexity.json", "quant/brevitas/scores.json", "quant/brevitas/predictions.csv",
    ):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    provenance = yaml.safe_load((run / "best/config.yaml").read_text())["provenance"]
    assert {"seed", "git_commit", "data_checksum", "packages"} <= set(provenance)


def test_the_search_stays_inside_the_budget(run: Path) -> None:
    found = json.loads((run / "search.json").read_text())
    trained = [trial for trial in found["trials"] if trial["state"] in ("COMPLETE", "PRUNED")]
    assert len(trained) == 2
    assert all(trial["params"] <= 3_000 and trial["macs"] <= 200_000 for trial in trained)
    assert found["best"]["log_loss"] == min(t["log_loss"] for t in trained if t["state"] == "COMPLETE")
    assert found["pareto"]


def test_the_integer_file_runs_on_integers_and_fits(run: Path) -> None:
    path = run / "quant/brevitas/int8.onnx"
    onnx.checker.check_model(onnx.load(path))
    fused = fusion(path)
    assert fused.conv_integer == fused.conv_total > 0
    cost = json.loads((run / "quant/brevitas/complexity.json").read_text())
    planned = json.loads((run / "best/complexity.json").read_text())
    assert cost["within_budget"]
    assert all(cost[key] == planned[key] for key in ("params", "macs", "weight_bytes", "total_bytes"))
    parity = json.loads((run / "quant/brevitas/parity.json").read_text())
    assert parity["n"] == CLIPS * 4
    assert parity["max_lsb"] <= 2


def test_scores_are_those_of_the_predictions(run: Path) -> None:
    for part in ("best", "quant/brevitas"):
        scores = json.loads((run / part / "scores.json").read_text())
        with (run / part / "predictions.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert scores["n"] == len(rows) == CLIPS // FOLDS * 4
        hits = {label: [] for label in scores["class_wise"]}
        for row in rows:
            hits[row["label"]].append(row["predicted"] == row["label"])
        assert scores["accuracy"] == pytest.approx(np.mean([np.mean(values) for values in hits.values()]))


def test_the_same_command_again_changes_nothing(run: Path, workplace: Path, folder: Path) -> None:
    before = (run / "best/model.safetensors").read_bytes()
    done = search(workplace, folder, trials=2)
    assert "finished; nothing to do" in done.stdout
    assert (run / "best/model.safetensors").read_bytes() == before


def test_other_settings_on_the_run_are_refused(run: Path, workplace: Path, folder: Path) -> None:
    done = call(
        workplace, "search/run.py", "--budget", BUDGET, "--dataset", "csv", "--data-root", str(folder),
        "--final-epochs", "9", "--epochs", "1", "--run", "runs/tiny", *SETTINGS, code=2,
    )  # fmt: skip
    assert "runs/tiny/best: trained for 2 epochs, 9 asked for; give --final-epochs 2" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_package_is_valid_and_a_run_over_its_budget_is_refused(run: Path, workplace: Path) -> None:
    call(workplace, "submission/pack.py", "--edition", "own", "--run", "runs/tiny", "--draft")
    (package,) = (run / "submission").glob("*.zip")
    call(workplace, "submission/validate.py", str(package), "--edition", "own")
    assert zipfile.ZipFile(package).testzip() is None

    path = run / "quant/brevitas/complexity.json"
    kept = path.read_text()
    cost = json.loads(kept)
    path.write_text(json.dumps({**cost, "macs": 250_000}))
    try:
        done = call(
            workplace,
            "submission/pack.py",
            "--edition",
            "own",
            "--run",
            "runs/tiny",
            "--draft",
            "--out",
            "over",
            code=2,
        )
    finally:
        path.write_text(kept)
    assert "50,000" in done.stderr
    assert not (workplace / "over").exists()


def test_train_writes_the_same_best_folder(workplace: Path, folder: Path) -> None:
    model = ["model.width=4", "model.stages=[{depth: 1}]", "model.kernel_size=[3, 3]", "train.epochs=1"]
    words = [word for setting in model for word in ("--set", setting)]
    call(
        workplace, "system/run.py", "train", "--config", str(ROOT / "system/configs/kt_final.yaml"), "--dataset", "csv",
        "--data-root", str(folder), "--run", "runs/trained", *SETTINGS, *words,
    )  # fmt: skip
    best = workplace / "runs/trained/best"
    assert {"config.yaml", "model.safetensors", "history.csv", "scores.json", "predictions.csv", "complexity.json"} <= {
        path.name for path in best.iterdir()
    }
    with safe_open(best / "model.safetensors", framework="np") as file:
        assert "features.mean" in file.keys()  # noqa: SIM118 (not a dictionary)
    done = call(workplace, "system/run.py", "predict", "--run", "runs/trained", str(folder / "0.wav"))
    assert len(done.stdout.splitlines()) == 4
    assert {line.split("\t")[1] for line in done.stdout.splitlines()} <= {"rising", "falling", "steady"}


def test_quantizing_a_run_that_was_never_trained_is_refused(workplace: Path) -> None:
    (workplace / "runs/empty").mkdir(parents=True, exist_ok=True)
    done = call(workplace, "quant/run.py", "qat", "--run", "runs/empty", code=2)
    assert done.stderr.startswith("error: ")
    assert "nothing is trained here" in done.stderr
    assert list((workplace / "runs/empty").iterdir()) == []
