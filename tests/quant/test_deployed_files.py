"""A deployed file predicts by itself: it decides as the run was scored, and what cannot predict is refused."""

from __future__ import annotations

import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from quant import run as commands
from quant.deployment.waveform import signals, write_whole
from system import run as system_commands
from system.checkpoint import save_checkpoint
from system.errors import RunError, TinySceneError
from system.files import write_json
from system.prediction.onnx_file import KEY, open_classifier, open_session, path_probabilities, predict
from system.prediction.raw_stream import Pcm

from .conftest import CLASSES, RATE, Quantized, checkpoint_of, only


@only("inverted")
def test_the_temperature_and_the_thresholds_are_in_the_file(quantized: Quantized, tmp_path: Path) -> None:
    sharp, soft = (checkpoint_of(quantized, value) for value in (0.5, 4.0))
    events = checkpoint_of(quantized, 1.0, (0.5,) * CLASSES)
    largest = []
    for checkpoint in (sharp, soft, events):
        write_whole(checkpoint, quantized.path, tmp_path / "whole.onnx")
        classifier = open_classifier(tmp_path / "whole.onnx")
        assert classifier.about.thresholds == (None if checkpoint.thresholds is None else [0.5] * CLASSES)
        p = classifier.probabilities(signals(checkpoint))
        largest.append(p.max(axis=1).mean())
        sums = p.sum(axis=1)
        assert (abs(sums - 1).max() < 1e-5) == (checkpoint.thresholds is None)
    assert largest[0] > largest[1]
    names, _ = classifier.label(np.array([0.9, 0.1, 0.6, 0.2]))
    assert names == "a|c"
    assert classifier.label(np.zeros(CLASSES))[0] == "-"


@only("inverted")
def test_integers_decide_by_the_thresholds_they_were_scored_with(deployable: Path, quantized: Quantized) -> None:
    of_float, of_integers = (0.5,) * CLASSES, tuple(0.1 * (1 + c) for c in range(CLASSES))
    of_run = replace(checkpoint_of(quantized, 1.0, of_float), median_window=7)
    save_checkpoint(deployable / "best" / "model.safetensors", of_run)
    folder = deployable / "quant" / "brevitas"
    shutil.copy(folder / "int8.onnx", folder / "float.onnx")
    about = open_classifier(folder / "int8.onnx").about
    assert (about.thresholds, about.median_window) == (of_float, 7), "not scored yet"
    scores = {"thresholds": dict(zip("abcd"[:CLASSES], of_integers, strict=True)), "median_window": 3}
    write_json(folder / "scores.json", scores)
    commands.main(["export", "--run", str(deployable), "--whole", "--ort"])
    for name in ("int8.onnx", "int8.ort", "whole.onnx", "whole.ort"):
        about = open_classifier(folder / name).about
        assert about.thresholds == pytest.approx(of_integers), name
        assert about.median_window == 3, name
    about = open_classifier(folder / "float.onnx").about
    assert (about.thresholds, about.median_window) == (of_float, 7)
    del scores["median_window"]  # scored before there were medians
    write_json(folder / "scores.json", scores)
    assert open_classifier(folder / "int8.onnx").about.median_window == 1


@only("inverted")
@pytest.mark.parametrize(("key", "value"), [("temperature", 3.0), ("thresholds", {"a": 0.5}), ("thresholds", [0.5])])
def test_scores_that_were_rewritten_are_refused(deployable: Path, key: str, value: object) -> None:
    folder = deployable / "quant" / "brevitas"
    write_json(folder / "scores.json", {key: value})
    with pytest.raises(RunError, match=rf"scores\.json: {key} cannot be read .*; quantize the run again"):
        open_classifier(folder / "int8.onnx")


@only("inverted")
def test_the_float_network_beside_the_integers_keeps_its_own_temperature(deployable: Path) -> None:
    folder = deployable / "quant" / "brevitas"
    shutil.copy(folder / "int8.onnx", folder / "float.onnx")
    write_json(folder / "scores.json", {"temperature": {"value": 3.0}})
    assert open_classifier(folder / "int8.onnx").about.temperature == 3.0
    assert open_classifier(folder / "float.onnx").about.temperature == 1.7


