"""How far from 1 the probabilities of a row may add up: half a step of the file's own rounding for each column.

No number of decimals is prescribed, and the DCASE 2022 baseline writes the multiples of 1/256 that an INT8 softmax
gives, as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

INT8_STEPS = 256  # of a softmax's output, from 0 to 1
ON_STEP = 1e-3  # of a step: how near a number that was written with some decimals lies to it
LEAST_DECIMALS = 2  # fewer are taken for plain numbers, such as 0, 0.5 and 1, not for rounding
NUMBER = re.compile(r"\s*[+-]?[\d_]*\.?(?P<decimals>[\d_]*)(e(?P<exponent>[+-]?\d+))?\s*", re.IGNORECASE)
SLACK = 1e-9  # for the sum itself


def rounding(values: np.ndarray, texts: Iterable[Sequence[str]]) -> float:
    """The largest error of a row's sum that rounding can make, in a file that rounds all its numbers alike.

    `values`: (rows, classes), NaN where a text is no number; `texts`: the same as they are written.
    """
    with np.errstate(invalid="ignore"):
        off_step = np.abs(values * INT8_STEPS - np.rint(values * INT8_STEPS)) > ON_STEP
    decimals = max((_decimals(text) for row in texts for text in row), default=0)
    step = 10.0 ** -max(decimals, LEAST_DECIMALS) if off_step.any() else 1 / INT8_STEPS
    return float(values.shape[1] * step / 2 + SLACK)


def _decimals(text: str) -> int:
    """How many a number has, were it written without an exponent."""
    found = NUMBER.fullmatch(text)
    return len(found["decimals"]) - int(found["exponent"] or 0) if found else 0
