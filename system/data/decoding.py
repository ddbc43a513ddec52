"""One recording: its samples, mixed to mono and resampled, or what is damaged about it; and how long it is."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from system.data.riff import announced_and_found
from system.errors import DataError

LARGEST = 2.0**31  # of a sample: that of 32-bit integers written as floats; nothing that was recorded is beyond
SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")  # of recordings that are looked for in folders
HEADER_BYTES = 2**16  # of a wav file; one whose samples begin later is as long as libsndfile says
BLOCK = 2**18  # samples that are looked at at once: bounds what comes on top of a long recording


class Damaged(DataError):
    """One recording cannot be used."""


OnDamage = Callable[[Damaged], None]  # returns where the recording is to be left out


def refuse(damage: Damaged) -> None:
    """What is done about it where nothing else is said."""
    raise damage


def recordings_in(sources: Iterable[Path]) -> Iterator[Path]:
    """Files as given, folders as the recordings in them. Raises DataError for a folder without any."""
    for source in sources:
        if not source.is_dir():
            yield source
            continue
        found = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        if not found:
            raise DataError(f"{source}: expected recordings ({', '.join(SUFFIXES)}), found none in this folder")
        yield from found


def seconds_of(path: Path) -> float:
    """How long a recording is, by its header; unlimited if that cannot be read or announces more than is there, which
    reading its samples will tell."""
    try:
        with path.open("rb") as file:  # whose name need not be text
            header = announced_and_found(file.read(HEADER_BYTES), os.fstat(file.fileno()).st_size)
            if header is not None and header[0] > header[1]:
                return math.inf
            file.seek(0)
            return float(soundfile.info(file).duration)
    except (soundfile.SoundFileError, RuntimeError, OSError):
        return math.inf


def read_mono(path: Path, sample_rate: int) -> tuple[np.ndarray, str]:
    """Decode one recording to (samples,) float32 at `sample_rate`, with the checksum of its bytes.

    Raises DataError for a missing file and Damaged for one that cannot be read whole.
    """
    content = _bytes_of(path)
    checksum = hashlib.blake2b(content, digest_size=16).hexdigest()
    mono, rate = _decode(path, content)
    del content  # a long recording is there once only while it is resampled
    return mono if rate == sample_rate else soxr.resample(mono, rate, sample_rate, quality="HQ"), checksum


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise Damaged(f"{path} cannot be read: {error.strerror}") from None


def _decode(path: Path, content: bytes) -> tuple[np.ndarray, int]:
    """(samples,) float32, the mean of the channels, and their rate in Hz. Raises Damaged."""
    if not content:
        raise Damaged(f"{path}: expected a recording, found an empty file")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            expected, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)  # whole: between two reads an mp3 decoder would seek
    except (soundfile.SoundFileError, RuntimeError) as error:
        reason = str(error).strip().rstrip(".").split(": ")[-1]
        raise Damaged(f"{path}: expected an audio file, found one that cannot be decoded ({reason})") from None
    # libsndfile silently shortens a wav file to the bytes that are there, so its header is read here as well.
    header = announced_and_found(content)
    if header is not None and header[0] > header[1]:
        raise Damaged(f"{path} is truncated: expected {header[0]} bytes of samples, found {header[1]}")
    if len(samples) < expected:
        raise Damaged(f"{path} is truncated: expected {expected} samples, found {len(samples)}")
    if len(samples) == 0:
        raise Damaged(f"{path}: expected a recording, found zero samples")
    for start in range(0, len(samples), BLOCK):
        some = samples[start : start + BLOCK]
        beyond = ~(np.abs(some) <= LARGEST)  # also where one is no number
        if beyond.any():
            where = int(np.argmax(beyond.any(axis=1)))
            found = some[where][beyond[where]][0]
            raise Damaged(f"{path}: expected samples from about -1 to 1, found {found:.3g} at sample {start + where}")
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32), rate
