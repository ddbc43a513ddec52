"""Raw samples as they come, such as a microphone's by arecord: mono, checked, in blocks, at the rate asked for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soxr

from system.errors import ConfigError, DataError

PCM = {  # sample formats of a raw stream, named as ffmpeg does: (NumPy type, value of full scale, of zero)
    "u8": ("u1", 128, 128),
    "s16le": ("<i2", 2**15, 0),
    "s32le": ("<i4", 2**31, 0),
    "f32le": ("<f4", 1, 0),
}
LOUDEST = 16.0  # float samples beyond this many times full scale are not samples
CONTAINERS = {  # the first four bytes of files that are no raw samples
    b"RIFF": "a WAV file", b"RF64": "a WAV file", b"FORM": "an AIFF file", b"caff": "a CAF file",
    b"fLaC": "a FLAC file", b"OggS": "an Ogg file", b"ID3\x03": "an MP3 file", b"ID3\x04": "an MP3 file",
}  # fmt: skip


@dataclass(frozen=True)
class Pcm:
    """Where they come from, at `rate` Hz (None: the rate asked for), in a format of `PCM`."""

    rate: int | None = None
    format: str = "s16le"
    stream: BinaryIO | None = None  # None: standard input


def stream_blocks(pcm: Pcm, sample_rate: int, step: int) -> Iterator[np.ndarray]:
    """(samples,) float32 at `sample_rate`, `step` of them at once, as they come.

    Raises DataError for a stream that holds none, or others, ConfigError for a rate that is none.
    """
    stream = pcm.stream or sys.stdin.buffer
    number, full, zero = PCM[pcm.format]
    kind, rate = np.dtype(number), sample_rate if pcm.rate is None else pcm.rate
    if rate <= 0:
        raise ConfigError(f"--rate: expected a positive number of Hz, found {rate}")
    resample = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, "float32", quality="HQ")
    size = max(1, round(rate * step / sample_rate)) * kind.itemsize
    total, content = 0, b""
    while piece := stream.read(size):
        if not total and (container := CONTAINERS.get(piece[:4])):
            raise DataError(f"standard input: expected raw {pcm.format} samples, found {container}; name it as a file")
        content, total = content + piece, total + len(piece)
        whole = len(content) // kind.itemsize * kind.itemsize
        samples = np.frombuffer(content[:whole], kind).astype(np.float32)
        wrong = ~(np.abs(samples) <= LOUDEST * full)  # also where one is no number
        if wrong.any():
            raise DataError(
                f"standard input: expected {pcm.format} samples of at most {full:g}, found {samples[wrong][0]:g}; "
                f"--format says how they are stored"
            )
        samples, content = (samples - np.float32(zero)) / np.float32(full), content[whole:]
        yield samples if resample is None else resample.resample_chunk(samples)
    if not total:
        raise DataError(f"standard input: expected raw {pcm.format} samples, found none")
    if content:
        raise DataError(f"standard input: expected samples of {kind.itemsize} bytes, found {total} bytes in all")
    if resample is not None:
        yield resample.resample_chunk(np.zeros(0, np.float32), last=True)
