"""From predictions to scores; `predictions.csv` alone is enough to recompute every score but the interval.

Accuracy is macro: the mean of the class accuracies, over the classes present (DCASE Task 1). Log loss uses the
natural logarithm, over all items, as `sklearn.metrics.log_loss`; `log_loss_macro` is the mean of the class means.
The interval is a percentile bootstrap over sources (Efron 1979): segments of one recording location or upload are
not independent, so they are drawn together or not at all.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from system.data.folds import LABEL_SEPARATOR
from system.errors import DataError, FormatError
from system.files import write_csv, write_with
from system.metrics import classification_scores

COLUMNS = ("filename", "segment", "device", "label", "predicted")  # then one probability column per class
GROUPS = ("real", "seen", "unseen")
LOSS_FLOOR = float(np.finfo(np.float64).eps)  # the least probability a loss is taken of: scikit-learn's floor
SUM_TOLERANCE = 1e-3  # of a row of probabilities: float32 and float16 softmax stay well inside it
PROBABILITY_FLOOR = 1e-9  # the least probability written to a file: an exact 0 would make the log loss infinite
RESAMPLES = 1000
_CHUNK = 2_000_000  # numbers drawn at once by the bootstrap: bounds its memory


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


def score(predictions: Predictions, split: str, device_groups: Mapping[str, str], seed: int = 0) -> dict[str, Any]:
    """The content of scores.json, over the labelled segments. Accuracies are shares (0 to 1), losses in nats.

    `device_groups`: device -> real, seen or unseen. `seed` is of the bootstrap.
    Raises DataError where there is nothing to score or a label is not a class.
    """
    kept = [i for i, label in enumerate(predictions.label) if label]
    if not kept:
        raise DataError(f"the {split} part holds no labelled segment, so there is nothing to score")
    index_of = {name: index for index, name in enumerate(predictions.classes)}
    strange = sorted({predictions.label[i] for i in kept} - set(index_of))
    if strange:
        raise DataError(f"labels that are no classes of the model: {', '.join(strange)}")
    truth = np.array([index_of[predictions.label[i]] for i in kept])
    probabilities = np.asarray(predictions.probabilities, dtype=np.float64)[kept]
    device = np.array([predictions.device[i] for i in kept])
    group = np.array([device_groups.get(name, "") for name in device])
    source = np.array([predictions.source[i] for i in kept])
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    loss = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], LOSS_FLOOR, 1.0))
    present = np.unique(truth).tolist()
    class_wise = {predictions.classes[c]: part_scores(truth == c, correct, loss, truth) for c in present}
    size = len(predictions.classes)
    confusion = np.bincount(truth * size + probabilities.argmax(axis=1), minlength=size * size).reshape(size, size)
    scores = {
        "split": split,
        **part_scores(np.ones(len(truth), dtype=bool), correct, loss, truth),
        "log_loss_macro": float(np.mean([row["log_loss"] for row in class_wise.values()])),
        "class_wise": class_wise,
        **by_device(correct, loss, truth, device, device_groups),
        "confusion": {"classes": list(predictions.classes), "matrix": confusion.tolist()},  # a row is a true class
        "interval": bootstrap(correct, loss, truth, source, seed),
        "sources": len(np.unique(source)),
        **classification_scores(probabilities, truth),
    }
    recorded = group == "real" if (group == "real").any() else np.ones(len(truth), dtype=bool)
    clips = [f"{predictions.filename[i]}\0{predictions.device[i]}" for i in kept]
    by_clip = _clip_accuracy(probabilities[recorded], truth[recorded], np.array(clips)[recorded])
    return scores if by_clip is None else {**scores, "clip_accuracy": by_clip}


def part_scores(mask: np.ndarray, correct: np.ndarray, loss: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Macro accuracy, mean loss and number of the segments in `mask` (n,) of bool.

    `correct` (0 or 1), `loss` (nats) and `truth` (class index) are (n,), or (n, classes) where each class is decided
    by itself.
    """
    right, classes = correct[mask], truth[mask]
    by_class = [float(right[classes == c].mean()) for c in np.unique(classes)]
    return {"accuracy": float(np.mean(by_class)), "log_loss": float(loss[mask].mean()), "n": int(mask.sum())}


