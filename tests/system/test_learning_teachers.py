"""Teachers: what they hear, how they are joined, what is kept of them, and what a student learns from them."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from system.checkpoint import Checkpoint, save_checkpoint
from system.dataset import PreparedData, prepare
from system.errors import ConfigError, DataError, RunError
from system.features import LogMel
from system.learning import teachers
from system.learning.inputs import training_data
from system.learning.loop import OnlineTeacher
from system.learning.teachers import Grid, teachers_of, windows
from system.models.network import build
from system.spec import AugmentSpec, DataSpec, DistillSpec, ExperimentSpec, FeatureSpec
from system.training import fit, logits_of
from tests import tiny

OTHER_FRONT_END = FeatureSpec(sample_rate=16000, n_fft=512, win_length=400, hop_length=320, n_mels=24)
CLASSES = ("x", "y", "z")


@pytest.fixture
def folder(csv_folder: Callable[..., Path], cache: Path) -> Path:
    """Thirty recordings of three segments each."""
    return csv_folder([(f"{i}.wav", CLASSES[i % 3], 1 + i // 3 % 5) for i in range(30)], seconds=0.6)


def student(root: Path, *names: Path, crop: bool = False, **distill: Any) -> ExperimentSpec:
    return tiny.experiment(
        data=DataSpec(dataset="csv", root=str(root), segment_seconds=tiny.SECONDS),
        augment=AugmentSpec(time_masks=0, frequency_masks=0, random_crop=crop),
        distill=DistillSpec(teachers=tuple(map(str, names)), **distill),
    )


def prepared(spec: ExperimentSpec) -> PreparedData:
    return prepare(spec.data, spec.features, spec.seed)


def run_of(path: Path, spec: ExperimentSpec, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> Path:
    """A run folder with a network of random weights."""
    torch.manual_seed(seed)
    network = build(spec.model, spec.input_shape(), len(classes))
    mean, std = (np.full(spec.features.n_mels, value, np.float32) for value in (-3.0, 2.0))
    state = {key: value * 300 if "classify" in key else value for key, value in network.state_dict().items()}
    save_checkpoint(path / "best" / "model.safetensors", Checkpoint(spec, classes, mean, std, state))
    return path


def test_windows_lie_within_the_segment_or_around_it_within_the_recording() -> None:
    wave = np.arange(50, dtype=np.float32)
    assert [piece[0] for piece in windows(wave, 10, 10, 10)] == [10]
    assert [piece.tolist() for piece in windows(wave, 10, 10, 5)] == [[*range(10, 15)], [*range(15, 20)]]
    assert [piece[[0, -1]].tolist() for piece in windows(wave, 10, 10, 4)] == [[10, 13], [13, 16], [16, 19]]
    for times in (1, 2):
        rounded = times * 16000 + 1
        assert len(windows(np.zeros(rounded, np.float32), 0, rounded, 16000)) == times, "of a length that was rounded"
    for at, first in ((0, 0), (10, 5), (20, 15), (40, 30)):  # around the segment, but where the recording ends
        (piece,) = windows(wave, at, 10, 20)
        assert piece[[0, -1]].tolist() == [first, first + 19]
    (piece,) = windows(wave, 40, 10, 60)
    assert piece.tolist() == [*range(50), *[0] * 10]


@pytest.mark.parametrize("steps", [1, 4])
def test_the_grid_covers_every_run_and_is_interpolated_between(folder: Path, steps: int) -> None:
    data = prepared(student(folder))
    assert data.recordings is not None
    grid = Grid.of(data, steps)
    clips = len(set(data.train.filename))
    assert len(grid.step) == clips * (2 * steps + 1)
    # what is said of a segment is where it stands
    values = np.stack([data.recordings.begin + grid.place, data.train.label], axis=1).astype(np.float32)
    told = teachers.Teachers(grid, torch.from_numpy(grid.spread(values)))
    every = np.arange(len(data.train))
    assert np.allclose(told.at(every), values)
    offset = np.random.default_rng(0).uniform(0, 2, len(every))
    assert np.allclose(told.at(every, offset)[:, 0], data.recordings.begin + offset, atol=1e-4)
    assert np.allclose(told.at(every, offset)[:, 1], data.train.label, atol=1e-5)


def test_a_run_says_what_its_network_says_of_the_recordings_by_its_own_front_end(folder: Path, tmp_path: Path) -> None:
    plain = student(folder)
    other = plain.changed(features=OTHER_FRONT_END)
    names = ("z", "x", "y")  # another order than the student's
    path = run_of(tmp_path / "run", other, classes=names)
    spec, data = student(folder, path), prepared(plain)
    told = teachers_of(spec, data)
    assert told is not None
    theirs = prepared(other)
    checkpoint = teachers.load_checkpoint(path / "best" / "model.safetensors")
    logits = logits_of(checkpoint.network(), theirs.train, checkpoint.mean, checkpoint.std)
    expected = torch.from_numpy(logits).log_softmax(dim=1)[:, [names.index(name) for name in CLASSES]]
    assert theirs.train.filename == data.train.filename
    assert torch.allclose(told.at(range(len(data.train))), expected, atol=1e-4)
    assert expected.std() > 0.1


def test_an_ensemble_is_the_mean_of_log_probabilities(folder: Path, tmp_path: Path) -> None:
    spec, data = student(folder), prepared(student(folder))
    paths = [run_of(tmp_path / f"run{seed}", spec, seed) for seed in (0, 1)]
    one, two, both = (
        teachers_of(student(folder, *chosen), data).logits  # type: ignore[union-attr]
        for chosen in ([paths[0]], [paths[1]], paths)
    )
    assert torch.allclose(both, ((one + two) / 2).log_softmax(dim=1), atol=1e-5)
    assert torch.allclose(both.exp().sum(dim=1), torch.ones(len(both)), atol=1e-5)
    assert not torch.allclose(one, two, atol=1e-2)


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0])
def test_a_teacher_of_other_segments_is_heard(folder: Path, tmp_path: Path, seconds: float) -> None:
    plain = student(folder)
    longer = plain.changed(data=plain.data.changed(segment_seconds=seconds))
    path, data = run_of(tmp_path / "run", longer), prepared(plain)
    told = teachers_of(student(folder, path), data)
    assert told is not None
    said = told.at(range(len(data.train))).numpy()
    assert np.isfinite(said).all()
    assert data.recordings is not None
    runs = data.recordings.begin
    same = np.array([np.ptp(said[runs == begin], axis=0).max() for begin in np.unique(runs)])
    assert (same < 1e-5).all() == (seconds == 1.0)  # as long as the recording: one answer for all of it


def test_crops_hear_the_teacher_at_their_own_offset(folder: Path, tmp_path: Path) -> None:
    path = run_of(tmp_path / "run", student(folder))
    spec = student(folder, path, crop=True, offsets=8, temperature=1.5)
    data = prepared(spec)
    mean, std = np.zeros(16, np.float32), np.ones(16, np.float32)
    batches, inputs = training_data(spec, data, mean, std, lambda: 0)
    chosen = list(range(0, len(data.train), 2))
    samples, device, label, logits = batches.__getitems__(chosen)  # type: ignore[attr-defined]
    assert data.recordings is not None
    offset = data.recordings.offsets(chosen, np.random.default_rng((0, 0, chosen[0])))
    told = teachers_of(spec, data)
    assert told is not None
    assert torch.equal(logits, told.at(chosen, offset / 1600))
    x, target, taught = inputs((samples, device, label, logits))
    assert torch.allclose(taught, (logits / 1.5).softmax(dim=1))
    assert x.shape[0] == target.shape[0] == len(chosen)
    # at the offsets where the teacher listened, its answer is that of its network on the crop itself
    step = np.random.default_rng(1).integers(0, 17, len(chosen))
    crops = torch.from_numpy(np.ascontiguousarray(data.recordings.crop(chosen, step * 200)))
    checkpoint = teachers.load_checkpoint(path / "best" / "model.safetensors")
    with torch.inference_mode():
        heard = checkpoint.network()(torch.from_numpy(checkpoint.standardize(LogMel(spec.features)(crops).numpy())))
    assert torch.allclose(heard.log_softmax(dim=1), told.at(chosen, step / 8), atol=1e-3)


def test_what_a_teacher_said_is_kept_until_it_says_otherwise(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of(tmp_path / "run1", student(folder))
    path, data = tmp_path / "run{fold}", prepared(student(folder))
    asked: list[Any] = []
    listen = teachers._listen
    monkeypatch.setattr(teachers, "_listen", lambda *args: (asked.append(args), listen(*args))[1])
    first = teachers_of(student(folder, path), data)
    again = teachers_of(student(folder, path, temperature=5.0, weight=0.1), data)
    assert first is not None
    assert again is not None
    assert torch.equal(first.logits, again.logits)
    assert len(asked) == 1
    teachers_of(student(folder, path, crop=True), data)
    assert len(asked) == 2
    run_of(tmp_path / "run1", student(folder), seed=1)
    teachers_of(student(folder, path), data)
    assert len(asked) == 3


def npz(path: Path, data: PreparedData, **changes: Any) -> Path:
    arrays = {
        "filename": np.array(data.train.filename), "segment": data.train.segment, "classes": np.array(data.classes),
        "logits": np.zeros((len(data.train), len(data.classes))), **changes,
    }  # fmt: skip
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_files_of_logits_are_read_by_their_names(folder: Path, tmp_path: Path) -> None:
    data = prepared(student(folder))
    logits = np.random.default_rng(0).normal(size=(len(data.train), 3))
    expected = torch.from_numpy(logits).log_softmax(dim=1).float()
    turned = np.arange(len(logits))[::-1]
    shuffled = npz(
        tmp_path / "a.npz", data, logits=logits[turned][:, [2, 0, 1]], classes=np.array(CLASSES)[[2, 0, 1]],
        filename=np.array(data.train.filename)[turned], segment=data.train.segment[turned],
    )  # fmt: skip
    rows = ["filename,segment,device,label,predicted,x,y,z"]
    for name, segment, p in zip(data.train.filename, data.train.segment, expected.exp().double(), strict=True):
        p = p / p.sum()
        rows.append(f"{name},{segment},a,,{CLASSES[p.argmax()]}," + ",".join(str(float(value)) for value in p))
    (tmp_path / "b.csv").write_text("\n".join(rows) + "\n")
    for path in (shuffled, tmp_path / "b.csv"):
        told = teachers_of(student(folder, path), data)
        assert told is not None
        assert torch.allclose(told.at(range(len(logits))), expected, atol=1e-5)
    names = sorted(set(data.train.filename))
    of_clips = npz(tmp_path / "c.npz", data, logits=logits[: len(names)], filename=np.array(names), segment=None)
    told = teachers_of(student(folder, of_clips, crop=True), data)
    assert told is not None
    row = [names.index(name) for name in data.train.filename]
    assert torch.allclose(told.at(range(len(logits)), np.full(len(logits), 1.3)), expected[row], atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"filename": np.array(["other.wav"] * 57)}, r"expected logits of every training segment; found none of seg"),
        ({"classes": np.array(["x", "y", "w"])}, r"knows the classes x, y, w; expected x, y, z, in any order"),
        ({"classes": None}, r"a\.npz: expected the arrays filename, classes and logits, found no classes"),
        ({"logits": np.full((57, 3), np.nan)}, r"expected finite logits of shape \(57, 3\)"),
        ({"logits": np.zeros((5, 3))}, r"found float64 of \(5, 3\)"),
        ({"filename": np.array("x")}, r"a\.npz: expected filename to be a list of names, found shape \(\)"),
        ({"filename": np.array([["x"]])}, r"a\.npz: expected filename to be a list of names, found shape \(1, 1\)"),
        ({"classes": np.array("x")}, r"a\.npz: expected classes to be a list of names, found shape \(\)"),
        ({"segment": np.zeros(57)}, r"expected segment to be 57 whole numbers, found float64"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    data = prepared(student(folder))
    assert len(data.train) == 57
    path = npz(tmp_path / "a.npz", data, **changes)
    with pytest.raises((ConfigError, DataError), match=said):
        teachers_of(student(folder, path), data)


def test_a_file_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    data = prepared(student(folder))
    whole, array = npz(tmp_path / "b.npz", data).read_bytes(), io.BytesIO()
    np.save(array, np.zeros(3))
    for content in (b"logits", b"PK\x03\x04logits", whole[:-30], array.getvalue()):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: expected an \.npz file of plain arrays"):
            teachers_of(student(folder, tmp_path / "a.npz"), data)
    with pytest.raises(DataError, match=r"nothing\.npz does not exist"):
        teachers_of(student(folder, tmp_path / "nothing.npz"), data)
    with pytest.raises(RunError, match=r"nothing: expected a run folder with best/model\.safetensors"):
        teachers_of(student(folder, tmp_path / "nothing"), data)


def test_a_teacher_that_has_heard_the_test_fold_is_refused(folder: Path, tmp_path: Path) -> None:
    spec = student(folder)
    data = prepared(spec)
    for name, change, said in (
        ("two", {"fold": 2}, "trained on all but fold 2"),
        ("all", {"refit": "all"}, "trained on everything"),
    ):
        path = run_of(tmp_path / name, spec.changed(data=spec.data.changed(**change)))
        with pytest.raises(ConfigError, match=said):
            teachers_of(student(folder, path), data)
        refit = student(folder, path)
        refit = refit.changed(data=refit.data.changed(refit="all"))  # nothing is tested then
        assert teachers_of(refit, prepared(refit)) is not None


def test_a_student_learns_its_teacher_instead_of_its_labels(folder: Path, tmp_path: Path) -> None:
    data = replace(tiny.data(), validation=tiny.segments(0, 2))
    wrong = np.roll(np.eye(3)[data.train.label], 1, axis=1) * 6.0
    path = npz(tmp_path / "a.npz", data, logits=wrong)
    learns: dict[str, Any] = {"epochs": 6, "batch_size": 4, "learning_rate": 2e-2}
    accuracy = {}
    for weight in (0.0, 1.0):
        spec = tiny.experiment(**learns, distill=DistillSpec(teachers=(str(path),), weight=weight, temperature=1.0))
        trained = fit(spec, data, device="cpu")
        found = logits_of(trained.network, data.test, trained.mean, trained.std).argmax(axis=1)
        accuracy[weight] = [np.mean(found == (data.test.label + shift) % 3) for shift in (0, 1)]
    assert accuracy[0.0][0] > 0.8
    assert accuracy[1.0][1] > 0.8


def test_a_teacher_that_hears_the_same_is_learned_from() -> None:
    data = tiny.data()
    learns: dict[str, Any] = {"epochs": 6, "batch_size": 4, "learning_rate": 2e-2}
    first = fit(tiny.experiment(**learns), data, device="cpu")
    turned = replace(data, train=replace(data.train, label=(data.train.label + 1) % 3))
    before = {key: value.clone() for key, value in first.network.state_dict().items()}
    teacher = OnlineTeacher(first.network.train(), weight=1.0, temperature=1.0)
    given = (first.mean, first.std)
    alike = fit(tiny.experiment(**learns), turned, standardization=given, teacher=teacher, device="cpu")
    assert all(torch.equal(value, before[key]) for key, value in first.network.state_dict().items())
    found, expected = (logits_of(t.network, data.test, t.mean, t.std).argmax(axis=1) for t in (alike, first))
    assert np.mean(found == expected) > 0.7  # with the labels, which say otherwise, far less
