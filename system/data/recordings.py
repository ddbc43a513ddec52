"""Training segments as samples, and the longer recordings they were cut from: what is augmented before features."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from system.data.audio import AudioCache
from system.data.folds import Clip
from system.errors import DataError


@dataclass(frozen=True)
class Recordings:
    """n training segments; a run is segments that follow each other without a gap in one recording.

    A recording is a clip or, where the data set tells (Clip.parent), the longer one that its clips are parts of: TAU's
    one-second files come from recordings of ten. Each part was resampled for itself, so a seam is not exact.
    """

    samples: np.ndarray  # (rows, samples) float32 memory map of the audio cache
    row: np.ndarray  # (n,) int64 into `samples`
    begin: np.ndarray  # (n,) int64: where the run of each segment begins in `order`
    place: np.ndarray  # (n,) int64 of each segment within its run
    length: np.ndarray  # (n,) int64 of its run, in segments
    order: np.ndarray  # (n,) int64: segments, run after run
    device: np.ndarray  # (n,) int64: 0 as recorded, k the k-th of `responses`, -1 simulated by the data set itself
    responses: tuple[np.ndarray, ...] = ()  # of the devices that training segments are heard through, (taps,) each
    held_out: tuple[np.ndarray, ...] = ()  # of the devices that only the test knows

    def read(self, segments: Sequence[int]) -> np.ndarray:
        """(m, samples) of the segments as they were cut."""
        return np.asarray(self.samples[self.row[np.asarray(segments)]])

    def offsets(self, segments: Sequence[int], generator: np.random.Generator) -> np.ndarray:
        """(m,) int64: a random offset for each segment, in samples from the beginning of its run.

        Uniform over the run, and stratified: the k-th of n segments draws from the k-th of n equal parts of all
        offsets, so that an epoch hears all of a recording about equally often.
        """
        chosen = np.asarray(segments)
        size = self.samples.shape[1]
        place, length = self.place[chosen], self.length[chosen]
        return np.floor((place + generator.random(len(chosen))) * (length - 1) * size / length).astype(np.int64)

    def parts(self, segments: Sequence[int], offset: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The two neighbouring segments that a crop at an offset (m,) of each segment's run lies in, and where, in
        samples from the begin of the first: (m,) each."""
        chosen = np.asarray(segments)
        size, begin, length = self.samples.shape[1], self.begin[chosen], self.length[chosen]
        first = begin + offset // size
        second = np.minimum(first + 1, begin + length - 1)
        return self.order[first], self.order[second], offset % size

    def crop(self, segments: Sequence[int], offset: np.ndarray) -> np.ndarray:
        """(m, samples) at an offset (m,) of each segment's run."""
        first, second, rest = self.parts(segments, offset)
        pair = np.concatenate([self.samples[self.row[index]] for index in (first, second)], axis=1)
        windows = np.lib.stride_tricks.sliding_window_view(pair, self.samples.shape[1], axis=1)
        return windows[np.arange(len(rest)), rest]

    def check_crops(self, label: np.ndarray, filename: Sequence[str]) -> None:
        """Raises DataError if segments of one run have different labels, (n,) or (n, classes): a crop has none then."""
        other = self.order[self.begin + np.minimum(self.place + 1, self.length - 1)]
        unlike = np.flatnonzero((label != label[other]).reshape(len(label), -1).any(axis=1))
        if len(unlike):
            raise DataError(
                f"augment.random_crop: the segments of {filename[unlike[0]]} have labels of their own, so a crop at "
                "any other offset has no label; turn it off for events with onsets and offsets"
            )


def recordings_of(
    audio: AudioCache,
    row: np.ndarray,
    clips: Sequence[Clip],
    device: np.ndarray,
    responses: Sequence[np.ndarray] = (),
    held_out: Sequence[np.ndarray] = (),
) -> Recordings:
    """The training part: `row` (n,) of the audio cache, clip and device number of each of its segments."""
    per_clip = np.bincount(audio.clip)
    alone = (per_clip[audio.clip[row]] == 1).tolist()
    keys = [
        (clip.parent, clip.place) if clip.parent is not None and single else (clip.filename, number)
        for clip, single, number in zip(clips, alone, audio.segment[row].tolist(), strict=True)
    ]
    begin, place, length, order = runs(keys)
    return Recordings(audio.samples, row, begin, place, length, order, device, tuple(responses), tuple(held_out))


def runs(keys: Sequence[tuple[Hashable, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Segments, as (recording, number), in runs of consecutive numbers: `begin`, `place`, `length`, `order`."""
    number_of: dict[Hashable, int] = {}
    recording = np.array([number_of.setdefault(name, len(number_of)) for name, _ in keys], np.int64)
    number = np.array([number for _, number in keys], np.int64)
    order = np.lexsort((number, recording))
    new = np.ones(len(keys), bool)
    new[1:] = (np.diff(recording[order]) != 0) | (np.diff(number[order]) != 1)
    starts = np.flatnonzero(new)
    run = np.cumsum(new) - 1  # of each in `order`
    begin, place, length = np.empty((3, len(keys)), np.int64)
    begin[order] = starts[run]
    place[order] = np.arange(len(keys)) - starts[run]
    length[order] = np.diff([*starts, len(keys)])[run]
    return begin, place, length, order
