"""What is deployed gives the probabilities of the python path, and holds the bytes that were counted."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile

from quant import run as commands
from quant.deployment.microcontroller import write_c
from quant.deployment.mobile import write_ort
from quant.deployment.waveform import TOLERANCE, compare, network_inputs, signals, write_whole
from quant.graph import read_graph
from quant.graph_cost import graph_complexity
from system import run as system_commands
from system.checkpoint import Checkpoint, save_checkpoint
from system.errors import ConfigError, DataError, RunError, TinySceneError
from system.files import write_json
from system.prediction.onnx_file import (
    KEY,
    PROBABILITIES,
    WAVEFORM,
    open_classifier,
    open_session,
    path_probabilities,
    predict,
    slide,
)
from system.prediction.raw_stream import Pcm, stream_blocks
from system.spec import ExperimentSpec, FeatureSpec

from .conftest import CLASSES, SHAPE, Quantized

RATE = 4000
FEATURES = FeatureSpec(sample_rate=RATE, n_fft=256, win_length=200, hop_length=200, n_mels=SHAPE[1])
REAL = Path(__file__).parents[3] / "shared" / "data" / "esc10_32k" / "audio"


def checkpoint_of(
    quantized: Quantized, temperature: float = 1.7, thresholds: tuple[float, ...] | None = None
) -> Checkpoint:
    spec = ExperimentSpec(features=FEATURES, model=quantized.spec)
    assert spec.input_shape() == SHAPE
    rows = np.linspace(-1, 1, SHAPE[1], dtype=np.float32)
    names = tuple("abcd"[:CLASSES])
    return Checkpoint(spec, names, rows - 7, 2 + rows / 2, {}, thresholds, temperature)


@pytest.fixture
def run(quantized: Quantized, tmp_path: Path) -> Path:
    """A run folder with what deployment reads of it."""
    folder = tmp_path / "run"
    save_checkpoint(folder / "best" / "model.safetensors", checkpoint_of(quantized))
    (folder / "quant" / "brevitas").mkdir(parents=True)
    shutil.copy(quantized.path, folder / "quant" / "brevitas" / "int8.onnx")
    write_json(folder / "quant" / "brevitas" / "complexity.json", graph_complexity(read_graph(quantized.path)))
    return folder


def only(case: str) -> pytest.MarkDecorator:
    """For what does not depend on the network."""
    return pytest.mark.parametrize("quantized", [case], indirect=True)


def test_the_whole_file_gives_the_probabilities_of_the_python_path(quantized: Quantized, tmp_path: Path) -> None:
    checkpoint, path = checkpoint_of(quantized), tmp_path / "whole.onnx"
    difference = write_whole(checkpoint, quantized.path, path)
    assert difference.largest < TOLERANCE
    assert difference.within > 0.9, "float32 spectra may round an input the other way, but rarely"
    found = open_session(path).run([PROBABILITIES], {WAVEFORM: signals(checkpoint)})[0]
    assert found.std(axis=0).max() > 0.01, "the comparison must not be vacuous"
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@only("inverted")
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/esc10_32k")
def test_real_recordings_get_the_same_probabilities_from_the_whole_file(quantized: Quantized, tmp_path: Path) -> None:
    from system.data.audio import stream_segments

    checkpoint, path = checkpoint_of(quantized), tmp_path / "whole.onnx"
    write_whole(checkpoint, quantized.path, path)
    files = sorted(REAL.glob("*.flac"))[:20]
    segments = np.concatenate([found for _, found in stream_segments(files, RATE, RATE)])
    difference = compare(checkpoint, quantized.path, path, segments)
    assert difference.segments >= 100
    assert difference.largest < TOLERANCE
    assert difference.within > 0.9


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
def test_integers_decide_by_the_thresholds_they_were_scored_with(run: Path, quantized: Quantized) -> None:
    of_float, of_integers = (0.5,) * CLASSES, tuple(0.1 * (1 + c) for c in range(CLASSES))
    of_run = replace(checkpoint_of(quantized, 1.0, of_float), median_window=7)
    save_checkpoint(run / "best" / "model.safetensors", of_run)
    folder = run / "quant" / "brevitas"
    shutil.copy(folder / "int8.onnx", folder / "float.onnx")
    about = open_classifier(folder / "int8.onnx").about
    assert (about.thresholds, about.median_window) == (of_float, 7), "not scored yet"
    scores = {"thresholds": dict(zip("abcd"[:CLASSES], of_integers, strict=True)), "median_window": 3}
    write_json(folder / "scores.json", scores)
    commands.main(["export", "--run", str(run), "--whole", "--ort"])
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
def test_the_float_network_beside_the_integers_keeps_its_own_temperature(run: Path) -> None:
    folder = run / "quant" / "brevitas"
    shutil.copy(folder / "int8.onnx", folder / "float.onnx")
    write_json(folder / "scores.json", {"temperature": {"value": 3.0}})
    assert open_classifier(folder / "int8.onnx").about.temperature == 3.0
    assert open_classifier(folder / "float.onnx").about.temperature == 1.7


@only("inverted")
def test_a_file_that_is_not_what_python_computes_is_not_written(
    quantized: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import quant.deployment.waveform as module

    real = module.front_end

    def broken(checkpoint: Checkpoint, *rest: int) -> onnx.ModelProto:
        other = checkpoint_of(quantized)
        other.mean[:] += 1.0
        return real(other, *rest)

    monkeypatch.setattr(module, "front_end", broken)
    with pytest.raises(RunError, match="python path"):
        write_whole(checkpoint_of(quantized), quantized.path, tmp_path / "whole.onnx")
    assert not (tmp_path / "whole.onnx").exists()


@only("inverted")
def test_a_network_of_another_input_or_an_old_opset_is_refused(quantized: Quantized, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(quantized)
    model = onnx.load(str(quantized.path))
    model.opset_import[0].version = 16
    onnx.save(model, str(tmp_path / "old.onnx"))
    with pytest.raises(RunError, match="opset"):
        write_whole(checkpoint, tmp_path / "old.onnx", tmp_path / "whole.onnx")
    spec = ExperimentSpec(features=FEATURES.changed(n_mels=30))
    other = Checkpoint(spec, checkpoint.classes, np.zeros(30), np.ones(30), {})
    with pytest.raises(RunError, match=r"expected \[1, 30, 21\]"):
        write_whole(other, quantized.path, tmp_path / "whole.onnx")


def test_the_mobile_format_gives_the_same_outputs(quantized: Quantized, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(quantized)
    write_whole(checkpoint, quantized.path, tmp_path / "whole.onnx")
    sources = {quantized.path: network_inputs(checkpoint), tmp_path / "whole.onnx": signals(checkpoint)}
    for source, inputs in sources.items():
        path = tmp_path / f"{source.stem}.ort"
        assert write_ort(source, path, inputs) <= 1e-5
        assert path.read_bytes()[4:8] == b"ORTM", "the identifier of the format"
    described = open_classifier(tmp_path / "whole.ort").about
    assert described == open_classifier(tmp_path / "whole.onnx").about
    assert described.classes == checkpoint.classes


def test_the_c_array_holds_the_bytes_that_were_counted(run: Path) -> None:
    folder = run / "quant" / "brevitas"
    manifest = write_c(folder)
    cost = json.loads((folder / "complexity.json").read_text())
    stored = json.loads((folder / "weights.json").read_text())
    assert stored == manifest
    assert manifest["bytes"] == cost["total_bytes"]
    for key in ("weight_bytes", "bias_bytes", "scale_bytes", "other_bytes", "zero_point_bytes"):
        assert manifest[key] == cost[key]
    parameters = [t for t in manifest["tensors"] if t["role"] in ("weight", "bias", "parameter")]
    assert sum(int(np.prod(t["shape"])) for t in parameters) == cost["params"]
    end = 0
    for tensor in manifest["tensors"]:  # without gaps, each on its own alignment
        assert tensor["offset"] == end
        assert tensor["offset"] % np.dtype(tensor["type"]).itemsize == 0
        end += tensor["bytes"]
    assert end == manifest["bytes"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_compiled_array_is_the_graph_s_parameters(run: Path, tmp_path: Path) -> None:
    folder = run / "quant" / "brevitas"
    manifest = write_c(folder)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "weights.h"\n'
        "int main(void) { return fwrite(tinyscene_weights, 1, sizeof tinyscene_weights, stdout)"
        " != TINYSCENE_WEIGHTS_BYTES; }\n"
    )
    program = tmp_path / "main"
    sources = [str(tmp_path / "main.c"), str(folder / "weights.c")]
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Werror", "-I", str(folder), *sources, "-o", str(program)], check=True, timeout=60
    )
    content = subprocess.run([str(program)], check=True, capture_output=True, timeout=60).stdout
    assert len(content) == manifest["bytes"]
    graph = read_graph(folder / "int8.onnx")
    known = {array.tobytes() for array in graph.constants.values()}
    for tensor in manifest["tensors"]:
        found = np.frombuffer(content, np.dtype(tensor["type"]), int(np.prod(tensor["shape"])), tensor["offset"])
        if tensor["role"] in ("weight", "bias"):
            assert found.tobytes() in known, tensor["name"]
            assert len(tensor["scale"]) == tensor["shape"][0]
        if "value" in tensor:
            np.testing.assert_array_equal(found, np.array(tensor["value"], found.dtype))


@only("inverted")
def test_bytes_that_complexity_json_does_not_know_are_refused(run: Path) -> None:
    folder = run / "quant" / "brevitas"
    cost = json.loads((folder / "complexity.json").read_text())
    write_json(folder / "complexity.json", {**cost, "bias_bytes": 1})
    with pytest.raises(RunError, match="bias_bytes"):
        write_c(folder)
    assert not (folder / "weights.c").exists()


@only("silu_resnorm_attentive")
def test_the_commands_export_and_predict(
    run: Path, quantized: Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commands.main(["export", "--run", str(run), "--whole", "--ort", "--c-array"])
    folder = run / "quant" / "brevitas"
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
    run: Path, quantized: Quantized, tmp_path: Path, capsys: pytest.CaptureFixture[str]
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


def test_windows_slide_whatever_the_blocks() -> None:
    samples = np.arange(23, dtype=np.float32)
    for size in (1, 4, 7, 23):
        blocks = [samples[start : start + size] for start in range(0, 23, size)]
        windows = list(slide(blocks, 8, 4))
        assert [start for start, _ in windows] == [0, 4, 8, 12, 16]
        np.testing.assert_array_equal(windows[1][1], samples[4:12])
        np.testing.assert_array_equal(windows[-1][1], [*samples[16:], 0])
    assert [start for start, _ in slide([samples[:8]], 8, 4)] == [0]
    assert [start for start, _ in slide([samples[:2]], 8, 4)] == [0]
    assert list(slide([], 8, 4)) == []


@pytest.mark.parametrize(("name", "kind", "half"), [("u8", "u1", 192), ("s16le", "<i2", 2**14), ("s32le", "<i4", 2**30),
                                                    ("f32le", "<f4", 0.5)])  # fmt: skip
def test_sample_formats_have_one_full_scale(name: str, kind: str, half: float) -> None:
    content = np.full(100, half, kind).tobytes()
    found = np.concatenate(list(stream_blocks(Pcm(format=name, stream=io.BytesIO(content)), RATE, 7)))
    np.testing.assert_array_equal(found, np.full(100, 0.5, np.float32))


def test_a_stream_of_another_rate_is_resampled() -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype("<f4")
    stream = io.BytesIO(tone.tobytes())
    found = np.concatenate(list(stream_blocks(Pcm(16000, "f32le", stream), RATE, RATE // 2)))
    assert len(found) == RATE
    expected = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(found[200:-200], expected[200:-200], atol=1e-2)


BAD_STREAMS = {
    "empty": (b"", "s16le", "found none"),
    "half a sample": (bytes(101), "s16le", "101 bytes"),
    "a wav file": (b"RIFF" + bytes(100), "s16le", "a WAV file"),
    "an aiff file": (b"FORM" + bytes(100), "s16le", "an AIFF file"),
    "an mp3 file": (b"ID3\x04" + bytes(100), "s16le", "an MP3 file"),
    "integers read as floats": (np.full(50, 0x7FC0, "<u4").tobytes()[2:] + bytes(2), "f32le", "--format"),
    "not numbers": (np.full(50, np.nan, "<f4").tobytes(), "f32le", "--format"),
}


@pytest.mark.parametrize(("content", "name", "message"), BAD_STREAMS.values(), ids=BAD_STREAMS)
def test_a_stream_that_holds_no_samples_is_refused(content: bytes, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(stream_blocks(Pcm(format=name, stream=io.BytesIO(content)), RATE, 10))


def test_a_stream_has_a_rate() -> None:
    with pytest.raises(ConfigError, match="--rate: expected a positive number of Hz, found 0"):
        list(stream_blocks(Pcm(rate=0, stream=io.BytesIO(bytes(100))), RATE, 10))


@only("inverted")
def test_files_that_cannot_predict_are_refused(run: Path, quantized: Quantized, tmp_path: Path) -> None:
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
    assert open_classifier(other, run).about.classes == tuple("abcd"[:CLASSES])
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
def test_wrong_options_are_refused(run: Path, words: list[str], message: str) -> None:
    places = {"M.onnx": str(run / "quant" / "brevitas" / "int8.onnx"), "RUN": str(run)}
    with pytest.raises(TinySceneError, match=message):
        system_commands.main(["predict", *(places.get(word, word) for word in words)])


@only("inverted")
def test_a_run_that_is_not_quantized_names_the_command(run: Path) -> None:
    (run / "quant" / "brevitas" / "int8.onnx").unlink()
    for option in ("--whole", "--ort", "--c-array"):
        with pytest.raises((RunError, ConfigError), match="quant/run"):
            commands.main(["export", "--run", str(run), option])


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
