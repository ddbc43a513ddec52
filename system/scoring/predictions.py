"""Class probabilities of segments, and predictions.csv: it alone is enough to compute every score but the interval."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from system.data.folds import LABEL_SEPARATOR
from system.errors import FormatError
from system.files import write_csv

COLUMNS = ("filename", "segment", "device", "label", "predicted")  # then one probability column per class
SUM_TOLERANCE = 1e-3  # of a row of probabilities: float32 and float16 softmax stay well inside it
PROBABILITY_FLOOR = 1e-9  # the least probability written to a file: an exact 0 would make the log loss infinite


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

    def __len__(self) -> int:
        return len(self.filename)

    @property
    def predicted(self) -> tuple[str, ...]:
        """The most probable class of each segment; the first of equals."""
        return tuple(self.classes[index] for index in self.probabilities.argmax(axis=1).tolist())

    def write_csv(self, path: Path) -> None:
        """Write `filename,segment,device,label,predicted,<one column per class>`; numbers read back bit for bit."""
        probabilities = np.asarray(self.probabilities, dtype=np.float64).tolist()
        names = zip(
            self.filename, np.asarray(self.segment).tolist(), self.device, self.label, self.predicted, strict=True
        )
        write_csv(
            path, (*COLUMNS, *self.classes), ((*name, *row) for name, row in zip(names, probabilities, strict=True))
        )

    @classmethod
    def read_csv(cls, path: Path) -> Predictions:
        """Read what `write_csv` wrote. The file does not name sources: a clip is its own.

        Raises FormatError naming the file, the line, what was expected and what was found.
        """
        found = read_columns(path)
        predictions = cls(
            classes=found.classes,
            filename=found.filename,
            segment=found.segment,
            device=found.device,
            label=found.label,
            source=found.filename,
            probabilities=found.probabilities,
        )
        _check(predictions, found.predicted, path)
        return predictions


class Columns(NamedTuple):
    """A predictions.csv as it stands, of scenes or of events: n segments."""

    classes: tuple[str, ...]
    filename: tuple[str, ...]
    segment: np.ndarray  # (n,) int
    device: tuple[str, ...]
    label: tuple[str, ...]
    predicted: tuple[str, ...]
    probabilities: np.ndarray  # (n, classes) float


def read_columns(path: Path) -> Columns:
    """Raises FormatError naming the file, the line, what was expected and what was found."""
    header, *body = _rows(path)
    if not body:
        raise FormatError(f"{path}: expected at least one row of predictions, found none")
    filename, segment, device, label, predicted, *probabilities = zip(*body, strict=True)
    return Columns(
        tuple(header[len(COLUMNS) :]), filename, np.array(segment, dtype=np.int64), device, label, predicted,
        np.array(probabilities, dtype=np.float64).T.copy(),
    )  # fmt: skip


def _rows(path: Path) -> Iterator[list[str]]:
    """The header, then every row, each with the header's number of fields and with numbers where they belong."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            names = header[len(COLUMNS) :]
            if tuple(header[: len(COLUMNS)]) != COLUMNS or not names or "" in names or len(set(names)) != len(names):
                raise FormatError(
                    f"{path}, line 1: expected the columns {','.join(COLUMNS)} and one per class, "
                    f"found {','.join(header)[:200] or 'an empty file'}"
                )
            yield header
            for row in reader:
                if len(row) != len(header):
                    raise FormatError(
                        f"{path}, line {reader.line_num}: expected {len(header)} fields, found {len(row)}"
                    )
                _number(row[1], int, "segment", path, reader.line_num)
                for name, text in zip(names, row[len(COLUMNS) :], strict=True):
                    _number(text, float, name, path, reader.line_num)
                yield row
    except FileNotFoundError:
        raise FormatError(f"{path} does not exist") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path}: not a CSV file in UTF-8: {error}") from None


def _number(text: str, kind: type, column: str, path: Path, line: int) -> None:
    try:
        kind(text)
    except ValueError:
        raise FormatError(f"{path}, line {line}: {column}: expected a number, found {text!r}") from None


def _check(predictions: Predictions, predicted: tuple[str, ...], path: Path) -> None:
    """Raise FormatError for the first row whose content contradicts itself. Line 1 is the header."""
    values = predictions.probabilities
    known = {"", *predictions.classes}
    several = np.array([not found or LABEL_SEPARATOR in found for found in predicted])
    sums = values.sum(axis=1)
    with np.errstate(invalid="ignore"):
        wrong_value = ~((values >= 0) & (values <= 1)).all(axis=1)
        wrong_sum = ~(np.abs(sums - 1) <= SUM_TOLERANCE)
    wrong_label = np.array([label not in known for label in predictions.label])
    wrong_class = np.array([found != best for found, best in zip(predicted, predictions.predicted, strict=True)])
    for wrong, expected, found in (
        (several, "one predicted class, as no run on sound events has it", lambda i: repr(predicted[i])),
        (wrong_value, "probabilities between 0 and 1", lambda i: values[i].tolist()),
        (wrong_sum, "probabilities that sum to 1", lambda i: float(sums[i])),
        (wrong_label, f"a label among {', '.join(predictions.classes)}", lambda i: repr(predictions.label[i])),
        (wrong_class, "predicted = the most probable class", lambda i: repr(predicted[i])),
    ):
        if wrong.any():
            index = int(wrong.argmax())
            raise FormatError(f"{path}, line {index + 2}: expected {expected}, found {found(index)}")


def probabilities_of(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n, classes) logits -> probabilities by the softmax in float64, never below about `PROBABILITY_FLOOR`."""
    shifted = np.asarray(logits, dtype=np.float64) / temperature
    powers = np.exp(shifted - shifted.max(axis=1, keepdims=True))
    return floored(powers / powers.sum(axis=1, keepdims=True))


def floored(probabilities: np.ndarray) -> np.ndarray:
    """Raise each probability to `PROBABILITY_FLOOR` at least, and let the rows sum to 1 again (float64)."""
    raised = np.maximum(np.asarray(probabilities, dtype=np.float64), PROBABILITY_FLOOR)
    return raised / raised.sum(axis=1, keepdims=True)
