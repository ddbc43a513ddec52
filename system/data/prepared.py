"""Folds become arrays: features of every segment, on the device the protocol gives it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Segments:
    """n labelled segments of one part (train, validation or test), ready for a network.

    `features` may be a memory map: index it with sorted or small index arrays.
    """

    features: np.ndarray  # (n, mel bands, frames) float32, natural-log mel power, not standardized
    label: np.ndarray  # (n,) int64, index into the classes
    filename: tuple[str, ...]
    segment: np.ndarray  # (n,) int64, index of the segment within its clip
    device: tuple[str, ...]
    source: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.filename)


@dataclass(frozen=True)
class PreparedData:
    """A data set as arrays."""

    name: str
    classes: tuple[str, ...]
    device_groups: dict[str, str]  # device -> real, seen or unseen
    train: Segments
    validation: Segments
    test: Segments
    checksum: str  # of the bytes of every recording and of the lists
    skipped: int  # damaged recordings left out under skip_bad
