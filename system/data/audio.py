"""Recordings become segments: decoded (decoding.py) once, cut, and kept as a memory map; or streamed, uncached."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from system.data.cache import build_once, cache_folder, digest, growing_array
from system.data.decoding import BLOCK, Damaged, OnDamage, read_mono, refuse
from system.data.folds import Clip
from system.errors import DataError
from system.progress import progress

CODE_VERSION = 1
"""Raised whenever this module or decoding.py makes other samples from the same files."""

READERS = 2
AHEAD = 2 * READERS  # recordings that are read before they are asked for: bounds the memory of long ones

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class AudioCache:
    """Every segment of a set of recordings, in the order of their file names."""

    samples: np.ndarray  # (n, samples) float32 memory map
    filename: tuple[str, ...]  # of each recording that was kept
    clip: np.ndarray  # (n,) int64, index into `filename`
    segment: np.ndarray  # (n,) int64, index of the segment within its recording
    checksum: str  # of the bytes of all recordings, whatever machine and folder they are on
    skipped: tuple[str, ...]  # damaged recordings left out
    key: str


def cut(samples: np.ndarray, length: int, silence_rms: float) -> tuple[np.ndarray, np.ndarray]:
    """Cut (samples,) into ((n, length) float32, (n,) index of each segment).

    A shorter clip is zero padded; so is a remainder of at least half a segment, a shorter one is dropped.
    Of clips longer than a segment, silent segments are dropped (they are padding of the data set), but
    for the loudest: every clip keeps one.
    """
    count = max(1, (len(samples) + length // 2) // length)
    segments = np.zeros((count, length), np.float32)
    kept = samples[: count * length]
    segments.reshape(-1)[: len(kept)] = kept
    index = np.arange(count)
    if silence_rms and len(samples) > length:
        rms = _rms(segments)
        loud = rms >= min(silence_rms, rms.max())
        segments, index = segments[loud], index[loud]
    return segments, index


def _rms(segments: np.ndarray) -> np.ndarray:
    """(n,) root mean squares of (n, samples), in float64, a few rows at once: float64 copies take twice the bytes."""
    step = max(1, BLOCK // segments.shape[1])
    some = (segments[start : start + step] for start in range(0, len(segments), step))
    return np.concatenate([np.sqrt(np.mean(np.square(rows, dtype=np.float64), axis=1)) for rows in some])


def _in_order(pool: ThreadPoolExecutor, call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`call` of each item in order, at most `AHEAD` of them before they are asked for."""
    waiting: deque[Future[R]] = deque()
    for item in items:
        waiting.append(pool.submit(call, item))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def cached_audio(
    clips: Sequence[Clip], sample_rate: int, segment_seconds: float, silence_rms: float, skip_bad: bool
) -> AudioCache:
    """The segments of `clips`, from the cache if nothing that matters has changed.

    Raises DataError naming the first damaged recording, unless `skip_bad`.
    """
    ordered = sorted(clips, key=lambda clip: clip.filename)
    length = round(segment_seconds * sample_rate)
    files = []
    with progress("checking files", len(ordered), unit="files") as step:
        for clip in ordered:
            files.append((clip.filename, os.path.abspath(clip.path), *_size_and_time(clip)))
            step(1)
    key = digest([CODE_VERSION, sample_rate, length, silence_rms, skip_bad, files])

    def build(folder: Path) -> None:
        _read_all(folder, ordered, sample_rate, length, silence_rms, skip_bad)

    return _open(build_once(cache_folder() / "audio" / key, build), key)


def _size_and_time(clip: Clip) -> tuple[int, int]:
    try:
        status = clip.path.stat()
    except OSError as error:
        raise DataError(f"{clip.path} is listed but cannot be found ({error.strerror})") from None
    return status.st_size, status.st_mtime_ns


def _read_all(
    folder: Path, clips: Sequence[Clip], sample_rate: int, length: int, silence_rms: float, skip_bad: bool
) -> None:
    """Write segments.npy (n, length) float32, index.npy (n, 2) and about.json into `folder`."""
    filename: list[str] = []
    index: list[tuple[int, int]] = []
    skipped: list[str] = []
    content = hashlib.blake2b(digest_size=16)

    def one(clip: Clip) -> tuple[np.ndarray, np.ndarray, str] | Damaged:
        try:
            samples, checksum = read_mono(clip.path, sample_rate)
        except Damaged as damage:
            return damage
        return *cut(samples, length, silence_rms), checksum

    with (
        growing_array(folder / "segments.npy", (length,)) as append,
        ThreadPoolExecutor(READERS) as pool,
        progress("reading audio", len(clips), unit="clips") as step,
    ):
        for clip, result in zip(clips, _in_order(pool, one, clips), strict=True):
            step(1)
            if isinstance(result, Damaged):
                if not skip_bad:
                    raise DataError(f"{result}; --skip-bad leaves damaged recordings out")
                skipped.append(clip.filename)
                continue
            segments, numbers, checksum = result
            content.update(f"{clip.filename}\0{checksum}\n".encode())
            index.extend((len(filename), int(number)) for number in numbers)
            filename.append(clip.filename)
            append(segments)
    np.save(folder / "index.npy", np.array(index, np.int64).reshape(-1, 2))
    about = {"filename": filename, "skipped": skipped, "checksum": content.hexdigest()}
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")


def _open(folder: Path, key: str) -> AudioCache:
    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    index = np.load(folder / "index.npy")
    if not len(index):
        raise DataError(f"no recording is left: all {len(about['skipped'])} are damaged")
    return AudioCache(
        samples=np.load(folder / "segments.npy", mmap_mode="r"),
        filename=tuple(about["filename"]),
        clip=index[:, 0],
        segment=index[:, 1],
        checksum=about["checksum"],
        skipped=tuple(about["skipped"]),
        key=key,
    )


def stream_segments(
    paths: Sequence[Path], sample_rate: int, length: int, damaged: OnDamage = refuse
) -> Iterator[tuple[int, np.ndarray]]:
    """Read recordings one after the other, uncached: (position in `paths`, (segments, length) float32).

    Silence is kept: every recording gives at least one segment, but for those left out: `damaged` may raise, or not.
    Raises DataError for a missing one.
    """

    def one(path: Path) -> np.ndarray | Damaged:
        try:
            return read_mono(path, sample_rate)[0]
        except Damaged as damage:
            return damage

    with ThreadPoolExecutor(READERS) as pool:
        for position, found in enumerate(_in_order(pool, one, paths)):
            if isinstance(found, Damaged):
                damaged(found)
            else:
                yield position, cut(found, length, 0.0)[0]
