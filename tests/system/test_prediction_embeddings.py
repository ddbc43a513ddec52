"""Embeddings are what the network computes before its classifier, in the order of the recordings, and written whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from system import run as commands
from system.checkpoint import Checkpoint, save_checkpoint
from system.dataset import stream_features
from system.errors import ConfigError, DataError, RunError
from system.models.catalog import model_spec
from system.models.heads import HEADS, POOLINGS
from system.models.network import build
from system.prediction.embeddings import embed, write_embeddings
from system.spec import DataSpec, ExperimentSpec, FeatureSpec
from tests import tiny
from tests.models.variants import randomised

RATE = tiny.FEATURES.sample_rate
LENGTHS = {"short.wav": 0.1, "one.wav": 0.2, "long.wav": 0.6, "odd.wav": 0.75}  # seconds; a segment has 0.2
SEGMENTS = [1, 1, 3, 4]


def checkpoint_of(spec: ExperimentSpec) -> Checkpoint:
    network = randomised(build(spec.model, spec.input_shape(), len(tiny.CLASSES)))
    bands = spec.features.n_mels
    mean, std = np.linspace(-9, -3, bands, dtype=np.float32), np.linspace(1, 2, bands, dtype=np.float32)
    return Checkpoint(spec, tiny.CLASSES, mean, std, network.state_dict())


@pytest.fixture
def checkpoint() -> Checkpoint:
    return checkpoint_of(tiny.experiment())


@pytest.fixture
def recordings(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    for name, seconds in LENGTHS.items():
        soundfile.write(tmp_path / name, 0.2 * generator.standard_normal(round(seconds * RATE)), RATE)
    return [tmp_path / name for name in LENGTHS]


def test_shapes_and_order(checkpoint: Checkpoint, recordings: list[Path]) -> None:
    found = embed(checkpoint, recordings)
    last = checkpoint.network().stages[-1].map
    total = sum(SEGMENTS)
    assert {key: value.shape for key, value in found.items()} == {
        "filename": (4,), "clip": (4, last.channels), "segment": (total, last.channels),
        "frame": (total, last.time, last.channels), "row": (total,), "start": (total,), "segment_seconds": (),
    }  # fmt: skip
    assert found["filename"].tolist() == [str(path) for path in recordings]
    assert found["row"].tolist() == np.repeat(np.arange(4), SEGMENTS).tolist()
    assert found["start"] == pytest.approx([0.2 * i for count in SEGMENTS for i in range(count)])
    assert {found[key].dtype for key in ("clip", "segment", "frame")} == {np.dtype(np.float32)}
    assert found["segment_seconds"] == 0.2


def test_they_lead_to_the_networks_own_logits(checkpoint: Checkpoint, recordings: list[Path]) -> None:
    found = embed(checkpoint, recordings)
    network = checkpoint.network()
    features = np.concatenate([f for _, f in stream_features(recordings, tiny.FEATURES, tiny.SECONDS)])
    weight, bias = network.head.classify.conv.weight[:, :, 0, 0], network.head.classify.conv.bias
    with torch.inference_mode():
        logits = network(torch.from_numpy(checkpoint.standardize(features)))
        assert torch.allclose(torch.from_numpy(found["segment"]) @ weight.T + bias, logits, atol=1e-4)
    assert logits.std() > 0.01
    # this network's pooling is a mean over both axes, so that the time steps average to the pooled vector
    assert np.allclose(found["frame"].mean(axis=1), found["segment"], atol=1e-4)
    ends = np.cumsum(SEGMENTS)
    for clip, end, count in zip(found["clip"], ends, SEGMENTS, strict=True):
        assert np.allclose(clip, found["segment"][end - count : end].mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("pooling", POOLINGS)
def test_every_head_and_pooling_embeds(head: str, pooling: str, recordings: list[Path]) -> None:
    model = tiny.MODEL.changed(head=head, pooling=pooling, pool_bands=2, stem_stride=(1, 1))
    checkpoint = checkpoint_of(tiny.experiment(model=model))
    found = embed(checkpoint, recordings[2:3])
    assert found["clip"].shape == (1, checkpoint.network().head.classify.conv.in_channels)
    assert np.ptp(found["segment"], axis=0).max() > 1e-3


def test_small_batches_give_the_same(
    checkpoint: Checkpoint, recordings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = embed(checkpoint, recordings)
    monkeypatch.setattr("system.prediction.embeddings.BATCH_BYTES", 1)  # one segment at a time
    one_by_one = embed(checkpoint, recordings)
    assert all(np.array_equal(at_once[key], one_by_one[key]) for key in ("filename", "row", "start"))
    assert all(np.allclose(at_once[key], one_by_one[key], atol=1e-5) for key in ("clip", "segment", "frame"))


def test_ten_seconds_of_convnext_are_31_steps(tmp_path: Path) -> None:
    """Paper 004, Section 7.1, on the paper's front end; a narrow network keeps the grid."""
    features = FeatureSpec(
        sample_rate=32000, n_fft=1024, win_length=1024, hop_length=320, n_mels=224, f_min=50, f_max=14000
    )
    spec = tiny.experiment(
        data=DataSpec(segment_seconds=10.0), features=features, model=model_spec("convnext_tiny").changed(width=4)
    )
    path = tmp_path / "ten.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(320_000), 32000)
    found = embed(checkpoint_of(spec), [path])
    assert (found["clip"].shape, found["frame"].shape) == ((1, 32), (1, 31, 32))
    assert np.isfinite(found["frame"]).all()
    assert np.ptp(found["frame"], axis=1).max() > 0


