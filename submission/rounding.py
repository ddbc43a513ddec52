"""How far from 1 the probabilities of a row may add up: half a step of the file's own rounding for each number.

No number of decimals is prescribed. Files are rounded to decimals (`%.4f`), to significant digits (`%.3g`: small
numbers have more decimals than large ones), or, as the DCASE 2022 baseline writes them, to the multiples of 1/256 that
an INT8 softmax gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

INT8_STEPS = 256  # of a softmax's output, from 0 to 1
ON_STEP = 1e-3  # of a step: how near a number that was written with some decimals lies to it
LEAST = 2  # decimals, and digits: fewer are taken for plain numbers, such as 0, 0.5 and 1, not for rounding
NUMBER = re.compile(r"\s*[+-]?(?P<whole>[\d_]*)\.?(?P<decimals>[\d_]*)(e(?P<exponent>[+-]?\d{1,9}))?\s*", re.IGNORECASE)
SLACK = 1e-9  # for the sum itself


def rounding(values: np.ndarray, texts: Iterable[Sequence[str]]) -> np.ndarray:
    """(rows,) The largest error of each row's sum that rounding can make, in a file that rounds all its numbers alike.

    `values`: (rows, classes), NaN where a text is no number; `texts`: the same as they are written.
    """
    with np.errstate(invalid="ignore"):
        off_step = np.abs(values * INT8_STEPS - np.rint(values * INT8_STEPS)) > ON_STEP
    if not off_step.any():
        steps = np.full(values.shape, 1 / INT8_STEPS)
    else:
        most_decimals, most_digits = LEAST, LEAST  # a zero at the end may be left out, so that the longest number tells
        for decimals, digits in (_places(text) for row in texts for text in row):
            most_decimals, most_digits = max(most_decimals, decimals), max(most_digits, digits)
        with np.errstate(invalid="ignore", divide="ignore"):
            first = np.minimum(np.floor(np.log10(values)), -1)  # place of the first digit; 1 was rounded from below
        steps = np.maximum(10.0**-most_decimals, 10.0 ** (first - most_digits + 1))
    return np.asarray(steps.sum(axis=1) / 2 + SLACK)


def _places(text: str) -> tuple[int, int]:
    """How many decimals a number has, were it written without an exponent, and how many significant digits."""
    if (found := NUMBER.fullmatch(text)) is None:
        return 0, 0
    digits = (found["whole"] + found["decimals"]).replace("_", "").lstrip("0")
    return len(found["decimals"]) - int(found["exponent"] or 0), len(digits)
