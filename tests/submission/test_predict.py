"""Recordings through an ONNX graph into a package, with the run's own front end."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.graph import read_graph
from quant.graph_cost import graph_complexity
from submission.packing.package import pack
from submission.packing.predict import KEPT, accumulate, predict_recordings, resumed
from submission.run_parts import load_run
from submission.validate import validate
from system.checkpoint import Checkpoint, save_checkpoint
from system.editions import EDITIONS, SCENES, Edition
from system.errors import DataError, RunError
from system.features import LogMel
from system.files import write_json
from system.spec import ExperimentSpec
from tests.submission.conftest import COMPLEXITY, Examples, MakeRun, ask, members_of, write_list, write_wav

RATE = 22_050


def write_graph(path: Path, weights: np.ndarray) -> None:
    """features (batch, 1, mel bands, frames) -> mean over time -> logits by one matrix."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    mels, classes = weights.shape
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["features"], ["bands"], axes=[1, 3], keepdims=0),
            helper.make_node("MatMul", ["bands", "weights"], ["logits"]),
        ],
        "graph",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 1, mels, None])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [numpy_helper.from_array(weights.astype(np.float32), "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, str(path))


@pytest.fixture
def run(make_run: MakeRun) -> Path:
    folder = make_run()
    generator = np.random.default_rng(0)
    spec = ExperimentSpec()
    mean, std = generator.normal(-5, 1, 80).astype(np.float32), np.full(80, 2, dtype=np.float32)
    save_checkpoint(folder / "best/model.safetensors", Checkpoint(spec, SCENES, mean, std, {}))
    graph = folder / "quant/brevitas/int8.onnx"
    write_graph(graph, generator.normal(size=(80, 10)))
    write_json(graph.with_name("complexity.json"), {**COMPLEXITY, **graph_complexity(read_graph(graph))})
    return folder


def test_recordings_become_the_rows_of_the_package(run: Path, people: Path, tmp_path: Path) -> None:
    import torch

    from system.checkpoint import load_checkpoint

    generator = np.random.default_rng(1)
    root = write_list(tmp_path / "evaluation", [f"audio/{i}.wav" for i in range(70)])
    sounds = 0.1 * generator.normal(size=(70, RATE)) * np.linspace(0.1, 1, 70)[:, None]
    for i, samples in enumerate(sounds):
        write_wav(root / f"audio/{i}.wav", samples, RATE)
    packed = pack(ask("2022", run, people=people, eval_root=root))
    assert validate(packed.zip_path, "2022", root) == []
    with zipfile.ZipFile(packed.zip_path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("output.csv"))
        lines = archive.read(name).decode().splitlines()[1:]
    found = np.array([line.split("\t")[2:] for line in lines], dtype=float)

    checkpoint = load_checkpoint(run / "best/model.safetensors")
    heard = np.round(np.clip(sounds, -1, 1) * 32767).astype(np.float32) / 32768
    features = LogMel(checkpoint.spec.features)(torch.from_numpy(heard)).numpy()
    weights = np.random.default_rng(0)
    weights.normal(-5, 1, 80)
    logits = ((features - checkpoint.mean[:, None]) / checkpoint.std[:, None]).mean(axis=2) @ weights.normal(
        size=(80, 10)
    )
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert np.abs(found - expected / expected.sum(axis=1, keepdims=True)).max() < 0.01  # 16-bit rounding


def test_a_missing_recording_is_named_and_nothing_is_left(run: Path, people: Path, tmp_path: Path) -> None:
    root = write_list(tmp_path / "evaluation", ["audio/0.wav", "audio/1.wav"])
    write_wav(root / "audio/0.wav", np.ones(RATE) * 0.1, RATE)
    with pytest.raises(DataError, match=r"1\.wav"):
        pack(ask("2022", run, people=people, eval_root=root))
    assert not (run / "submission").exists()


def test_a_model_of_other_classes_is_refused(run: Path, people: Path, eval_root: Path) -> None:
    checkpoint = Checkpoint(ExperimentSpec(), SCENES[::-1], np.zeros(80), np.ones(80), {})
    save_checkpoint(run / "best/model.safetensors", checkpoint)
    with pytest.raises(RunError, match="different classes"):
        pack(ask("2022", run, people=people, eval_root=eval_root))


class Echo:
    """Gives its input back as logits."""

    def run(self, output_names: object, input_feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [input_feed["features"]]


def test_segments_of_one_recording_are_joined() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    batches = [(np.array([0, 0]), logits[:2]), (np.array([1]), logits[2:])]
    found = accumulate(batches, Echo(), 2)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-0.5)))  # mean of log odds 2 and -1
    assert found[1, 1] == pytest.approx(1 / (1 + np.exp(-3)))
    with pytest.raises(RunError, match="1 of 3"):
        accumulate(batches, Echo(), 3)