@only("silu_resnorm_attentive")
def test_the_commands_export_and_predict(
    deployable: Path, quantized: Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.main(["export", "--run", str(deployable), "--whole", "--ort", "--c-array"])
    folder = deployable / "quant" / "brevitas"
    written = {path.name for path in folder.iterdir()}
    assert {"whole.onnx", "whole.ort", "int8.ort", "weights.c", "weights.h", "weights.json"} <= written
    sounds = tmp_path / "sounds"
    (sounds / "deeper").mkdir(parents=True)
    segments = signals(checkpoint_of(quantized))
    soundfile.write(sounds / "one.wav", segments[3:6].reshape(-1), RATE, subtype="FLOAT")
    soundfile.write(sounds / "deeper" / "two.wav", segments[7], RATE, subtype="FLOAT")
    (sounds / "notes.txt").write_text("not a recording")
    expected = path_probabilities(open_session(quantized.path), checkpoint_of(quantized), segments[[7, 3, 4, 5]])
    for model in ("whole.onnx", "whole.ort", "int8.onnx"):
        capsys.readouterr()
        system_commands.main(["predict", "--model", str(folder / model), str(sounds)])
        rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
        assert [Path(row[0]).name for row in rows] == ["two.wav", "one.wav", "one.wav", "one.wav"]
        assert [row[1] for row in rows] == ["0", "0", "1", "2"]
        assert [row[2] for row in rows] == ["abcd"[i] for i in expected.argmax(axis=1)]
        np.testing.assert_allclose([float(row[3]) for row in rows], expected.max(axis=1), atol=2e-4)
        assert all(float(row[4]) > 0 for row in rows)


@only("inverted")
def test_a_stream_is_read_as_a_recording_is(
    deployable: Path, quantized: Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = tmp_path / "whole.onnx"
    write_whole(checkpoint_of(quantized), quantized.path, whole)
    samples = signals(checkpoint_of(quantized))[3:6].reshape(-1)
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="PCM_16")
    stored = soundfile.read(tmp_path / "a.wav", dtype="int16")[0].tobytes()
    predict(whole, [tmp_path / "a.wav"], None, 0.5, None)
    expected = [line.split("\t")[1:4] for line in capsys.readouterr().out.splitlines()]
    predict(whole, [Path("-")], None, 0.5, Pcm(stream=io.BytesIO(stored)))
    found = [line.split("\t")[1:4] for line in capsys.readouterr().out.splitlines()]
    assert found == expected
    assert [row[0] for row in found] == ["0", "0.5", "1", "1.5", "2"]


@only("inverted")
def test_files_that_cannot_predict_are_refused(deployable: Path, quantized: Quantized, tmp_path: Path) -> None:
    whole, other = tmp_path / "whole.onnx", tmp_path / "other.onnx"
    write_whole(checkpoint_of(quantized), quantized.path, whole)
    for size in (0, 100, whole.stat().st_size // 2):
        other.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(RunError, match=r"other\.onnx is not a whole model"):
            open_classifier(other)
    with pytest.raises(RunError, match="does not exist"):
        open_classifier(tmp_path / "none.onnx")
    shutil.copy(quantized.path, other)
    with pytest.raises(RunError, match="starts from features"):
        open_classifier(other)
    assert open_classifier(other, deployable).about.classes == tuple("abcd"[:CLASSES])
    model = onnx.load(str(whole))
    del model.metadata_props[:]
    onnx.save(model, str(other))
    with pytest.raises(RunError, match=f"without the metadata {KEY}"):
        open_classifier(other)
    about = open_classifier(whole).about
    for text, message in (
        ("{", "cannot be read"),
        ("{}", "cannot be read"),
        (json.dumps({**about.__dict__, "sample_rate": 0}), "contradicts itself"),
        (json.dumps({**about.__dict__, "median_window": 2}), "contradicts itself"),
        (json.dumps({**about.__dict__, "median_window": -1}), "contradicts itself"),
        (json.dumps({**about.__dict__, "segment_samples": 17}), r"expected|say"),
    ):
        onnx.helper.set_model_props(model, {KEY: text})
        onnx.save(model, str(other))
        with pytest.raises(RunError, match=message):
            open_classifier(other)
    before = {key: value for key, value in about.__dict__.items() if key != "median_window"}
    onnx.helper.set_model_props(model, {KEY: json.dumps(before)})
    onnx.save(model, str(other))
    assert open_classifier(other).about == about, "a file of before there were medians"


@only("inverted")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.wav"], "one of --run"),
        (["--model", "M.onnx", "--checkpoint", "c.safetensors", "a.wav"], "--checkpoint"),
        (["--model", "M.onnx", "--hop", "2", "a.wav"], "--hop"),
        (["--model", "M.onnx", "--hop", "0", "a.wav"], "--hop"),
        (["--model", "M.onnx", "--hop", "nan", "a.wav"], "--hop"),
        (["--model", "M.onnx", "--hop", "inf", "a.wav"], "--hop"),
        (["--model", "M.onnx", "--device", "cuda", "a.wav"], "--device"),
        (["--model", "M.onnx", "none.wav"], "does not exist"),
        (["--run", "RUN", "-"], "standard input"),
        (["--model", "M.onnx", "--skip-bad", "-"], "--skip-bad"),
        (["--run", "RUN", "--hop", "1", "a.wav"], "--hop"),
    ],
)
def test_wrong_options_are_refused(deployable: Path, words: list[str], message: str) -> None:
    places = {"M.onnx": str(deployable / "quant" / "brevitas" / "int8.onnx"), "RUN": str(deployable)}
    with pytest.raises(TinySceneError, match=message):
        system_commands.main(["predict", *(places.get(word, word) for word in words)])


@only("inverted")
def test_the_program_of_the_documentation_labels_a_recording(
    quantized: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It needs nothing of this project: a reader copies it beside whole.onnx."""
    checkpoint = checkpoint_of(quantized)
    write_whole(checkpoint, quantized.path, tmp_path / "whole.onnx")
    samples = signals(checkpoint)[0]
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    page = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/deploying.md", "exec"), {})
    expected = open_classifier(tmp_path / "whole.onnx").probabilities(samples[None])[0]
    assert capsys.readouterr().out.strip() == checkpoint.classes[int(expected.argmax())]
