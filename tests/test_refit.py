"""A run trained anew on everything: its weights are handed in, the scores of its first training are told.

And one that is trained on the whole training fold, validation part included, and scored on the test fold.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import quant.run
import search.run
import submission.leaderboard
import submission.pack
import system.run
from submission.adapt import check_fits
from submission.packing.predict import predict_recordings
from submission.run_parts import load_run
from system.checkpoint import load_checkpoint
from system.config import load_yaml
from system.dataset import prepare
from system.editions import EDITIONS
from system.errors import ConfigError, RunError, TinySceneError
from system.files import read_json, write_json
from system.learning.batches import statistics
from system.scoring.predictions import probabilities_of
from tests import tiny

SMALL = [
    "--device", "cpu", "--set", f"data.segment_seconds={tiny.SECONDS}", "--set", "train.batch_size=8",
    *(word for key in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels")
      for word in ("--set", f"features.{key}={tiny.FEATURES.plain()[key]}")),
    "--set", "model.width=4", "--set", "model.stages=[{depth: 1}, {depth: 1, stride: [2, 2]}]",
    "--set", "model.activation=relu", "--set", "model.norm=batch", "--set", "train.epochs=1",
    "--set", "quant.epochs=1", "--set", "quant.calibration_segments=8", "--set", "temperature=1.5",
]  # fmt: skip
CLIPS = 18


def call(main: object, *words: object) -> None:
    main([str(word) for word in words])  # type: ignore[operator]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with recordings in `set`, a run `first` that is trained and quantized, and its refit, likewise."""
    root = tmp_path_factory.mktemp("refit")
    data = root / "set"
    data.mkdir()
    lines = ["filename,label,fold,source_id"]
    for number in range(CLIPS):
        samples = np.random.default_rng(number).standard_normal(1600) * 0.05 * (1 + number % 3)
        soundfile.write(data / f"{number}.wav", samples, 8000)
        lines.append(f"{number}.wav,{tiny.CLASSES[number % 3]},{number // 6 + 1},{number // 3}")
    (data / "meta.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TINYSCENE_CACHE", str(root / "cache"))
        first = root / "first"
        call(system.run.main, "train", "--run", first, "--dataset", "csv", "--data-root", data, *SMALL)
        call(quant.run.main, "qat", "--run", first, "--device", "cpu")
        before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
        call(system.run.main, "train", "--run", first, "--refit", "all", "--device", "cpu", "--set", "train.epochs=2")
        call(quant.run.main, "qat", "--run", first / "refit", "--device", "cpu")
        assert all(path.read_bytes() == content for path, content in before.items()), "the first training stays"
        yield root


@pytest.fixture
def first(root: Path) -> Path:
    return root / "first"


@pytest.fixture
def refit(root: Path) -> Path:
    return root / "first" / "refit"


def test_it_is_trained_on_everything_and_has_no_scores(first: Path, refit: Path) -> None:
    checkpoint = load_checkpoint(refit / "best/model.safetensors")
    assert checkpoint.spec.data.refit == "all"
    assert checkpoint.spec.train.epochs == 2
    data = prepare(checkpoint.spec.data, checkpoint.spec.features, checkpoint.spec.seed)
    assert (len(data.train), len(data.validation), len(data.test)) == (CLIPS, 0, 0)
    assert len(set(data.train.filename)) == CLIPS
    np.testing.assert_array_equal(checkpoint.mean, statistics(data.train)[0])
    assert not np.array_equal(checkpoint.mean, load_checkpoint(first / "best/model.safetensors").mean)
    names = {path.name for path in refit.rglob("*") if path.is_file()}
    assert {"config.yaml", "model.safetensors", "history.csv", "complexity.json", "int8.onnx", "parity.json"} <= names
    assert not {"scores.json", "predictions.csv"} & names
    assert (refit / "best/history.csv").read_text().startswith("epoch,train_loss,seconds,clips_per_second\n1,")


def test_the_network_and_its_temperature_are_those_of_the_first_training(first: Path, refit: Path) -> None:
    one, other = (load_checkpoint(run / "best/model.safetensors") for run in (first, refit))
    assert other.spec.model == one.spec.model
    assert other.temperature == one.temperature == 1.5
    assert any(not np.array_equal(one.state[key], other.state[key]) for key in one.state)
    costs = [read_json(run / "quant/brevitas/complexity.json", "") for run in (first, refit)]
    assert costs[0]["macs"] == costs[1]["macs"]


def test_parity_is_recorded_of_all_segments_and_what_is_exported_was_decided_before(first: Path, refit: Path) -> None:
    one, other = (read_json(run / "quant/brevitas/parity.json", "") for run in (first, refit))
    assert other["n"] == CLIPS
    assert other["max_lsb"] <= 2
    assert "float_vs_int8" not in other
    assert other["validation"]["exported"] == one["validation"]["exported"]