# -- long lists -------------------------------------------------------------------------------------------------------


def chunks(done: list[int], fail_after: int | None = None) -> Callable[[Sequence[Path]], np.ndarray]:
    """Stands in for the model; remembers how many recordings it heard, and gives up after some."""

    def chunk(some: Sequence[Path]) -> np.ndarray:
        if fail_after is not None and sum(done) >= fail_after:
            raise KeyboardInterrupt
        done.append(len(some))
        return np.array([[int(path.stem), 0.5] for path in some])

    return chunk


def test_an_interrupted_prediction_goes_on_where_it_was(tmp_path: Path) -> None:
    paths = [Path(f"{i}.wav") for i in range(100)]
    file = tmp_path / "deep" / "x.rows"
    heard: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        resumed(file, paths, 2, chunks(heard, fail_after=40), kept=8)
    assert sum(heard) == 40
    with file.open("ab") as rows:
        rows.write(b"half a row")  # a kill in the middle of writing
    more: list[int] = []
    found = resumed(file, paths, 2, chunks(more), kept=8)
    assert sum(more) == 60
    assert found[:, 0].tolist() == list(range(100))
    again: list[int] = []
    assert np.array_equal(resumed(file, paths, 2, chunks(again), kept=8), found)
    assert again == []


@pytest.mark.parametrize("lost", [0.0, np.nan], ids=["never written", "damaged"])
def test_rows_that_a_power_cut_lost_are_heard_again(lost: float, tmp_path: Path) -> None:
    """They were packed as answers, each class as probable as the others."""
    file, paths = tmp_path / "x.rows", [Path(f"{i}.wav") for i in range(100)]
    whole = resumed(file, paths, 2, chunks([]), kept=8)
    rows = np.fromfile(file)
    rows[2 * 60 : 2 * 75] = lost
    rows.tofile(file)
    more: list[int] = []
    assert np.array_equal(resumed(file, paths, 2, chunks(more), kept=8), whole)
    assert sum(more) == 40


def test_a_full_disk_is_told_with_the_file_that_is_kept_and_what_fitted_is_not_heard_again(tmp_path: Path) -> None:
    file, paths = tmp_path / "x.rows", [Path(f"{i}.wav") for i in range(100)]
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # bytes; a row has 16
    try:
        with pytest.raises(OSError, match="too large") as error:
            resumed(file, paths, 2, chunks([]), kept=8)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert error.value.filename == str(file)
    more: list[int] = []
    assert resumed(file, paths, 2, chunks(more), kept=8)[:, 0].tolist() == list(range(100))
    assert sum(more) == 100 - 1000 // 16


