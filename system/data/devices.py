"""Simulated devices: recordings heard through the impulse responses of microphones.

The protocol ("ESC-10-devices") is a stand-in for TAU's device shift on any set of recordings: `a` is the
recording as it is; `s1 s2 s3` are responses of some makers, heard in training and in the test; `s4 s5 s6`
are responses of other makers, heard in the test only, or once everything is trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import fftconvolve

from system.data.decoding import read_mono
from system.data.lists import InsideFolder, Row, read_rows, unique_by_filename
from system.errors import DataError

CODE_VERSION = 1
"""Raised whenever this module makes other samples from the same files."""

AS_RECORDED = "a"
SEEN = ("s1", "s2", "s3")
UNSEEN = ("s4", "s5", "s6")
SEEN_FOLDS, UNSEEN_FOLDS = range(1, 4), range(4, 6)

BEFORE_PEAK, AFTER_PEAK = 32, 4096  # samples at REFERENCE_RATE
REFERENCE_RATE = 32000
TRAINING_TENTHS = (AS_RECORDED,) * 7 + SEEN
"""The device of a training segment, by its hash: 70 % as recorded, 10 % for each seen device."""
REFIT_TENTHS = (AS_RECORDED,) * 4 + SEEN + UNSEEN
"""The same where everything is trained on: then no device is kept for the test."""


@dataclass(frozen=True)
class DeviceResponses:
    """Impulse responses of unit energy at one sample rate, by device; `a` has none."""

    responses: dict[str, np.ndarray]  # device -> (taps,) float32, direct sound at `before_peak`
    before_peak: int
    checksum: str

    def apply(self, segments: np.ndarray, device: str) -> np.ndarray:
        """(n, samples) float32 -> the same shape through a device: each segment's level and timing kept."""
        if device == AS_RECORDED:
            return segments
        response = self.responses[device][None, :]
        heard = fftconvolve(segments, response, axes=1)[:, self.before_peak : self.before_peak + segments.shape[1]]
        level, found = _rms(segments), _rms(heard)
        scaled = heard * np.divide(level, found, out=np.zeros_like(found), where=found > 0)
        return scaled.astype(np.float32)


def training_device(filename: str, segment: int, tenths: Sequence[str] = TRAINING_TENTHS) -> str:
    """The device of a training or validation segment: a stable hash of file name and segment number."""
    value = hashlib.blake2b(f"{filename}\0{segment}".encode(), digest_size=8).digest()
    return tenths[int.from_bytes(value, "big") % len(tenths)]


def load_responses(folder: Path, sample_rate: int) -> DeviceResponses:
    """Read the six responses that the protocol takes from a folder with meta.csv of filename,label,fold.

    Raises DataError for a missing folder, list or column, too few responses, or a damaged file.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of impulse responses (data.device_irs), found none")
    path = folder / "meta.csv"
    rows = sorted(
        unique_by_filename(read_rows(path, ("filename", "label", "fold"), ",")).values(), key=lambda row: row["label"]
    )
    inside = InsideFolder(folder)
    chosen = {
        **dict(zip(SEEN, _evenly_spaced(path, rows, SEEN_FOLDS), strict=True)),
        **dict(zip(UNSEEN, _evenly_spaced(path, rows, UNSEEN_FOLDS), strict=True)),
    }
    before, after = _reach(sample_rate)
    content = hashlib.blake2b(digest_size=16)
    responses = {}
    for device, row in chosen.items():
        samples, checksum = read_mono(inside.path(row), sample_rate)
        if not samples.any():
            raise row.fault(f"{row['filename']}: expected a response, found silence")
        responses[device] = _around_peak(samples, before, after)
        content.update(f"{device}\0{row['filename']}\0{checksum}\n".encode())
    return DeviceResponses(responses, before, content.hexdigest())


def load_training_responses(
    folder: Path, sample_rate: int, held_out: Sequence[np.ndarray] = ()
) -> tuple[np.ndarray, ...]:
    """Every response that training may use, of unit energy: (taps,) each, the direct sound `before_peak` samples in.

    Where meta.csv tells a fold, those of the folds of seen devices; without meta.csv, every wav and flac file.
    Raises DataError if there is none, one is damaged, or one is `held_out`: a device of the test.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: expected a folder of impulse responses (augment.impulse_responses), found none")
    responses = []
    for path in _training_files(folder):
        samples, _ = read_mono(path, sample_rate)
        if not samples.any():
            raise DataError(f"{path}: expected a response, found silence")
        taps = _around_peak(samples, *_reach(sample_rate))
        if any(np.array_equal(taps, other) for other in held_out):
            raise DataError(
                f"{path} is the response of a device that only the test may know (data.device_irs); "
                "give another folder as augment.impulse_responses, or one with a meta.csv that tells folds"
            )
        responses.append(taps)
    if not responses:
        raise DataError(f"{folder}: expected impulse responses for training, found none")
    return tuple(responses)


def _training_files(folder: Path) -> list[Path]:
    path = folder / "meta.csv"
    if not path.is_file():
        return sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".wav", ".flac"))
    rows = list(unique_by_filename(read_rows(path, ("filename",), ",")).values())
    inside = InsideFolder(folder)
    return [inside.path(row) for row in (_in_folds(rows, SEEN_FOLDS) if rows and "fold" in rows[0] else rows)]


def before_peak(sample_rate: int) -> int:
    """Samples of a response before its direct sound."""
    return _reach(sample_rate)[0]


def _reach(sample_rate: int) -> tuple[int, int]:
    """Samples of a response before its peak, and from it on."""
    return round(BEFORE_PEAK * sample_rate / REFERENCE_RATE), round(AFTER_PEAK * sample_rate / REFERENCE_RATE)


def _evenly_spaced(path: Path, rows: Sequence[Row], folds: range) -> list[Row]:
    some = _in_folds(rows, folds)
    if len(some) < 3:
        raise DataError(f"{path}: expected at least 3 responses in folds {folds[0]} to {folds[-1]}, found {len(some)}")
    return [some[index * len(some) // 3] for index in range(3)]


def _in_folds(rows: Sequence[Row], folds: range) -> list[Row]:
    try:
        return [row for row in rows if int(row["fold"]) in folds]
    except ValueError:
        wrong = next(row for row in rows if not row["fold"].strip().lstrip("+-").isdigit())
        raise wrong.fault(f"expected fold to be a whole number, found {wrong['fold']!r}") from None


def _around_peak(response: np.ndarray, before: int, after: int) -> np.ndarray:
    peak = int(np.argmax(np.abs(response)))
    padded = np.concatenate([np.zeros(before), response, np.zeros(after)])
    taps = padded[peak : peak + before + after]  # the peak is now at index `before`
    return (taps / np.sqrt(np.sum(taps**2))).astype(np.float32)


def _rms(samples: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(samples, dtype=np.float64), axis=1, keepdims=True))
