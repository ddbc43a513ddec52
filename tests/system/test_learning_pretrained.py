"""Weights to begin with: what is taken, what is fresh, what stays frozen, and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from system.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from system.config import parse
from system.dataset import prepare
from system.errors import ConfigError, DataError, RunError
from system.files import read_json
from system.learning.pretrained import frozen_parts, other_validation, take_weights
from system.models.network import build
from system.run import main
from system.spec import DataSpec, ExperimentSpec, InitSpec
from system.training import fit
from tests import tiny


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "first"
    spec, data = tiny.experiment(epochs=1), tiny.data()
    trained = fit(spec, data, device="cpu")
    save_checkpoint(
        path / "best" / "model.safetensors",
        Checkpoint(spec, data.classes, trained.mean + 0.5, trained.std, trained.network.state_dict()),
    )
    return path


def begun(source: Path, **changes: Any) -> ExperimentSpec:
    frozen = changes.pop("frozen", ())
    # data of another name than the source's: nothing is tested that it was trained on
    section = DataSpec(dataset="csv", root="elsewhere", segment_seconds=tiny.SECONDS)
    return tiny.experiment(**{"data": section, **changes}, init=InitSpec(run=str(source), frozen=frozen))


def taken(spec: ExperimentSpec, classes: tuple[str, ...]) -> dict[str, torch.Tensor]:
    network = build(spec.model, spec.input_shape(), len(classes))
    assert take_weights(network, spec, classes) is not None
    return network.state_dict()


def test_everything_is_taken_but_a_classifier_of_other_classes(source: Path) -> None:
    theirs = load_checkpoint(source / "best" / "model.safetensors").state
    same = taken(begun(source), tiny.CLASSES)
    assert all(torch.equal(same[key], value) for key, value in theirs.items())
    for classes in (("dog", "cat"), ("dog", "cat", "cow")):
        other = taken(begun(source / "best" / "model.safetensors"), classes)
        unlike = [k for k, v in theirs.items() if v.shape != other[k].shape or not torch.equal(v, other[k])]
        assert unlike
        assert all(key.startswith("head.classify.") for key in unlike)
        assert "head.classify.conv.weight" in unlike


def test_no_run_takes_nothing() -> None:
    spec = tiny.experiment()
    network = build(spec.model, spec.input_shape(), 3)
    assert take_weights(network, spec, tiny.CLASSES) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": tiny.MODEL.changed(width=6)}, r"stem\S* is \(4, 1, 3, 3\) there and \(6, .*width: 4 there, 6"),
        ({"model": tiny.MODEL.changed(block="plain")}, r"another network: .* differ \(model\.block: inverted there"),
        ({"features": tiny.FEATURES.changed(f_min=50)}, r"hears other features: features\.f_min: 0\.0 there, 50\.0"),
        ({"data": DataSpec(fold=2, segment_seconds=tiny.SECONDS)}, r"init\.run: .* trained on all but fold 1, so on"),
    ],
)
def test_what_does_not_fit_is_named(source: Path, changes: dict[str, Any], said: str) -> None:
    spec = begun(source, **changes)
    with pytest.raises((ConfigError, RunError), match=said):
        take_weights(build(spec.model, spec.input_shape(), 3), spec, tiny.CLASSES)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"seed": 1}, ["seed: 0 there, 1 asked for"]),
        ({"validation_share": 0.3}, ["data.validation_share: 0.2 there, 0.3 asked for"]),
        ({"train_list": "split5.csv"}, ["data.train_list: None there, split5.csv asked for"]),
        ({"validation_share": 0, "seed": 1}, []),  # nothing is validated
        ({"refit": "all", "seed": 1}, []),
        ({"dataset": "csv", "root": "elsewhere", "seed": 1}, []),
    ],
)
def test_another_split_of_the_same_recordings_is_named(changes: dict[str, Any], said: list[str]) -> None:
    spec = tiny.experiment()
    ours = tiny.experiment(seed=changes.pop("seed", 0), data=spec.data.changed(**changes))
    assert other_validation(spec, ours) == said


def test_parts_are_of_the_network() -> None:
    spec = tiny.experiment()
    network = build(spec.model, spec.input_shape(), 3)
    assert frozen_parts(network, ["stem", "stages.0"]) == [network.stem, network.stages[0]]
    for wrong in ("stages.7", ""):
        with pytest.raises(ConfigError, match=r"init\.frozen: .* such as .*stem, stages, stages\.0, .*head"):
            frozen_parts(network, [wrong])
    with pytest.raises(ConfigError, match=r"init: frozen keeps the weights of another run"):
        parse(ExperimentSpec, {"init": {"frozen": ["stem"]}}, "some.yaml")


def test_training_begins_there_and_frozen_parts_stay(source: Path) -> None:
    theirs = load_checkpoint(source / "best" / "model.safetensors")
    data = tiny.data()
    trained = fit(begun(source, frozen=("stem", "stages.0"), epochs=1, average="ema"), data, device="cpu")
    assert (trained.mean == theirs.mean).all()  # its own standardization, not that of the new data
    after = trained.network.state_dict()
    kept = {key for key, value in theirs.state.items() if torch.equal(value, after[key])}
    kept -= {key for key in kept if key.endswith("batches_tracked") and key.startswith("stages.1.")}
    assert kept == {key for key in theirs.state if key.startswith(("stem.", "stages.0."))}
    assert all(parameter.requires_grad for parameter in trained.network.parameters())
    fresh = fit(tiny.experiment(epochs=1, learning_rate=1e-6), data, device="cpu")
    begun_at = fit(begun(source, epochs=1, learning_rate=1e-6), data, device="cpu")
    assert begun_at.last.train_loss < fresh.last.train_loss


def test_a_part_of_one_device(csv_folder: Callable[..., Path], cache: Path) -> None:
    rows = [(f"{i}.wav", "xy"[i % 2], 1 + i // 2 % 5, "abc"[i % 3]) for i in range(60)]
    root = csv_folder(rows, "filename,label,fold,device", seconds=tiny.SECONDS)
    section = DataSpec(dataset="csv", root=str(root), segment_seconds=tiny.SECONDS)
    whole, one = (prepare(section.changed(device=name), tiny.FEATURES, 0) for name in (None, "b"))
    for part in ("train", "validation", "test"):
        every, own = getattr(whole, part), getattr(one, part)
        chosen = [row for row, name in enumerate(every.device) if name == "b"]
        assert own.filename == tuple(every.filename[row] for row in chosen)
        assert (own.features == every.features[chosen]).all()
        assert (own.label == every.label[chosen]).all()
    with pytest.raises(DataError, match=r"data\.device: expected a device of the train part \(a, b, c\), found 'd'"):
        prepare(section.changed(device="d"), tiny.FEATURES, 0)


SMALL = (
    "train.epochs=3", "features.sample_rate=8000", "features.n_fft=256", "features.win_length=200",
    "features.hop_length=80", "features.n_mels=16", f"data.segment_seconds={tiny.SECONDS}", "model.width=4",
    "model.norm=batch", "model.pooling=average", "model.stages=[{depth: 1}]",
)  # fmt: skip


def test_one_network_for_each_device_by_the_commands(
    csv_folder: Callable[..., Path], cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{i}.wav", "xy"[i % 2], 1 + i // 2 % 5, "ab"[i // 10 % 2]) for i in range(60)]
    root = csv_folder(rows, "filename,label,fold,device", seconds=tiny.SECONDS)
    run = tmp_path / "run"
    settings = [word for setting in SMALL for word in ("--set", setting)]
    data = ["--dataset", "csv", "--data-root", str(root), "--device", "cpu"]
    main(["train", "--run", str(run), *data, *settings])
    specialized = ["specialize", "--run", str(run), "--device", "cpu"]
    main([*specialized, "--set", "train.learning_rate=0.01"])
    said = capsys.readouterr().out
    report = read_json(run / "devices" / "devices.json", "")
    assert list(report) == ["a", "b"]
    for name, row in report.items():
        best = run / "devices" / name / "best"
        own = load_checkpoint(best / "model.safetensors")
        assert (own.spec.data.device, own.spec.init.run) == (name, str(run))
        assert (own.spec.train.epochs, own.spec.train.learning_rate) == (1, 0.01)
        assert own.spec.model == load_checkpoint(run / "best" / "model.safetensors").spec.model
        assert list(read_json(best / "scores.json", "")["device_wise"]) == [name]
        assert row["better"] == (f"--run {name}={run}/devices/{name}" in said)
    again = (run / "devices" / "a" / "best" / "model.safetensors").stat().st_mtime_ns
    main([*specialized, "--set", "train.learning_rate=0.01"])
    assert (run / "devices" / "a" / "best" / "model.safetensors").stat().st_mtime_ns == again
    with pytest.raises(ConfigError, match=r"--only: expected devices of every part, a, b; found 's1'"):
        main([*specialized, "--only", "s1"])
    with pytest.raises(ConfigError, match=r"--set model\.width=8: only train, augment"):
        main([*specialized, "--set", "model.width=8"])
    with pytest.raises(ConfigError, match=r"--seed 7: the validation part must be that of .*run, as it was trained on"):
        main([*specialized, "--seed", "7"])
    with pytest.raises(ConfigError, match=r"--set seed=7: only train, augment"):
        main([*specialized, "--set", "seed=7"])

    # general weights of another split, for a training of the same recordings
    begun = ["train", *data, "--init", str(run), "--set", f"data.segment_seconds={tiny.SECONDS}"]
    for seed, warned in (("0", 0), ("1", 1)):
        main([*begun, "--run", str(tmp_path / seed), "--seed", seed, "--set", "train.epochs=1"])
        assert capsys.readouterr().err.count("warning: init.run: ") == warned

    # another set of other classes, begun with the first: network and features come with the weights
    other = csv_folder([(f"{i}.wav", "uvw"[i % 3], 1 + i // 3 % 5) for i in range(30)], seconds=0.2, name="other")
    begun = ["train", "--run", str(tmp_path / "two"), "--dataset", "csv", "--data-root", str(other), "--init", str(run)]
    main([*begun, "--set", "train.epochs=1", "--set", f"data.segment_seconds={tiny.SECONDS}", "--device", "cpu"])
    second = load_checkpoint(tmp_path / "two" / "best" / "model.safetensors")
    assert second.classes == ("u", "v", "w")
    assert second.spec.features == own.spec.features
    assert second.spec.init.run == str(run)
    refused = ["train", "--run", str(tmp_path / "three"), *begun[3:], "--set", "model.width=6", "--device", "cpu"]
    with pytest.raises(RunError, match="holds another network"):
        main([*refused, "--set", f"data.segment_seconds={tiny.SECONDS}"])
    assert not (tmp_path / "three").exists()

    shutil.copy(root / "0.wav", root / "1.wav")
    with pytest.raises(RunError, match=r"run/best/config\.yaml: the recordings or their lists have changed since"):
        main(specialized)
