"""A checkpoint gives back the network that was saved; anything else is refused in one line."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from system.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from system.errors import ConfigError, RunError
from system.models.network import build
from tests import tiny
from tests.models.variants import randomised

SPEC = tiny.experiment(seed=3, budget="64KiB")


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, Checkpoint]:
    network = randomised(build(SPEC.model, SPEC.input_shape(), len(tiny.CLASSES)))
    mean, std = np.linspace(-9, -3, 16, dtype=np.float32), np.linspace(1, 2, 16, dtype=np.float32)
    checkpoint = Checkpoint(SPEC, tiny.CLASSES, mean, std, network.state_dict())
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    return tmp_path / "model.safetensors", checkpoint


def test_what_is_saved_is_what_is_loaded(saved: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved
    loaded = load_checkpoint(path)
    assert loaded.spec == SPEC
    assert loaded.classes == tiny.CLASSES
    assert np.array_equal(loaded.mean, checkpoint.mean)
    assert np.array_equal(loaded.std, checkpoint.std)
    assert loaded.state.keys() == checkpoint.state.keys()
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in loaded.state.items())
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_the_loaded_network_computes_the_same(saved: tuple[Path, Checkpoint]) -> None:
    path, checkpoint = saved
    network = load_checkpoint(path).network()
    assert not network.training
    x = torch.randn(2, *SPEC.input_shape())
    with torch.inference_mode():
        assert torch.equal(network(x), checkpoint.network()(x))
        assert network(x).std() > 0.01


def test_weights_of_another_layout_are_saved_alike(saved: tuple[Path, Checkpoint]) -> None:
    """Training keeps weights channels last."""
    path, checkpoint = saved
    turned = checkpoint.network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert not all(value.is_contiguous() for value in turned.state_dict().values())
    save_checkpoint(path, Checkpoint(SPEC, tiny.CLASSES, checkpoint.mean, checkpoint.std, turned.state_dict()))
    loaded = load_checkpoint(path).state
    assert all(value.is_contiguous() for value in loaded.values())
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in loaded.items())


def test_standardize_is_per_mel_band(saved: tuple[Path, Checkpoint]) -> None:
    checkpoint = saved[1]
    features = np.random.default_rng(0).normal(size=(3, 16, 21)).astype(np.float32)
    x = checkpoint.standardize(features)
    assert (x.shape, x.dtype) == ((3, 1, 16, 21), np.float32)
    for band in (0, 7, 15):
        expected = (features[1, band] - checkpoint.mean[band]) / checkpoint.std[band]
        assert np.allclose(x[1, 0, band], expected)


def test_anyone_can_read_what_it_is_without_us(saved: tuple[Path, Checkpoint]) -> None:
    with safe_open(saved[0], framework="np") as file:
        about = json.loads(file.metadata()["about"])
        assert about["experiment"]["seed"] == 3
        assert about["classes"] == list(tiny.CLASSES)
        assert file.get_tensor("features.mean").shape == (16,)
        assert "network.stem.conv.conv.weight" in file.keys()  # noqa: SIM118 (not a dictionary)


def test_a_missing_file_names_the_commands_that_make_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"does not exist: .*search/run\.py or system/run\.py train"):
        load_checkpoint(tmp_path / "model.safetensors")
    with pytest.raises(RunError, match="does not exist"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("keep", [0, 4, 200, -4])
def test_a_truncated_file_is_refused(keep: int, saved: tuple[Path, Checkpoint]) -> None:
    path = saved[0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RunError, match=r"model\.safetensors is not a readable safetensors file"):
        load_checkpoint(path)


def test_the_file_of_another_program_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(RunError, match="not a TinyScene checkpoint"):
        load_checkpoint(tmp_path / "other.safetensors")


def rewritten(saved: Path, path: Path, metadata: dict[str, str]) -> Path:
    """The tensors of a checkpoint under another header."""
    with safe_open(saved, framework="pt") as file:
        save_file({key: file.get_tensor(key) for key in file.keys()}, path, metadata)  # noqa: SIM118 (not a dictionary)
    return path


def test_an_experiment_of_another_version_names_the_key(saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    about = {"experiment": {"train": {"epoches": 3}}, "classes": tiny.CLASSES}
    old = rewritten(saved[0], tmp_path / "old.safetensors", {"about": json.dumps(about)})
    with pytest.raises(ConfigError, match=r"old\.safetensors: train\.epoches: unknown key"):
        load_checkpoint(old)


def test_the_header_of_before_is_read(saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    """An entry for each part, and the version as a bare text."""
    path, checkpoint = saved
    parts = {
        "experiment": checkpoint.spec.plain(),
        "classes": checkpoint.classes,
        "temperature": 0.5,
        "thresholds": [0.1] * 3,
    }
    entries = {"tinyscene": "0.1.0", **{key: json.dumps(value) for key, value in parts.items()}}
    found = load_checkpoint(rewritten(path, tmp_path / "before.safetensors", entries))
    assert (found.spec, found.classes) == (checkpoint.spec, checkpoint.classes)
    assert (found.temperature, found.thresholds, found.median_window) == (0.5, (0.1, 0.1, 0.1), 1)


def test_decisions_are_saved_and_those_of_before_had_no_medians(saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    path, checkpoint = saved
    decided = replace(checkpoint, thresholds=(0.1, 0.2, 0.3), median_window=5)
    save_checkpoint(path, decided)
    found = load_checkpoint(path)
    assert (found.thresholds, found.median_window) == ((0.1, 0.2, 0.3), 5)
    about = {"experiment": SPEC.plain(), "classes": tiny.CLASSES, "thresholds": [0.1, 0.2, 0.3]}
    before = load_checkpoint(rewritten(path, tmp_path / "before.safetensors", {"about": json.dumps(about)}))
    assert (before.thresholds, before.median_window) == ((0.1, 0.2, 0.3), 1)


@pytest.mark.parametrize("metadata", [{"about": "{"}, {"about": "[1]"}, {"experiment": "x", "classes": "[]"}])
def test_a_damaged_header_is_refused(metadata: dict[str, str], saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"damaged\.safetensors: its header cannot be read as JSON"):
        load_checkpoint(rewritten(saved[0], tmp_path / "damaged.safetensors", metadata))


def test_equal_checkpoints_are_equal_files(saved: tuple[Path, Checkpoint], tmp_path: Path) -> None:
    for number in range(5):
        save_checkpoint(tmp_path / "again.safetensors", saved[1])
        assert (tmp_path / "again.safetensors").read_bytes() == saved[0].read_bytes(), number


def test_a_full_disk_leaves_the_old_checkpoint(saved: tuple[Path, Checkpoint], monkeypatch: pytest.MonkeyPatch) -> None:
    path, checkpoint = saved
    before = path.read_bytes()

    def half(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", half)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, checkpoint)
    assert [other.name for other in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before
