"""The roadmap command: which networks are trained, what is left behind, what a second call repeats."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import system.run
from system import roadmap
from system.config import load_yaml
from system.errors import ConfigError, RunError, guarded
from system.files import write_json
from system.models.kt import ROADMAP
from system.roadmap import chosen_steps, run_roadmap, trainings, work
from system.roadmap_table import Training, markdown, rows_of
from system.runs import locked
from system.spec import DataSpec, ExperimentSpec, FeatureSpec, TrainSpec
from tests import tiny

ROOT = Path(__file__).resolve().parents[2]
FEATURES = FeatureSpec(sample_rate=8000, n_fft=512, win_length=320, hop_length=160)  # 51 frames in a second
RECIPE = TrainSpec(epochs=1, batch_size=8)
NARROW = {"width": 4}
BEST = {"config.yaml", "model.safetensors", "history.csv", "scores.json", "predictions.csv", "complexity.json"}
Folder = Callable[..., Path]


@pytest.fixture
def base(csv_folder: Folder, cache: Path) -> ExperimentSpec:
    """An experiment on 24 seconds of noise, of three classes in two folds."""
    rows = [(f"{n}.wav", tiny.CLASSES[n % 3], n // 12 + 1) for n in range(24)]
    data = DataSpec(dataset="csv", root=str(csv_folder(rows)))
    return ExperimentSpec(data=data, features=FEATURES, train=RECIPE, budget="128k_params")


def seen(run: Path) -> Any:
    return json.loads((run / "roadmap.json").read_text())


def test_steps_are_chosen_by_name_and_stay_in_order() -> None:
    assert chosen_steps(None) == ROADMAP
    assert [step.name for step in chosen_steps("kt_final, kt_stem")] == ["kt_stem", "kt_final"]
    with pytest.raises(ConfigError, match=r"^--steps: unknown step 'kt_finel'; did you mean 'kt_final'\?"):
        chosen_steps("kt_stem,kt_finel")


def test_every_step_gets_the_same_recipe_and_its_own_network(tmp_path: Path) -> None:
    given = ExperimentSpec(features=FeatureSpec(n_mels=64), train=TrainSpec(epochs=7), seed=3, budget="64KiB")
    made = trainings(tmp_path, given, ROADMAP, 2, {"dropout": 0.1})
    assert len(made) == 2 * len(ROADMAP)
    assert {t.spec.train for t in made} == {given.train}
    assert {t.spec.budget for t in made} == {None}  # the rows are the report's, whatever is allowed here
    assert {t.spec.model.dropout for t in made} == {0.1}
    assert [t.spec.model.block for t in made[:3]] == ["plain", "basic", "basic"]
    assert [t.spec.features.n_mels for t in made[:3]] == [32, 32, 64]  # half the bands, as 40 is of 80
    assert (made[0].folder, made[len(ROADMAP)].folder) == (tmp_path / "kt_baseline", tmp_path / "kt_baseline-s4")
    assert [t.spec.seed for t in (made[0], made[-1])] == [3, 4]


def test_a_network_that_cannot_be_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^kt_baseline: model.pool_bands: a pooling with kernel 50x10"):
        trainings(tmp_path, ExperimentSpec(), ROADMAP, 1, {"pool_bands": 50})
    with pytest.raises(ConfigError, match=r"^kt_baseline: model.stages.1.stride: .* does not fit a map of 2x51"):
        trainings(tmp_path, ExperimentSpec(features=FeatureSpec(n_mels=4)), ROADMAP, 1, {})


def test_the_first_and_the_last_step_from_recordings_to_the_table(base: ExperimentSpec, tmp_path: Path) -> None:
    run = tmp_path / "run"
    rows = run_roadmap(run, base, "kt_baseline,kt_final", 2, 1, NARROW, "cpu")
    for name in ("kt_baseline", "kt_baseline-s1", "kt_final", "kt_final-s1"):
        assert {path.name for path in (run / name / "best").iterdir()} >= BEST
    assert load_yaml(run / "kt_final" / "best" / "config.yaml")["model"]["pooling"] == "attentive"
    tables = {f"roadmap.{kind}" for kind in ("csv", "json", "md", "png")}
    assert {path.name for path in run.iterdir() if path.is_file()} == tables
    assert seen(run)["rows"] == json.loads(json.dumps(rows))
    assert seen(run)["settings"]["seeds"] == [0, 1]
    trained = {row["step"]: row for row in rows if row["seeds"]}
    assert set(trained) == {"kt_baseline", "kt_final"}
    for name, row in trained.items():
        scores = [json.loads((run / f / "best/scores.json").read_text()) for f in (name, f"{name}-s1")]
        for metric in ("accuracy", "log_loss"):
            values = [score[metric] for score in scores]
            assert row[metric] == pytest.approx(sum(values) / 2)
            assert row[f"{metric}_spread"] == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
            assert row[f"{metric}_low"] <= row[metric] <= row[f"{metric}_high"]
    with (run / "roadmap.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [line["step"] for line in table] == [step.name for step in ROADMAP]
    assert float(table[0]["log_loss"]) == rows[0]["log_loss"]
    assert table[1]["log_loss"] == ""
    assert (table[0]["params"], table[0]["params_published"]) == ("46118", "46118")
    assert (run / "roadmap.md").read_text() == "\n".join(markdown(rows)) + "\n"
    with Image.open(run / "roadmap.png") as picture:
        assert min(picture.size) > 500


def test_what_is_finished_is_not_trained_again(
    base: ExperimentSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_roadmap(tmp_path, base, "kt_baseline", 1, 1, NARROW, "cpu")
    trained = []
    real = roadmap.train

    def interrupted(training: Training, device: str, what: str) -> None:
        trained.append(training.step.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        real(training, device, what)

    monkeypatch.setattr(roadmap, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_roadmap(tmp_path, base, "kt_baseline,kt_stem,kt_sap", 1, 1, NARROW, "cpu")
    assert trained == ["kt_stem", "kt_sap"]
    assert [row["step"] for row in seen(tmp_path)["rows"] if row["seeds"]] == ["kt_baseline", "kt_stem"]
    assert seen(tmp_path)["rows"][0] == json.loads(json.dumps(first[0]))

    rows = run_roadmap(tmp_path, base, "kt_baseline,kt_stem,kt_sap", 1, 1, NARROW, "cpu")
    assert trained == ["kt_stem", "kt_sap", "kt_sap"]
    assert [row["step"] for row in rows if row["seeds"]] == ["kt_baseline", "kt_stem", "kt_sap"]

    with pytest.raises(RunError, match=r"kt_baseline/best holds another experiment \(train.epochs: 1 there, 2 asked"):
        run_roadmap(tmp_path, base.changed(train=RECIPE.changed(epochs=2)), "kt_final", 1, 1, NARROW, "cpu")


def test_a_step_that_another_process_trains_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    monkeypatch.setattr(roadmap, "train", lambda training, device, what: trained.append((training.step.name, what)))
    todo = trainings(tmp_path, ExperimentSpec(), chosen_steps("kt_baseline,kt_stem,kt_final"), 1, {})
    todo[1].folder.mkdir()
    with locked(todo[1].folder):
        work(todo, "cpu", lambda: None)
    assert [name for name, _ in trained] == ["kt_baseline", "kt_final"]
    assert trained[0][1] == "kt_baseline (1 of 3)"
    assert trained[1][1].endswith("left for all)")


def test_a_row_says_what_was_published_what_is_ours_and_how_far_they_are_apart(tmp_path: Path) -> None:
    every = trainings(tmp_path, ExperimentSpec(), ROADMAP, 1, {})
    scores = {"accuracy": 0.5, "log_loss": 1.5, "train_seconds": 12.0}
    write_json(every[0].best / "scores.json", {**scores, "interval": {"accuracy": [0.4, 0.6], "log_loss": [1.2, 1.9]}})
    first, *rest = rows_of(every, 10)
    assert (first["params"], first["macs"], first["params_apart"], first["macs_apart"]) == (46_118, 29_271_638, 0, 0)
    assert (first["accuracy_published"], first["log_loss_published"]) == (0.44, 1.52)
    assert (first["accuracy_low"], first["log_loss_high"], first["accuracy_spread"]) == (0.4, 1.9, None)
    assert all(row["accuracy"] is None and row["seeds"] == 0 for row in rest)
    assert all(abs(row["params_apart"] or 0) < 0.005 and abs(row["macs_apart"] or 0) < 0.005 for row in rest)
    assert [row["step"] for row in rest if row["params_published"] is None] == [
        "kt_norm_layer", "kt_norm_freq_in", "kt_norm",
    ]  # fmt: skip
    assert rest[-1]["trained"]["deploy"]["macs"] < 30e6
    assert "0.500 [0.400, 0.600]" in markdown([first])[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--steps", "kt_base"], "--steps: unknown step 'kt_base'"),
        (["--seeds", "0"], "--seeds: expected at least 1, found 0"),
        (["--workers", "-1"], "--workers: expected at least 1, found -1"),
        (["--set", "model.wdth=4"], "model.wdth: unknown key, did you mean 'width'"),
        (["--set", "features.n_mels=8"], "kt_baseline: model.stages.1.stride: a pooling with kernel 5x5"),
        (["--dataset", "csv", "--data-root", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["system/run.py", "roadmap", "--device", "cpu", *words])
    assert guarded(system.run.main) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def command(base: ExperimentSpec, *words: str) -> list[str]:
    features = [f"--set=features.{key}={value}" for key, value in FEATURES.plain().items() if value is not None]
    return [
        sys.executable, str(ROOT / "system/run.py"), "roadmap", "--device", "cpu", "--dataset", "csv",
        "--data-root", str(base.data.root), *features, "--set=train.batch_size=8", "--set=model.width=4", *words,
    ]  # fmt: skip


@pytest.mark.slow
def test_two_workers_share_the_steps_and_control_c_reaches_both(base: ExperimentSpec, tmp_path: Path) -> None:
    words = command(base, "--run", "r", "--steps", "kt_baseline,kt_resnet,kt_stem", "--workers", "2")
    words += ["--set=train.epochs=150"]
    both = [tmp_path / "r" / name / "best/.training.ckpt" for name in ("kt_baseline", "kt_resnet")]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not all(path.exists() for path in both) and process.poll() is None:
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert not list(tmp_path.rglob("*.part"))
    assert not (tmp_path / "r/kt_stem/best/.training.ckpt").exists()

    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    rows = seen(tmp_path / "r")["rows"]
    assert [row["step"] for row in rows if row["seeds"]] == ["kt_baseline", "kt_resnet", "kt_stem"]
    for name in ("kt_baseline", "kt_resnet", "kt_stem"):
        epochs = [line.split(",")[0] for line in (tmp_path / "r" / name / "best/history.csv").read_text().splitlines()]
        assert epochs[1:] == [str(n) for n in range(1, 151)]
