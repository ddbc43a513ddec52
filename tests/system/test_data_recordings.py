"""Crops from the recordings that segments were cut from: contiguous, anywhere, and never over a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from system.data.audio import AudioCache
from system.data.folds import Clip
from system.data.recordings import Recordings, recordings_of, runs
from system.errors import DataError

SIZE = 100


def made(clips: list[tuple[Clip, list[int]]], order: list[int] | None = None) -> tuple[Recordings, list[str]]:
    """Recordings of (clip, its segments' numbers); sample k of segment n of clip i is 10,000 i + 100 n + k."""
    rows = [(i, clip, number) for i, (clip, numbers) in enumerate(clips) for number in numbers]
    samples = np.stack([np.arange(SIZE) + 10_000 * i + SIZE * number for i, _, number in rows]).astype(np.float32)
    index = np.array([i for i, _, _ in rows], np.int64)
    number = np.array([number for _, _, number in rows], np.int64)
    audio = AudioCache(samples, tuple(clip.filename for clip, _ in clips), index, number, "", (), "")
    chosen = np.array(range(len(rows)) if order is None else order, np.int64)
    listed = [rows[row][1] for row in chosen]
    return recordings_of(audio, chosen, listed, np.zeros(len(chosen), np.int64)), [clip.filename for clip in listed]


def clip(name: str, parent: str | None = None, place: int = 0) -> Clip:
    return Clip(name, Path(name), "park", name, parent=parent, place=place)


def drawn(recordings: Recordings, count: int, generator: np.random.Generator) -> np.ndarray:
    return recordings.crop(range(count), recordings.offsets(range(count), generator))


def test_runs_are_of_consecutive_numbers_of_one_recording() -> None:
    keys = [("b", 1), ("a", 0), ("b", 0), ("a", 1), ("a", 3), ("b", 2)]
    begin, place, length, order = runs(keys)
    assert [keys[index] for index in order] == [("b", 0), ("b", 1), ("b", 2), ("a", 0), ("a", 1), ("a", 3)]
    assert place.tolist() == [1, 0, 0, 1, 0, 2]
    assert length.tolist() == [3, 2, 3, 2, 1, 3]
    assert all(order[begin[i] + place[i]] == i for i in range(6))


def test_a_crop_is_contiguous_and_of_its_own_recording() -> None:
    recordings, _ = made([(clip("a"), [0, 1, 2, 3, 4]), (clip("b"), [0, 1])])
    generator = np.random.default_rng(0)
    crops = np.concatenate([drawn(recordings, 7, generator) for _ in range(50)])
    assert crops.shape == (350, SIZE)
    assert crops.dtype == np.float32
    assert (np.diff(crops, axis=1) == 1).all()
    first = crops[:, 0].reshape(50, 7)
    assert (first[:, :5] <= 4 * SIZE).all()
    assert ((first[:, 5:] >= 10_000) & (first[:, 5:] <= 10_000 + SIZE)).all()


def test_an_epoch_of_crops_is_spread_over_the_whole_recording() -> None:
    recordings, _ = made([(clip("a"), [0, 1, 2, 3, 4])])
    generator = np.random.default_rng(0)
    first = np.stack([drawn(recordings, 5, generator)[:, 0] for _ in range(4000)])
    for k in range(5):  # the k-th of five equal parts of the offsets 0 to 400
        assert first[:, k].min() == pytest.approx(80 * k, abs=1)
        assert first[:, k].max() == pytest.approx(80 * (k + 1) - 1, abs=1)
    assert np.histogram(first, bins=8, range=(0, 400))[0] / first.size == pytest.approx(np.full(8, 1 / 8), abs=0.01)


def test_a_segment_without_neighbours_is_itself() -> None:
    """A recording of one segment, and one between two silent ones that were dropped."""
    recordings, _ = made([(clip("a"), [0]), (clip("b"), [0, 1, 3])])
    crops = drawn(recordings, 4, np.random.default_rng(0))
    assert np.array_equal(crops[[0, 3]], recordings.read([0, 3]))
    assert crops[1, 0] <= 10_000 + SIZE


def test_files_of_one_parent_are_one_recording_whatever_lies_between_them() -> None:
    """TAU's order: by second, then by device; a second that is not trained on is a gap."""
    names = [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 3)]
    clips = [(clip(f"{second}-{device}", f"park-lisbon-1-{device}", second), [0]) for device, second in names]
    recordings, _ = made(clips)
    assert recordings.length.tolist() == [3, 2, 3, 2, 3, 1]
    crops = drawn(recordings, 6, np.random.default_rng(0))
    for row, (device, _) in enumerate(names[:5]):
        files = {int(value) // 10_000 for value in crops[row]}
        assert files <= {index for index, (other, _) in enumerate(names) if other == device}
    assert np.array_equal(crops[5], recordings.read([5])[0])


def test_a_file_of_several_segments_is_a_recording_of_its_own() -> None:
    clips = [(clip("0", "parent", 0), [0, 1]), (clip("1", "parent", 1), [0, 1])]
    assert made(clips)[0].length.tolist() == [2, 2, 2, 2]


def test_segments_may_be_a_part_of_the_cache_in_any_order() -> None:
    recordings, _ = made([(clip("a"), [0, 1, 2]), (clip("b"), [0, 1, 2])], order=[4, 2, 3, 1])
    assert recordings.read([0, 1])[:, 0].tolist() == [10_100, 200]
    crops = drawn(recordings, 4, np.random.default_rng(1))
    assert (np.diff(crops, axis=1) == 1).all()
    assert ((crops[[0, 2], 0] >= 10_000) & (crops[[0, 2], 0] <= 10_100)).all()
    assert ((crops[[1, 3], 0] >= 100) & (crops[[1, 3], 0] <= 200)).all()


def test_labels_of_segments_refuse_crops() -> None:
    recordings, names = made([(clip("a"), [0, 1]), (clip("b"), [0, 1])])
    recordings.check_crops(np.array([0, 0, 1, 1]), names)
    recordings.check_crops(np.array([[1, 1], [1, 1], [0, 1], [0, 1]]), names)
    with pytest.raises(DataError, match=r"augment\.random_crop: the segments of b have labels of their own"):
        recordings.check_crops(np.array([[1, 1], [1, 1], [0, 1], [1, 1]]), names)
