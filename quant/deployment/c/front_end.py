"""The log-mel front end of a run as constants of log_mel.c."""

from __future__ import annotations

import numpy as np

from quant.deployment.c.values import Array
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.features import LogMel

BYTES = 16  # of a complex number in double: what the memory has room for


def constants(checkpoint: Checkpoint) -> tuple[dict[str, Array], str, int]:
    """(arrays by name, the initializer of FrontEnd, bytes of memory it works in).

    Raises RunError for frames of an odd length, and for bands that all lie between the bins.
    """
    spec, front_end = checkpoint.spec.features, LogMel(checkpoint.spec.features)
    if spec.n_fft % 2:
        raise RunError(f"features.n_fft: expected an even number for C, found {spec.n_fft}")
    filters = front_end.filters.numpy().T  # (mel bands, bins)
    first = [int(np.flatnonzero(band)[0]) if band.any() else 0 for band in filters]
    count = [int(np.flatnonzero(band)[-1]) + 1 - start if band.any() else 0
             for band, start in zip(filters, first, strict=True)]  # fmt: skip
    if not any(count):
        raise RunError("features: expected mel bands that read the spectrum, found none that does")
    weights = [band[start : start + some] for band, start, some in zip(filters, first, count, strict=True)]
    turns = np.exp(-2j * np.pi * np.arange(spec.n_fft // 2) / spec.n_fft)
    arrays = {
        "half": Array("real", np.stack([turns.real, turns.imag], axis=1)),
        "window": Array("real", front_end.window.numpy()),
        "weight": Array("real", np.concatenate(weights)),
        "first": Array("int32_t", np.array(first)),
        "count": Array("int32_t", np.array(count)),
    }
    _, bands, frames = checkpoint.spec.input_shape()
    numbers = [checkpoint.spec.segment_samples(), spec.n_fft, spec.win_length, spec.hop_length, bands, frames]
    given = ", ".join([*map(str, numbers), *arrays, float(spec.log_floor).hex()])
    return arrays, f"{{{given}}}", BYTES * spec.n_fft


def largest_factor(number: int) -> int:
    """The largest prime factor."""
    largest, factor = 1, 2
    while number > 1:
        while number % factor == 0:
            largest, number = factor, number // factor
        factor += 1
    return largest
