"""Folders with an events.csv or with several labels per clip: what is read, and each way in which it can be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from system.data.csv_folder import load
from system.data.folds import Clip, DatasetFolds, Event, split_validation
from system.dataset import paths_of, prepare
from system.errors import DataError
from system.overview import overview
from system.scoring.events import choose_thresholds
from system.spec import DataSpec, FeatureSpec

NAMES = [f"audio/{number}.wav" for number in range(12)]
FEATURES = FeatureSpec(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=16)
EVENTS = [f"{name},0.0,0.5,{'dog' if number % 2 else 'rain'}" for number, name in enumerate(NAMES)]


@pytest.fixture
def root(csv_folder: Callable[..., Path]) -> Path:
    """Twelve clips of a second in three folds, two in each source, and an events.csv."""
    rows = [(name, 1 + number // 2 % 3, f"s{number // 2}") for number, name in enumerate(NAMES)]
    return write(csv_folder(rows, header="filename,fold,source_id"), *EVENTS)


def write(root: Path, *lines: str, header: str = "filename,onset,offset,label") -> Path:
    (root / "events.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


def read(root: Path, fold: int = 1) -> DatasetFolds:
    return load(DataSpec(dataset="csv", root=str(root), fold=fold), 0)


def clip_of(folds: DatasetFolds, name: str) -> Clip:
    return next(clip for part in (folds.train, folds.validation, folds.test) for clip in part if clip.filename == name)


def test_events_are_sorted_and_a_clip_may_have_none(root: Path) -> None:
    lines = ["audio/0.wav,0.6,0.9, rain,x", "./audio//0.wav,0.1,0.3,dog,x", "audio/0.wav,0.3,0.4,dog,x"]
    folds = read(write(root, *lines, *(f"{line},x" for line in EVENTS[2:]), header="filename,onset,offset,label,by"))
    assert folds.classes == ("dog", "rain")
    clip = clip_of(folds, "audio/0.wav")
    assert clip.events == (Event(0.1, 0.3, "dog"), Event(0.3, 0.4, "dog"), Event(0.6, 0.9, "rain"))
    assert (clip.labels, clip.label) == (("dog", "rain"), "dog|rain")
    silent = clip_of(folds, "audio/1.wav")
    assert (silent.events, silent.labels, silent.label) == ((), (), "")


def test_the_label_column_is_not_needed_and_not_read(root: Path) -> None:
    meta = (root / "meta.csv").read_text().splitlines()
    (root / "meta.csv").write_text("\n".join([meta[0] + ",label", *(line + "," for line in meta[1:])]) + "\n")
    assert read(root).classes == ("dog", "rain")


def test_an_offset_just_beyond_the_end_is_the_end(root: Path) -> None:
    clip = clip_of(read(write(root, "audio/0.wav,0.5,1.04,dog", *EVENTS[1:])), "audio/0.wav")
    assert clip.events == (Event(0.5, 1.0, "dog"),)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["audio/99.wav,0,1,dog"], "line 2: audio/99.wav is not listed in meta.csv"),
        ([",0,1,dog"], "line 2: expected a filename, found none"),
        (["audio/0.wav,0,1,"], "line 2: expected a label, found none"),
        (["audio/0.wav,0,1,dog|rain"], "line 2: expected one label, found 'dog|rain'"),
        (["audio/0.wav,,1,dog"], "line 2: expected onset in seconds, found ''"),
        (["audio/0.wav,0,one,dog"], "line 2: expected offset in seconds, found 'one'"),
        (["audio/0.wav,0,nan,dog"], "line 2: expected offset in seconds, found 'nan'"),
        (["audio/0.wav,0,inf,dog"], "line 2: expected offset in seconds, found 'inf'"),
        (["audio/0.wav,-0.1,1,dog"], "line 2: expected 0 <= onset < offset, found onset -0.1 and offset 1"),
        (["audio/0.wav,0.5,0.4,dog"], "line 2: expected 0 <= onset < offset, found onset 0.5 and offset 0.4"),
        (["audio/0.wav,0.5,0.5,dog"], "line 2: expected 0 <= onset < offset"),
        (["audio/0.wav,0.5,1.5,dog"], "line 2: expected an event within the 1 s of audio/0.wav, found onset 0.5"),
        (["audio/0.wav,1.01,1.02,dog"], "line 2: expected an event within the 1 s of audio/0.wav"),
        (["audio/0.wav,0,1"], "line 2: expected 4 fields, found 3"),
        (
            ["audio/0.wav,0.4,0.9,dog", "audio/0.wav,0.1,0.5,dog"],
            "line 3: this 'dog' overlaps the one of line 2 in the same clip",
        ),
        (
            ["audio/0.wav,0.1,0.5,dog", "audio/0.wav,0.1,0.5,rain", "audio/0.wav,0.1,0.5,dog"],
            "line 4: this 'dog' overlaps the one of line 2",
        ),
        ([], "expected at least one event, found only a header"),
    ],
)
def test_wrong_events(root: Path, lines: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        read(write(root, *lines))
    assert str(caught.value).startswith(str(root / "events.csv"))
    assert message in str(caught.value)


def test_missing_columns(root: Path) -> None:
    write(root, *EVENTS, header="filename,start,offset,label")
    with pytest.raises(DataError, match=r"events\.csv: no column 'onset'"):
        read(root)
    (root / "events.csv").unlink()
    with pytest.raises(DataError, match=r"meta\.csv: no column 'label'"):
        read(root)


def test_a_class_of_the_test_fold_alone(root: Path) -> None:
    with pytest.raises(DataError, match=r"class 'cat' occurs nowhere in the training fold .*; 1 clips of it"):
        read(write(root, "audio/0.wav,0,1,cat", *EVENTS[1:]))


def test_a_damaged_clip_is_told_when_its_samples_are_read(root: Path, cache: Path) -> None:
    (root / "audio/3.wav").write_bytes(b"no audio")
    assert clip_of(read(root), "audio/3.wav").events == (Event(0.0, 0.5, "dog"),)
    with pytest.raises(DataError, match=r"3\.wav: expected an audio file"):
        prepare(DataSpec(dataset="csv", root=str(root)), FEATURES, 0)


def test_a_truncated_clip_is_told_as_such_and_can_be_left_out(root: Path, cache: Path) -> None:
    path = root / "audio/3.wav"
    path.write_bytes(path.read_bytes()[:2000])  # the event is from 0 to 0.5 s
    with pytest.raises(DataError, match=r"3\.wav is truncated"):
        prepare(DataSpec(dataset="csv", root=str(root)), FEATURES, 0)
    data = prepare(DataSpec(dataset="csv", root=str(root), skip_bad=True), FEATURES, 0)
    assert (data.skipped, len(data.test) + len(data.train) + len(data.validation)) == (1, 11)


def several(csv_folder: Callable[..., Path], *labels: str) -> Path:
    return csv_folder([(f"{number}.wav", label, 1 + number % 3) for number, label in enumerate(labels)])


def test_labels_joined_in_meta_csv_are_tags_without_a_time(csv_folder: Callable[..., Path], cache: Path) -> None:
    root = several(csv_folder, *["dog|rain", "rain", "rain | dog", "dog"] * 3)
    folds = read(root)
    assert folds.classes == ("dog", "rain")
    assert clip_of(folds, "2.wav").events == (Event(0.0, math.inf, "rain"), Event(0.0, math.inf, "dog"))
    assert clip_of(folds, "3.wav").labels == ("dog",)
    data = prepare(DataSpec(dataset="csv", root=str(root), segment_seconds=0.5), FEATURES, 0)
    assert data.task == "events"
    expected = [[float(label in clip_of(folds, name).labels) for label in folds.classes] for name in data.test.filename]
    assert data.test.label.tolist() == expected
    assert len({tuple(row) for row in expected}) == 3


def test_a_clip_may_have_no_tag_where_others_have_several(csv_folder: Callable[..., Path], cache: Path) -> None:
    root = several(csv_folder, *["dog|rain", "rain", "", "dog"] * 3)
    folds = read(root)
    assert folds.classes == ("dog", "rain")
    assert clip_of(folds, "2.wav").events == ()
    data = prepare(DataSpec(dataset="csv", root=str(root), segment_seconds=0.5), FEATURES, 0)
    without = [not row.any() for row in data.test.label]
    assert without == [name in ("2.wav", "6.wav", "10.wav") for name in data.test.filename]
    assert any(without)
    paths = paths_of(DataSpec(dataset="csv", root=str(root)), 0)
    assert "  12 tags without a time, 3 clips without any" in overview(data, paths)
    meta = root / "meta.csv"
    meta.write_text(meta.read_text().replace("dog|rain", "dog"))
    with pytest.raises(DataError, match="line 4: expected a label, found none"):
        read(root)


@pytest.mark.parametrize("label", ["dog||rain", "dog|", "dog|dog"])
def test_wrong_joined_labels(csv_folder: Callable[..., Path], label: str) -> None:
    with pytest.raises(DataError, match=r"line 2: expected different labels joined by '\|', found"):
        read(several(csv_folder, label, *["dog", "rain"] * 3))


def test_one_label_each_stays_a_scene(csv_folder: Callable[..., Path], cache: Path) -> None:
    root = several(csv_folder, *["dog", "rain"] * 6)
    assert all(clip.events is None and clip.labels == (clip.label,) for clip in read(root).train)
    data = prepare(DataSpec(dataset="csv", root=str(root)), FEATURES, 0)
    assert (data.task, data.events, data.train.label.ndim) == ("scene", None, 1)


def test_segments_are_labelled_by_what_half_fills_them(csv_folder: Callable[..., Path], cache: Path) -> None:
    rows = [(name, 1 + number % 3) for number, name in enumerate(NAMES)]
    root = csv_folder(rows, header="filename,fold", seconds=2.0)
    lines = ["audio/0.wav,0.3,1.25,dog", "audio/0.wav,1.55,1.7,rain", "audio/0.wav,1.95,2.0,dog"]
    spec = DataSpec(dataset="csv", root=str(write(root, *lines, *EVENTS[1:])), segment_seconds=0.5)
    data = prepare(spec, FEATURES, 0)
    assert (data.task, data.classes, data.segment_seconds) == ("events", ("dog", "rain"), 0.5)
    mine = [row for row, name in enumerate(data.test.filename) if name == "audio/0.wav"]
    # dog: 0.2 of the first 0.5 s, all of the second, half of the third, none of the fourth but for a short bark;
    # rain: shorter than a segment, and whole in the fourth
    assert data.test.segment[mine].tolist() == [0, 1, 2, 3]
    assert data.test.label[mine].tolist() == [[0, 0], [1, 0], [1, 0], [1, 1]]
    assert data.test.label.dtype == np.float32
    assert data.events is not None
    assert data.events["audio/0.wav"][0] == Event(0.3, 1.25, "dog")


def test_the_checksum_stands_for_the_annotations(root: Path, cache: Path) -> None:
    spec = DataSpec(dataset="csv", root=str(root))
    before = prepare(spec, FEATURES, 0).checksum
    assert prepare(spec, FEATURES, 1).checksum == before
    write(root, EVENTS[0].replace("0.5", "0.6"), *EVENTS[1:])
    assert prepare(spec, FEATURES, 0).checksum != before


def test_the_validation_part_has_every_class_by_source() -> None:
    generator = np.random.default_rng(0)
    clips = []
    for source in range(30):
        for number in range(4):
            labels = [name for name, share in (("a", 0.5), ("b", 0.2), ("c", 0.05)) if generator.random() < share]
            clip = Clip(f"{source}-{number}.wav", Path("x"), "|".join(labels), f"s{source}", events=())
            clips.append(replace(clip, events=tuple(Event(0.0, 1.0, label) for label in labels)))
    train, validation = split_validation(clips, 0.2, 0, "here")
    assert {clip.source for clip in train}.isdisjoint({clip.source for clip in validation})
    for part in (train, validation):
        assert {label for clip in part for label in clip.labels} == {"a", "b", "c"}
    assert 0.1 < len(validation) / len(clips) < 0.35
    assert split_validation(clips, 0.2, 0, "here")[1] == validation


def test_a_part_of_no_segments_has_as_many_columns_of_labels_as_any_other(root: Path, cache: Path) -> None:
    data = prepare(DataSpec(dataset="csv", root=str(root), validation_share=0), FEATURES, 0)
    assert data.validation.label.shape == (0, 2)
    assert choose_thresholds(np.empty((0, 2)), data.validation.label).tolist() == [0.5, 0.5]