def test_the_archive_needs_no_pickle_and_says_what_it_holds(
    checkpoint: Checkpoint, recordings: list[Path], tmp_path: Path
) -> None:
    target = tmp_path / "new" / "e.npz"
    said = write_embeddings(target, checkpoint, recordings)
    assert said == f"{target}: 4 recordings; clip 4x6, segment 9x6, frame 9x10x6"
    with np.load(target, allow_pickle=False) as archive:
        expected = embed(checkpoint, recordings)
        assert set(archive.files) == set(expected)
        assert all(np.array_equal(archive[key], expected[key]) for key in expected)
    assert [path.name for path in target.parent.iterdir()] == ["e.npz"]


def test_a_damaged_recording_is_left_out(checkpoint: Checkpoint, recordings: list[Path]) -> None:
    bad = recordings[1].with_name("bad.wav")
    bad.write_bytes(b"RIFF")
    told: list[Exception] = []
    found = embed(checkpoint, [bad, *recordings[:2], bad, *recordings[2:], bad], damaged=told.append)
    expected = embed(checkpoint, recordings)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert [str(damage).partition(": ")[0] for damage in told] == [str(bad)] * 3
    with pytest.raises(DataError, match=r"bad\.wav"):
        embed(checkpoint, [*recordings, bad])


def test_nothing_is_left_of_a_failure(checkpoint: Checkpoint, recordings: list[Path], tmp_path: Path) -> None:
    target = tmp_path / "new" / "e.npz"
    with pytest.raises(DataError, match=r"missing\.wav does not exist"):
        write_embeddings(target, checkpoint, [*recordings, tmp_path / "missing.wav"])
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["e.csv", "e", "folder.npz"])
def test_another_kind_of_file_is_refused(name: str, checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(ConfigError, match=r"^--embeddings .*: expected a file name that ends in \.npz$"):
        write_embeddings(tmp_path / name, checkpoint, [])


# -- the command


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "mine" / "best" / "model.safetensors"
    save_checkpoint(path, checkpoint)
    return path


def test_the_command_takes_a_run_or_a_checkpoint(
    saved: Path, recordings: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "e.npz"
    files = [str(path) for path in recordings]
    for source in (("--run", str(saved.parents[1])), ("--checkpoint", str(saved))):
        commands.main(["predict", *source, "--device", "cpu", "--embeddings", str(target), *files])
        assert capsys.readouterr().out.startswith(f"{target}: 4 recordings; ")
        assert target.is_file()
        target.unlink()


def test_the_command_wants_one_source(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        commands.main(["predict", "--run", "R", "--checkpoint", "C", "a.wav"])
    assert stopped.value.code == 2
    assert "--checkpoint" in capsys.readouterr().err


def test_a_checkpoint_of_another_network_than_named_is_refused(
    saved: Path, recordings: list[Path], tmp_path: Path, run_predict: Callable[..., None]
) -> None:
    with pytest.raises(RunError, match=r"^--model kt_final: the checkpoint holds another network, by its width, "):
        run_predict(saved, "--model", "kt_final", "--embeddings", str(tmp_path / "e.npz"), str(recordings[0]))
    with pytest.raises(ConfigError, match="unknown model 'kt_finel'; did you mean 'kt_final'"):
        run_predict(saved, "--model", "kt_finel", str(recordings[0]))
    with pytest.raises(ConfigError, match="no specification"):
        run_predict(saved, "--model", "cnn14", str(recordings[0]))
    assert not (tmp_path / "e.npz").exists()


@pytest.fixture
def run_predict() -> Callable[..., None]:
    def call(checkpoint: Path, *words: str) -> None:
        commands.main(["predict", "--checkpoint", str(checkpoint), "--device", "cpu", *words])

    return call


def test_a_missing_checkpoint_is_refused(tmp_path: Path, run_predict: Callable[..., None]) -> None:
    with pytest.raises(RunError, match="does not exist"):
        run_predict(tmp_path / "none.safetensors", "a.wav")
