"""Annotated events -> training -> INT8 -> scores and predicted events, in one process, on tones made here."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from quant import run as quant_run
from submission import pack, validate
from system import run as system_run
from system.checkpoint import load_checkpoint, save_checkpoint
from system.dataset import prepare
from system.errors import RunError
from system.experiment import event_predictions_of
from system.scoring.events import EventPredictions, choose_decoding, over_time
from system.training import logits_of
from tests.tiny import MODEL

RATE, SECONDS = 8000, 2.0
TONES = {"high": 2500.0, "low": 500.0}
SETTINGS = [
    "features.sample_rate=8000", "features.n_fft=256", "features.win_length=200", "features.hop_length=80",
    "features.n_mels=16", "data.segment_seconds=0.2", "data.validation_share=0.3", "train.batch_size=8",
    "train.epochs=12", "train.learning_rate=0.02", "augment.frequency_masks=0",
    "quant.calibration_segments=64", "quant.epochs=1",
    f"model={json.dumps(MODEL.changed(dropout=0.0).plain())}",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three folds of sixteen clips, each with none, one or both of two tones, somewhere."""
    root = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    meta, events = [], []
    for number in range(48):
        samples = 0.01 * generator.standard_normal(round(SECONDS * RATE))
        for bit, (label, frequency) in enumerate(TONES.items()):
            if not number >> bit & 1:
                continue
            start = round(float(generator.uniform(0, 1.2)), 2)
            stop = round(start + float(generator.uniform(0.3, 0.8)), 2)
            inside = slice(round(start * RATE), round(stop * RATE))
            samples[inside] += 0.2 * np.sin(2 * np.pi * frequency * np.arange(len(samples))[inside] / RATE)
            events.append([f"{number}.wav", start, stop, label])
        soundfile.write(root / f"{number}.wav", samples, RATE)
        meta.append([f"{number}.wav", 1 + number // 4 % 3])
    for name, rows in (("meta", [["filename", "fold"], *meta]),
                       ("events", [["filename", "onset", "offset", "label"], *events])):  # fmt: skip
        with (root / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and quantized run."""
    place = tmp_path_factory.mktemp("run")
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYSCENE_CACHE", str(place / "cache"))
        common = ["--run", str(place / "r"), "--device", "cpu"]
        system_run.main(["train", "--dataset", "csv", "--data-root", str(folder), *words, *common])
        quant_run.main(["qat", *common])
    return place / "r"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("part", ["best", "quant/brevitas"])
def test_scores(run: Path, part: str) -> None:
    scores = read(run / part / "scores.json")
    assert (scores["split"], scores["task"], scores["n"], scores["clips"]) == ("test", "events", 160, 16)
    assert scores["mAP"] > 0.95
    assert scores["segment_based"]["f1"] > 0.9
    assert scores["event_based"]["f1"] > 0.8
    assert scores["event_based"]["error_rate"] < 0.3
    assert set(scores["thresholds"]) == set(TONES)
    with (run / part / "events.csv").open() as file:
        found = list(csv.DictReader(file))
    assert {row["label"] for row in found} == set(TONES)
    assert all(0 <= float(row["onset"]) < float(row["offset"]) <= SECONDS for row in found)
    header, *rows = (run / part / "predictions.csv").read_text().splitlines()
    assert header == "filename,segment,device,label,predicted,high,low"
    assert len(rows) == 160


def test_quantization_costs_little(run: Path) -> None:
    parity = read(run / "quant/brevitas/parity.json")
    change = parity["float_vs_int8"]
    assert set(change["int8"]) == {"accuracy", "log_loss", "mAP"}
    assert abs(change["mAP"]) < 0.05
    assert change["float"]["log_loss"] == pytest.approx(read(run / "best/scores.json")["log_loss"], rel=1e-3)
    assert parity["max_lsb"] <= 2


def test_decisions_come_from_the_validation_part_alone(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYSCENE_CACHE", str(run.parent / "cache"))
    checkpoint = load_checkpoint(run / "best/model.safetensors")
    data = prepare(checkpoint.spec.data, checkpoint.spec.features, checkpoint.spec.seed)
    logits = logits_of(checkpoint.network(), data.validation, checkpoint.mean, checkpoint.std)
    chosen, window = choose_decoding(event_predictions_of(data, data.validation, logits))
    assert checkpoint.thresholds == pytest.approx(tuple(chosen), abs=1e-6)
    assert checkpoint.median_window == window
    scores = read(run / "best/scores.json")
    assert tuple(scores["thresholds"].values()) == checkpoint.thresholds
    assert scores["median_window"] == window


def test_float_and_integers_and_predict_decide_by_the_same_medians(
    folder: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a network that has learned little and flickers, by a median of three segments."""

    def of_three(heard: EventPredictions, timed: bool) -> tuple[np.ndarray, int]:
        assert timed
        return choose_decoding(heard)[0], 3

    words = [word for setting in [*SETTINGS, "train.epochs=2"] for word in ("--set", setting)]
    common = ["--run", str(tmp_path / "r"), "--device", "cpu"]
    with monkeypatch.context() as patch:
        patch.setattr("system.experiment.choose_decoding", of_three)
        system_run.main(["train", "--dataset", "csv", "--data-root", str(folder), *words, *common])
        quant_run.main(["ptq", *common])
    quant_run.main(["export", "--run", str(tmp_path / "r"), "--whole"])
    best, integers = tmp_path / "r/best", tmp_path / "r/quant/brevitas"
    written = {place: table(place / "predictions.csv") for place in (best, integers)}
    for place, rows in written.items():
        scores = read(place / "scores.json")
        assert scores["median_window"] == 3
        least = np.array(list(scores["thresholds"].values()))
        by_hand, alone = [], []
        for start in range(0, len(rows), 10):  # of each clip
            p = np.array([[float(row[name]) for name in TONES] for row in rows[start : start + 10]])
            by_hand += ["|".join(np.array(list(TONES))[row]) for row in over_time(p, 3) >= least]
            alone += ["|".join(np.array(list(TONES))[row]) for row in p >= least]
        assert [row["predicted"] for row in rows] == by_hand != alone
    capsys.readouterr()
    sounds = [str(folder / name) for name in dict.fromkeys(row["filename"] for row in written[best])]
    system_run.main(["predict", *common, *sounds])
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(Path(row[0]).name, float(row[1]), float(row[2]), row[3]) for row in printed] == [
        (row["filename"], float(row["onset"]), float(row["offset"]), row["label"]) for row in table(best / "events.csv")
    ]
    expected = {(row["filename"], 0.2 * int(row["segment"])): row["predicted"] or "-" for row in written[integers]}
    shutil.copy(integers / "int8.onnx", tmp_path / "copy.onnx")
    for model in (integers / "int8.onnx", integers / "whole.onnx", tmp_path / "copy.onnx"):
        run = common[:2] if model.parent == tmp_path else []  # a copy is found in its run, with how it decides
        system_run.main(["predict", "--model", str(model), *run, *sounds])
        printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        found = {(Path(row[0]).name, float(row[1])): row[2] for row in printed}
        agree = [found[name, round(start, 1)] == label for (name, start), label in expected.items()]
        assert len(found) == len(expected)
        assert np.mean(agree) > 0.95 if model.name == "whole.onnx" else np.mean(agree) == 1.0, model
    system_run.main(["train", "--refit", "all", *common])
    first, refit = (load_checkpoint(tmp_path / "r" / place / "model.safetensors") for place in ("best", "refit/best"))
    assert (refit.thresholds, refit.median_window) == (first.thresholds, 3)


def test_commands(
    run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TINYSCENE_CACHE", str(run.parent / "cache"))
    again = ["--part", "test", "--predictions", str(tmp_path / "again.csv"), "--device", "cpu"]
    system_run.main(["evaluate", "--run", str(run), *again])
    said = capsys.readouterr().out
    assert (tmp_path / "again.csv").read_bytes() == (run / "best/predictions.csv").read_bytes()
    assert f"mAP {read(run / 'best/scores.json')['mAP']:.4f}" in said
    assert "event based: F1" in said
    names = [f"{number}.wav" for number in (1, 4)]  # a high tone, and nothing; both were tested on
    system_run.main(["predict", "--run", str(run), "--device", "cpu", *(str(folder / name) for name in names)])
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    with (run / "best/events.csv").open() as file:
        written = [row for row in csv.DictReader(file) if row["filename"] in names]
    assert [[Path(row[0]).name, float(row[1]), float(row[2]), row[3]] for row in printed] == [
        [row["filename"], float(row["onset"]), float(row["offset"]), row["label"]] for row in written
    ]
    system_run.main(["data", "--dataset", "csv", "--data-root", str(folder)])
    assert "48 annotated events" in capsys.readouterr().out


def test_a_run_is_evaluated_by_the_decisions_of_its_checkpoint(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As one of before there were medians has them; it predicts by them."""
    monkeypatch.setenv("TINYSCENE_CACHE", str(run.parent / "cache"))
    checkpoint = load_checkpoint(run / "best/model.safetensors")
    save_checkpoint(tmp_path / "best/model.safetensors", replace(checkpoint, thresholds=(2.0, 2.0)))
    system_run.main(["evaluate", "--run", str(tmp_path), "--part", "test", "--device", "cpu"])
    told = "event based: F1 0.0000 [0.0000, 0.0000], macro 0.0000, error rate 1.0000 [1.0000, 1.0000]"
    assert told in capsys.readouterr().out, "nothing is that sure"


def test_of_a_folder_an_event_ends_with_its_clip(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tone = 0.2 * np.sin(2 * np.pi * TONES["high"] * np.arange(round(0.5 * RATE)) / RATE)  # two and a half segments
    soundfile.write(tmp_path / "tone.wav", tone + 0.01 * np.random.default_rng(0).standard_normal(len(tone)), RATE)
    system_run.main(["predict", "--run", str(run), "--device", "cpu", str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path / 'tone.wav'}\t0\t0.5\thigh\n"


def test_scored_events_end_with_their_clip_too(run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYSCENE_CACHE", str(run.parent / "cache"))
    spec = load_checkpoint(run / "best/model.safetensors").spec
    data = prepare(spec.data.model_copy(update={"segment_seconds": 0.3}), spec.features, spec.seed)
    everything = np.full((len(data.test), len(TONES)), 9.0)
    heard = event_predictions_of(data, data.test, everything)
    _, _, rows = next(heard.clips())
    assert len(rows) == 7  # of 2 seconds, the last filled up to 2.1
    assert {(event.onset, event.offset) for event in heard.events(rows)} == {(0.0, SECONDS)}


def test_whether_one_sound_is_there_is_a_task_of_its_own(
    folder: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "set"
    shutil.copytree(folder, root)
    header, *events = (root / "events.csv").read_text().splitlines()
    (root / "events.csv").write_text("\n".join([header, *(line for line in events if line.endswith(",high"))]) + "\n")
    words = [word for setting in [*SETTINGS, "train.epochs=3"] for word in ("--set", setting)]
    common = ["--run", str(tmp_path / "r"), "--device", "cpu"]
    system_run.main(["train", "--dataset", "csv", "--data-root", str(root), *words, *common])
    quant_run.main(["ptq", *common])
    assert read(tmp_path / "r/quant/brevitas/parity.json")["argmax_agreement"] == 1.0
    assert list(read(tmp_path / "r/quant/brevitas/scores.json")["thresholds"]) == ["high"]
    capsys.readouterr()
    integers = str(tmp_path / "r/quant/brevitas/int8.onnx")
    for model in ["--run", str(tmp_path / "r")], ["--model", integers]:
        system_run.main(["predict", *model, str(root / "1.wav")])
        assert "\thigh" in capsys.readouterr().out


def test_it_is_packed_and_valid(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack.main(["--edition", "own_events", "--run", str(run), "--draft", "--out", str(tmp_path)])
    (package,) = tmp_path.glob("*.zip")
    assert validate.main([str(package), "--edition", "own_events", "--run", str(run)]) == 0
    with pytest.raises(RunError, match="give --edition own_events"):
        pack.main(["--edition", "own", "--run", str(run), "--draft"])
