"""What a run on sound events answered, as its files have it: decisions of segments, and events in time."""

from __future__ import annotations

import csv
import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from system.data.folds import LABEL_SEPARATOR
from system.errors import FormatError
from system.scoring.events import EVENT_COLUMNS
from system.scoring.predictions import read_columns


@dataclass(frozen=True)
class EventRows:
    """Answers for n segments, and the events that follow from what was decided."""

    classes: tuple[str, ...]
    filename: tuple[str, ...]
    segment: np.ndarray  # (n,) int, index of the segment within its clip
    device: tuple[str, ...]
    decided: tuple[str, ...]  # classes joined by `|`, "" where none is heard
    probabilities: np.ndarray  # (n, classes) float, which do not sum to 1
    events: tuple[tuple[str, ...], ...]  # filename, device, onset, offset (seconds), label

    def __len__(self) -> int:
        return len(self.filename)

    @classmethod
    def read(cls, folder: Path) -> EventRows:
        """predictions.csv and events.csv of `folder`. Raises FormatError naming file and line."""
        path = folder / "predictions.csv"
        found = read_columns(path)
        known = set(found.classes)
        for line, text in enumerate(found.predicted, 2):
            if text and not known.issuperset(text.split(LABEL_SEPARATOR)):
                raise FormatError(f"{path}, line {line}: expected classes of its header, found {text!r}")
        outside = ~((found.probabilities >= 0) & (found.probabilities <= 1)).all(axis=1)
        if outside.any():
            row = int(outside.argmax())
            values = found.probabilities[row].tolist()
            raise FormatError(f"{path}, line {row + 2}: expected probabilities between 0 and 1, found {values}")
        heard = set(zip(found.filename, found.device, strict=True))
        return cls(
            found.classes, found.filename, found.segment, found.device, found.predicted, found.probabilities,
            tuple(_event_list(folder / "events.csv", heard, known)),
        )  # fmt: skip


def _event_list(path: Path, heard: Container[tuple[str, str]], classes: Container[str]) -> list[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
    except FileNotFoundError:
        raise FormatError(f"{path} does not exist; python quant/run.py writes it") from None
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise FormatError(f"{path}: not a CSV file in UTF-8: {error}") from None
    if tuple(header) != EVENT_COLUMNS or any(len(row) != len(EVENT_COLUMNS) for row in rows):
        raise FormatError(f"{path}: expected the columns {','.join(EVENT_COLUMNS)} in every line")
    for line, (filename, device, onset, offset, label) in enumerate(rows, 2):
        try:
            timed = 0 <= float(onset) < float(offset) < math.inf
        except ValueError:
            timed = False
        if not timed or (filename, device) not in heard or label not in classes:
            raise FormatError(
                f"{path}, line {line}: expected a recording, seconds and class of predictions.csv, found "
                f"{','.join(rows[line - 2])}"
            )
    return [tuple(row) for row in rows]
