"""Files of logits, by which a teacher answers that is no run here.

A file is one of

- NAME.npz with `filename` (n,) and `classes` (C,) of strings, `logits` (n, C) and, unless logits are of whole
  recordings, `segment` (n,) of whole numbers, counted from 0;
- predictions.csv as runs have it, whose probabilities become logits; rows of one segment on several devices are
  averaged in log space.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from system.errors import DataError
from system.scoring.predictions import PROBABILITY_FLOOR, Predictions

FILES = (".npz", ".csv")
DAMAGE = (ValueError, TypeError, OSError, EOFError, RuntimeError, BadZipFile, zlib.error)
"""What numpy raises, from random bytes in a file on; a single array, which is no archive, is the TypeError."""


class Logits(NamedTuple):
    """What a file holds of n segments, or of n whole recordings."""

    filename: list[str]
    segment: list[int] | None  # index of each within its recording; None where logits are of whole recordings
    classes: tuple[str, ...]
    logits: np.ndarray  # (n, classes)


def read_logits(path: Path) -> Logits:
    """Raises DataError or FormatError for a file that is damaged, or none of these."""
    if path.suffix != ".csv":
        return _of_arrays(path)
    read = Predictions.read_csv(path)
    logits = np.log(np.maximum(read.probabilities, PROBABILITY_FLOOR))
    return Logits(list(read.filename), read.segment.tolist(), read.classes, logits)


def _of_arrays(path: Path) -> Logits:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except DAMAGE as error:
        raise DataError(f"{path}: expected an .npz file of plain arrays: {error}") from None
    if missing := [key for key in ("filename", "classes", "logits") if key not in arrays]:
        raise DataError(f"{path}: expected the arrays filename, classes and logits, found no {', '.join(missing)}")
    if wrong := [key for key in ("filename", "classes") if arrays[key].ndim != 1]:
        raise DataError(f"{path}: expected {wrong[0]} to be a list of names, found shape {arrays[wrong[0]].shape}")
    logits, count = arrays["logits"], len(arrays["filename"])
    shapes = [logits.shape == (count, len(arrays["classes"])), np.issubdtype(logits.dtype, np.number)]
    if not all(shapes) or not np.isfinite(logits).all():
        raise DataError(
            f"{path}: expected finite logits of shape ({count}, {len(arrays['classes'])}), found {logits.dtype} of "
            f"{logits.shape}"
        )
    segment = arrays.get("segment")
    if segment is not None and (segment.shape != (count,) or not np.issubdtype(segment.dtype, np.integer)):
        raise DataError(f"{path}: expected segment to be {count} whole numbers, found {segment.dtype} {segment.shape}")
    names = arrays["filename"].astype(str).tolist()
    classes = tuple(arrays["classes"].astype(str).tolist())
    return Logits(names, None if segment is None else segment.tolist(), classes, logits)