def test_a_changed_recording_or_model_is_heard_anew(
    run: Path, people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_list(tmp_path / "evaluation", ["audio/0.wav", "audio/1.wav"])
    for i in range(2):
        write_wav(root / f"audio/{i}.wav", np.full(RATE, 0.1 * (i + 1)), RATE)
    heard: list[int] = []

    def counting(batches: Any, *others: Any) -> np.ndarray:
        heard.append(1)
        return accumulate(batches, *others)

    monkeypatch.setattr("submission.packing.predict.accumulate", counting)
    request = ask("2022", run, people=people, eval_root=root)
    first = pack(request).zip_path.read_bytes()
    assert pack(request).zip_path.read_bytes() == first
    assert len(heard) == 1
    write_wav(root / "audio/1.wav", np.full(2 * RATE, 0.3), RATE)
    pack(request)
    assert len(heard) == 2
    write_graph(run / "quant/brevitas/int8.onnx", np.random.default_rng(5).normal(size=(80, 10)))
    pack(request)
    assert len(heard) == 3


def repeated(root: Path, rules: Edition, count: int) -> Path:
    """An evaluation set of `count` recordings, which repeat a few short ones without taking more of the disk."""
    devices, originals = rules.evaluation_devices, 10
    write_list(
        root, [f"audio/{i}.wav" for i in range(count)],
        None if devices is None else [devices[i % len(devices)] for i in range(count)],
    )  # fmt: skip
    for i in range(count):
        path = root / f"audio/{i}.wav"
        if i < originals:
            write_wav(path, 0.02 * (i + 1) * np.random.default_rng(i).normal(size=800), 8000)
        else:
            os.link(root / f"audio/{i % originals}.wav", path)
    return root


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the middle of the list; what was heard until then is not heard again, and the zip is the same."""
    example, count = examples["2022"], 6000
    root = repeated(tmp_path / "evaluation", EDITIONS["2022"], count)
    words = ["--edition", "2022", "--run", str(example.runs[""]), "--people", str(example.people),
             "--eval-root", str(root), "--out", str(tmp_path / "out")]  # fmt: skip
    monkeypatch.setenv("TINYSCENE_CACHE", str(tmp_path / "cache"))
    script = Path(__file__).resolve().parents[2] / "submission/pack.py"
    killed = subprocess.Popen([sys.executable, str(script), *words], stderr=subprocess.DEVNULL)
    chunk = KEPT * len(SCENES) * np.dtype(np.float64).itemsize
    while killed.poll() is None:
        if any(file.stat().st_size >= chunk for file in tmp_path.glob("cache/evaluation/*.rows")):
            killed.kill()
        time.sleep(0.01)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    (rows,) = tmp_path.glob("cache/evaluation/*.rows")
    done = rows.stat().st_size // (chunk // KEPT)
    assert KEPT <= done < count

    heard: list[int] = []

    def counting(batches: Any, session: Any, recordings: int, *others: Any) -> np.ndarray:
        heard.append(recordings)
        return accumulate(batches, session, recordings, *others)

    monkeypatch.setattr("submission.packing.predict.accumulate", counting)
    request = ask("2022", example.runs, people=example.people, eval_root=root, out=tmp_path / "out")
    continued = pack(request).zip_path.read_bytes()
    assert sum(heard) == count - done
    rows.unlink()
    assert pack(request).zip_path.read_bytes() == continued
    assert sum(heard) == 2 * count - done


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in EDITIONS if EDITIONS[key].evaluation_rows])
def test_a_list_of_full_length(key: str, examples: Examples, tmp_path: Path) -> None:
    """The official number of recordings, which repeat a few short ones; then checked without their folder."""
    example, rules = examples[key], EDITIONS[key]
    count = rules.evaluation_rows or 0
    root = repeated(tmp_path, rules, count)
    packed = pack(
        ask(key, example.runs, people=example.people, eval_root=root, label_map=example.label_map, out=tmp_path / "out")
    )
    assert packed.rows == count
    start = time.process_time()
    assert validate(packed.zip_path, key) == []
    print(f"{key}: {packed.zip_path.stat().st_size:,} bytes checked in {time.process_time() - start:.1f} s")
    for table in (value for name, value in members_of(packed).items() if name.endswith("csv") and "output" in name):
        lines = table.decode().splitlines()[1:]
        first = [line.split("\t", 1)[1] for line in lines[:70]]
        assert all(line.split("\t", 1)[1] == first[i % 70] for i, line in enumerate(lines))  # ten sounds, seven devices


def test_segments_are_joined_at_the_temperature_of_their_softmax() -> None:
    batches = [(np.array([0, 0]), np.array([[2.0, 0.0], [0.0, 1.0]]))]
    found = accumulate(batches, Echo(), 1, temperature=0.5)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-1)))  # mean of log odds 4 and -2


def test_another_temperature_is_another_prediction(run: Path, tmp_path: Path) -> None:
    root = write_list(tmp_path / "evaluation", ["audio/0.wav"])
    write_wav(root / "audio/0.wav", 0.1 * np.random.default_rng(0).normal(size=RATE), RATE)
    parts = load_run(run, "brevitas")
    hot = replace(parts, scores={**parts.scores, "temperature": {"value": 4.0, "fitted": 4.0}})
    cold, warm = (predict_recordings([root / "audio/0.wav"], one) for one in (parts, hot))
    assert cold.argmax() == warm.argmax()
    assert cold.max() > warm.max()
