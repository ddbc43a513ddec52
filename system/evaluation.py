"""From predictions to scores; `predictions.csv` alone is enough to recompute every score but the interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Predictions:
    """Class probabilities of n segments, with what is needed to score them."""

    classes: tuple[str, ...]
    filename: tuple[str, ...]
    segment: np.ndarray  # (n,) int, index of the segment within its clip
    device: tuple[str, ...]
    label: tuple[str, ...]  # "" where unknown
    source: tuple[str, ...]  # recording location or upload: the unit of the bootstrap
    probabilities: np.ndarray  # (n, classes) float, rows sum to 1
