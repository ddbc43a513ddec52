"""Recordings through an ONNX graph into a package, with the run's own front end."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from submission.package import Request, pack
from submission.predict import accumulate
from submission.validate import validate
from system.checkpoint import Checkpoint, save_checkpoint
from system.editions import SCENES
from system.errors import DataError, RunError
from system.features import LogMel
from system.spec import ExperimentSpec
from tests.submission.conftest import MakeRun, write_list, write_wav

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
    write_graph(folder / "quant/brevitas/int8.onnx", generator.normal(size=(80, 10)))
    return folder


def test_recordings_become_the_rows_of_the_package(run: Path, people: Path, tmp_path: Path) -> None:
    import torch

    from system.checkpoint import load_checkpoint

    generator = np.random.default_rng(1)
    root = write_list(tmp_path / "evaluation", [f"audio/{i}.wav" for i in range(70)])
    sounds = 0.1 * generator.normal(size=(70, RATE)) * np.linspace(0.1, 1, 70)[:, None]
    for i, samples in enumerate(sounds):
        write_wav(root / f"audio/{i}.wav", samples, RATE)
    packed = pack(Request("2022", {"": run}, people=people, eval_root=root))
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
        pack(Request("2022", {"": run}, people=people, eval_root=root))
    assert not (run / "submission").exists()


def test_a_model_of_other_classes_is_refused(run: Path, people: Path, eval_root: Path) -> None:
    checkpoint = Checkpoint(ExperimentSpec(), SCENES[::-1], np.zeros(80), np.ones(80), {})
    save_checkpoint(run / "best/model.safetensors", checkpoint)
    with pytest.raises(RunError, match="different classes"):
        pack(Request("2022", {"": run}, people=people, eval_root=eval_root))


class Echo:
    """Gives its input back as logits."""

    def run(self, output_names: object, input_feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [input_feed["features"]]


def test_segments_of_one_recording_are_joined() -> None:
    logits = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    batches = [(np.array([0, 0]), logits[:2]), (np.array([1]), logits[2:])]
    done: list[int] = []
    found = accumulate(batches, Echo(), 2, 2, done.append)
    assert found[0, 0] == pytest.approx(1 / (1 + np.exp(-0.5)))  # mean of log odds 2 and -1
    assert found[1, 1] == pytest.approx(1 / (1 + np.exp(-3)))
    assert done == [1, 1]
    with pytest.raises(RunError, match="1 of 3"):
        accumulate(batches, Echo(), 3, 2)