def test_its_weights_are_packed_with_the_scores_of_the_first_training(root: Path, first: Path, refit: Path) -> None:
    told = {}
    for run in (first, refit):
        call(submission.pack.main, "--edition", "own", "--run", run, "--draft", "--out", root / "out" / run.name)
        with zipfile.ZipFile(next((root / "out" / run.name).glob("*.zip"))) as archive:
            told[run] = {name.rpartition(".")[2]: archive.read(name) for name in archive.namelist()}
    assert told[first]["csv"] == told[refit]["csv"]
    meta = {run: yaml.safe_load(files["yaml"]) for run, files in told.items()}
    assert meta[first]["results"] == meta[refit]["results"]
    assert "on the whole development set" in meta[refit]["system"]["description"]["pipeline"]
    assert "on the whole development set" not in meta[first]["system"]["description"]["pipeline"]
    assert "temperature 1.5," in meta[refit]["system"]["description"]["decision_making"]
    assert json.loads((root / "out/refit/complexity.json").read_text())["trained_on_everything"] is True
    assert "trained on the whole development set" in (root / "out/refit/complexity.md").read_text()


def test_recordings_are_heard_by_the_refit_at_the_temperature_of_the_first_scores(
    root: Path, first: Path, refit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onnxruntime import InferenceSession

    monkeypatch.setenv("TINYSCENE_CACHE", str(root / "cache"))
    run = load_run(refit, "brevitas")
    paths = [root / "set" / f"{number}.wav" for number in range(CLIPS)]
    found = predict_recordings(paths, run)
    checkpoint = load_checkpoint(refit / "best/model.safetensors")
    data = prepare(checkpoint.spec.data, checkpoint.spec.features, checkpoint.spec.seed)
    session = InferenceSession(str(refit / "quant/brevitas/int8.onnx"), providers=["CPUExecutionProvider"])
    logits = session.run(None, {"features": checkpoint.standardize(np.array(data.train.features))})[0]
    order = [data.train.filename.index(path.name) for path in paths]
    np.testing.assert_allclose(found, probabilities_of(logits, 1.5)[order], atol=1e-6)
    assert not np.allclose(found, predict_recordings(paths, load_run(first, "brevitas")))


def test_predict_is_the_refit_at_the_same_temperature(
    root: Path, refit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call(system.run.main, "predict", "--run", refit, "--device", "cpu", root / "set/0.wav")
    by_run = capsys.readouterr().out.split("\t")
    call(system.run.main, "predict", "--model", refit / "quant/brevitas/float.onnx", root / "set/0.wav")
    by_file = capsys.readouterr().out.split("\t")
    assert by_run[1] == by_file[2]
    assert float(by_run[2]) == pytest.approx(float(by_file[3]), abs=2e-4)


def test_predict_gives_the_probabilities_of_the_predictions(
    root: Path, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = list(csv.DictReader(io.StringIO((first / "best/predictions.csv").read_text())))
    call(system.run.main, "predict", "--run", first, "--device", "cpu",
         *(root / "set" / row["filename"] for row in rows))  # fmt: skip
    told = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [label for _, label, _ in told] == [row["predicted"] for row in rows]
    assert [float(p) for _, _, p in told] == pytest.approx([float(row[row["predicted"]]) for row in rows], abs=6e-5)


def test_the_same_command_again_changes_nothing(first: Path, refit: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (refit / "best/model.safetensors").read_bytes()
    call(system.run.main, "train", "--run", first, "--refit", "all", "--set", "train.epochs=2")
    assert "finished; nothing to do" in capsys.readouterr().out
    assert (refit / "best/model.safetensors").read_bytes() == before


MISTAKES = {  # name -> (words after --run, error, what it says)
    "a refit of a refit": (["train", "--refit", "all"], "first/refit", "is itself a refit"),
    "nothing trained": (["train", "--refit", "all"], "nowhere", "nothing is trained here"),
    "another network": (["train", "--refit", "all", "--set", "model.width=8"], "first", "keeps all of"),
    "an experiment besides": (
        ["train", "--refit", "all", "--dataset", "made", "--recipe", "kt"],
        "first",
        "leave --dataset and --recipe out",
    ),
    "another start": (["train", "--refit", "all", "--init", "first"], "first", "leave --init out"),
    "other settings": (["train", "--refit", "all"], "first", "train.epochs: 2 there, 1 asked for"),
    "set by hand": (["train", "--set", "data.refit=all"], "other", "data.refit: is set by"),
    "scored": (["evaluate"], "first/refit", "was trained on everything; evaluate"),
    "a seed that cannot be": (["evaluate", "--seed", "-1"], "first", r"^--seed: seed: .* or equal to 0, found -1$"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told(name: str, root: Path) -> None:
    (command, *words), run, said = MISTAKES[name]
    with pytest.raises(TinySceneError, match=said):
        call(system.run.main, command, "--run", root / run, *words)
    assert not (root / "nowhere").exists()
    assert not (root / "other").exists()


def test_it_is_not_ranked(refit: Path) -> None:
    with pytest.raises(RunError, match="has no scores; rank"):
        submission.leaderboard.main([str(refit)])


@pytest.mark.parametrize("edition", ["2024", "2025"])
def test_an_edition_that_keeps_its_test_part_refuses_it(refit: Path, edition: str) -> None:
    with pytest.raises(RunError, match=f"which edition {edition} forbids"):
        check_fits(EDITIONS[edition], load_run(refit, "brevitas"))


def test_scores_of_other_weights_are_not_taken(refit: Path) -> None:
    path = refit / "quant/brevitas/parity.json"
    kept = path.read_text()
    parity = json.loads(kept)
    other = {"trained": "calibrated", "calibrated": "trained"}[parity["validation"]["exported"]]
    write_json(path, {**parity, "validation": {"exported": other}})
    try:
        with pytest.raises(RunError, match=f"exports {other} weights"):
            load_run(refit, "brevitas")
    finally:
        path.write_text(kept)


def test_without_its_first_training_it_cannot_be_told_of(refit: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "refit"
    moved.parent.mkdir()
    (moved / "best").mkdir(parents=True)
    (moved / "best/config.yaml").write_bytes((refit / "best/config.yaml").read_bytes())
    with pytest.raises(RunError, match="another run must tell its scores"):
        load_run(moved, "brevitas")


@pytest.fixture
def trained_only(first: Path, tmp_path: Path) -> Path:
    """A copy of the run and its refit, neither of them quantized."""
    for part in ("best", "refit/best"):
        shutil.copytree(first / part, tmp_path / "copy" / part)
    return tmp_path / "copy"


def test_quantizing_it_needs_the_first_one_quantized(trained_only: Path) -> None:
    with pytest.raises(RunError, match=r"parity\.json does not exist; python quant/run\.py ptq --run"):
        call(quant.run.main, "ptq", "--run", trained_only / "refit")
    assert not (trained_only / "refit/quant").exists()


def test_where_training_paid_it_is_trained_with_quantization(
    root: Path, trained_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYSCENE_CACHE", str(root / "cache"))
    write_json(trained_only / "quant/brevitas/parity.json", {"validation": {"exported": "trained"}})
    call(quant.run.main, "qat", "--run", trained_only / "refit", "--device", "cpu")
    parity = read_json(trained_only / "refit/quant/brevitas/parity.json", "")
    assert parity["validation"]["exported"] == "trained"
    assert set(parity["validation"]["trained"]) == {"epoch", "seconds"}
    assert not (trained_only / "refit/quant/brevitas/scores.json").exists()


def test_its_settings_say_so(refit: Path) -> None:
    assert load_yaml(refit / "best/config.yaml")["data"]["refit"] == "all"
    with pytest.raises(ConfigError, match=r"data\.refit"):
        call(system.run.main, "data", "--config", refit / "best/config.yaml")


def test_without_a_validation_part_the_whole_training_fold_is_trained_on(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYSCENE_CACHE", str(root / "cache"))
    whole = root / "whole"
    small = [word for word in SMALL if word != "temperature=1.5"][:-1]
    words = ["--dataset", "csv", "--data-root", root / "set", *small, "--set", "data.validation_share=0"]
    call(system.run.main, "train", "--run", whole, *words)
    call(quant.run.main, "qat", "--run", whole, "--device", "cpu")
    spec = load_checkpoint(whole / "best/model.safetensors").spec
    data = prepare(spec.data, spec.features, spec.seed)
    assert (len(data.train), len(data.validation), len(data.test)) == (12, 0, 6)
    scores = read_json(whole / "best/scores.json", "")
    assert scores["n"] == 6
    assert "validation" not in scores
    assert scores["temperature"]["value"] == 1.0
    parity = read_json(whole / "quant/brevitas/parity.json", "")
    assert parity["validation"]["exported"] == "trained"
    assert parity["float_vs_int8"]["float"]["log_loss"] == pytest.approx(scores["log_loss"], rel=1e-4)
    call(submission.pack.main, "--edition", "own", "--run", whole, "--draft", "--out", root / "out" / "whole")
    again = ["--part", "test", "--predictions", root / "again.csv", "--device", "cpu"]
    call(system.run.main, "evaluate", "--run", whole, *again)
    assert (root / "again.csv").read_bytes() == (whole / "best/predictions.csv").read_bytes()
    refused = "data.validation_share: .* chooses on a validation part"
    with pytest.raises(ConfigError, match=refused):
        call(system.run.main, "evaluate", "--run", whole, "--device", "cpu")
    with pytest.raises(ConfigError, match=refused):
        call(system.run.main, "specialize", "--run", whole, "--device", "cpu")
    with pytest.raises(ConfigError, match=refused):
        call(search.run.main, "--budget", "64KiB", "--run", root / "none", *words)
    assert not (root / "none").exists()