def by_device(
    correct: np.ndarray, loss: np.ndarray, truth: np.ndarray, device: np.ndarray, device_groups: Mapping[str, str]
) -> dict[str, Any]:
    """`device_wise` and `device_groups` of scores.json: `device` (n,) names, the rest as for `part_scores`."""
    group = np.array([device_groups.get(name, "") for name in device])

    def scores(mask: np.ndarray) -> dict[str, Any]:
        return part_scores(mask, correct, loss, truth)

    return {
        "device_wise": {str(name): scores(device == name) for name in np.unique(device)},
        "device_groups": {name: scores(group == name) for name in GROUPS if (group == name).any()},
    }


def _clip_accuracy(probabilities: np.ndarray, truth: np.ndarray, clips: np.ndarray) -> float | None:
    """Macro accuracy of whole clips, by the mean of the log probabilities; None if each clip is one segment."""
    names, first, clip = np.unique(clips, return_index=True, return_inverse=True)
    if len(names) == len(clips):
        return None
    total = np.zeros((len(names), probabilities.shape[1]))
    np.add.at(total, clip, np.log(np.clip(probabilities, LOSS_FLOOR, 1.0)))
    correct = total.argmax(axis=1) == truth[first]
    return float(np.mean([correct[truth[first] == c].mean() for c in np.unique(truth[first])]))


def bootstrap(
    correct: np.ndarray, loss: np.ndarray, truth: np.ndarray, source: np.ndarray, seed: int, resamples: int = RESAMPLES
) -> dict[str, list[float]]:
    """95 % percentile intervals [low, high] of macro accuracy and log loss, resampling whole sources.

    `correct` (0 or 1), `loss` (nats), `truth` (class index) and `source` (any name) have one entry per segment.
    """
    names, unit = np.unique(source, return_inverse=True)
    units, classes = len(names), int(truth.max()) + 1
    cell = unit * classes + truth
    hits = np.bincount(cell, weights=correct, minlength=units * classes).reshape(units, classes)
    counts = np.bincount(cell, minlength=units * classes).reshape(units, classes)
    losses = np.bincount(unit, weights=loss, minlength=units)
    accuracy, mean_loss = [], []
    for weights in drawn_sources(units, seed, resamples):
        n = weights @ counts  # (rows, classes)
        share = np.divide(weights @ hits, n, out=np.zeros_like(n), where=n > 0)
        accuracy.append(share.sum(axis=1) / (n > 0).sum(axis=1))
        mean_loss.append(weights @ losses / n.sum(axis=1))
    edges = (2.5, 97.5)
    return {
        "accuracy": np.percentile(np.concatenate(accuracy), edges).tolist(),
        "log_loss": np.percentile(np.concatenate(mean_loss), edges).tolist(),
    }


def drawn_sources(units: int, seed: int, resamples: int = RESAMPLES) -> Iterator[np.ndarray]:
    """Draws of `units` sources with replacement: how often each was drawn, (rows, units) float64, some rows at once."""
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // units)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = generator.integers(units, size=(rows, units)) + units * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * units).reshape(rows, units).astype(np.float64)


def plot_confusion(scores: Mapping[str, Any], path: Path) -> None:
    """Draw the confusion matrix of `scores` in percent of each true class; the format is `path`'s suffix."""
    from matplotlib.figure import Figure

    classes = scores["confusion"]["classes"]
    counts = np.array(scores["confusion"]["matrix"], dtype=float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 2.5 + 0.5 * len(classes)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(100 * shares, vmin=0, vmax=100, cmap="Blues")
    # a class may be named with dollar signs
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(range(len(classes)), classes, parse_math=False)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    axes.set_title(f"{scores['split']}: macro accuracy {100 * scores['accuracy']:.1f} %, n = {scores['n']:,}")
    for row, column in np.ndindex(*shares.shape):
        if counts[row, column]:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{100 * shares[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    figure.colorbar(image, ax=axes, label="% of the true class")
    write_with(path, lambda part: figure.savefig(part, dpi=120))
