"""Reading what other people's systems answered, and the true labels it is held against.

Two forms of file: predictions.csv (commas), as a run of TinyScene writes it, and output.csv (tabs), as DCASE asks for
it: filename, scene_label and one probability per class, in any order of columns.
"""

from __future__ import annotations

import posixpath
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from submission.rounding import rounding
from system.data.lists import Row, read_rows
from system.data.tau import NAME
from system.errors import FormatError
from system.scoring.predictions import COLUMNS, SUM_TOLERANCE, Predictions

Key = tuple[str, int, str]  # file name, segment, device
LABEL = "scene_label"
KEYS = ("filename", "segment", "device")


@dataclass(frozen=True)
class Truth:
    """The labelled segments of one test fold."""

    origin: str  # the run or file it comes from
    classes: tuple[str, ...] | None  # None: any that hold the labels
    label: Mapping[Key, str]

    def fits(self, classes: Sequence[str]) -> bool:
        """Whether answers over `classes` can be held against it."""
        known = set(self.label.values()) if self.classes is None else set(self.classes)
        return known <= set(classes) if self.classes is None else known == set(classes)


@dataclass(frozen=True)
class Answers:
    """What one model said of labelled segments."""

    classes: tuple[str, ...]
    label: Mapping[Key, str]
    row: Mapping[Key, int]
    probabilities: np.ndarray  # (n, classes)
    decision: tuple[str, ...]  # the class it chose for each row

    @property
    def not_most_probable(self) -> int:
        """Rows whose chosen class is not the most probable one."""
        number = {name: index for index, name in enumerate(self.classes)}
        chosen = self.probabilities[np.arange(len(self.decision)), [number[name] for name in self.decision]]
        return int((chosen < self.probabilities.max(axis=1)).sum())


def answers_of(predictions: Predictions, origin: str) -> Answers:
    """A run's predictions. Raises FormatError for a segment given twice or none with a label."""
    kept = [i for i, label in enumerate(predictions.label) if label]
    if not kept:
        raise FormatError(f"{origin}: expected labelled segments, found none")
    segments = np.asarray(predictions.segment).tolist()
    keys = [(predictions.filename[i], int(segments[i]), predictions.device[i]) for i in kept]
    if len(set(keys)) < len(keys):
        twice = next(key for key, count in Counter(keys).items() if count > 1)
        raise FormatError(f"{origin}: expected each segment once, found {_told(twice)} twice")
    predicted = predictions.predicted
    return Answers(
        classes=predictions.classes,
        label={key: predictions.label[i] for key, i in zip(keys, kept, strict=True)},
        row={key: row for row, key in enumerate(keys)},
        probabilities=np.asarray(predictions.probabilities, dtype=np.float64)[kept],
        decision=tuple(predicted[i] for i in kept),
    )


def read_truth(path: Path) -> Truth:
    """True labels from a predictions.csv, a meta.csv of filename,label or a DCASE list of filename, scene_label.

    Raises FormatError or DataError.
    """
    if _is_predictions(path):
        answers = answers_of(Predictions.read_csv(path), str(path))
        return Truth(str(path), answers.classes, answers.label)
    commas = "\t" not in _first_line(path)
    column = "label" if commas else LABEL
    label: dict[Key, str] = {}
    for row in read_rows(path, ("filename", column), "," if commas else "\t"):
        key = (row.filled("filename"), _segment(row), row.get("device") or row.get("source_label") or _device(row))
        if key in label:
            raise row.fault(f"{_told(key)} was given before")
        label[key] = row.filled(column)
    if not label:
        raise FormatError(f"{path}: expected at least one row below the header, found none")
    return Truth(str(path), None, label)


def read_answers(path: Path, truths: Sequence[Truth], partial: bool = False) -> Answers:
    """A foreign file, labelled by that of `truths` whose segments it answers; `partial`: some of them are enough.

    Raises FormatError naming the file, the line, what was expected and what was found.
    """
    if not truths:
        raise FormatError(f"{path}: its true labels are not known; rank it with a run, or give --reference FILE")
    rows = read_rows(path, KEYS if _is_predictions(path) else ("filename", LABEL), _delimiter(path))
    if not rows:
        raise FormatError(f"{path}: expected at least one row below the header, found none")
    columns = tuple(rows[0].position)
    classes = tuple(name for name in columns if name not in {*COLUMNS, LABEL})
    fitting = [truth for truth in truths if truth.fits(classes)]
    if not fitting:
        asked = truths[0].classes or sorted(set(truths[0].label.values()))
        raise FormatError(
            f"{path}, line 1: expected one column for each of the classes {', '.join(asked)}, "
            f"found {', '.join(classes) or 'none'}"
        )
    probabilities = _probabilities(path, rows, classes)
    decision = [row.one_of("predicted" if "predicted" in columns else LABEL, classes) for row in rows]
    match = max((_match(rows, truth) for truth in fitting), key=lambda match: (match.whole, len(match.row)))
    if not match.row or match.ambiguous or not (match.whole or partial):
        raise FormatError(f"{path}: {match.explain()}")
    kept = list(match.row.values())
    for key, number in match.row.items():
        if "label" in columns and rows[number]["label"] not in ("", match.truth.label[key]):
            raise rows[number].fault(
                f"expected the label {match.truth.label[key]!r} as in {match.truth.origin}, "
                f"found {rows[number]['label']!r}"
            )
    return Answers(
        classes=classes,
        label={key: match.truth.label[key] for key in match.row},
        row={key: row for row, key in enumerate(match.row)},
        probabilities=probabilities[kept],
        decision=tuple(decision[number] for number in kept),
    )


@dataclass(frozen=True)
class _Match:
    """Which row of a foreign file answers which labelled segment."""

    truth: Truth
    row: Mapping[Key, int]
    missing: Sequence[Key]
    strange: Sequence[Row]
    ambiguous: str  # what the file does not tell apart

    @property
    def whole(self) -> bool:
        return not self.missing and not self.strange

    def explain(self) -> str:
        if self.ambiguous:
            return self.ambiguous
        parts = [f"expected one row for each of the {len(self.truth.label):,} segments of {self.truth.origin}"]
        if self.missing:
            parts.append(f"{len(self.missing):,} are missing, such as {_told(self.missing[0])}")
        if self.strange:
            row = self.strange[0]
            parts.append(f"{len(self.strange):,} rows are none of them, such as {row['filename']} in line {row.line}")
        return "; ".join(parts)


def _match(rows: Sequence[Row], truth: Truth) -> _Match:
    """By the key columns that the file has. Raises DataError for a row given twice."""
    told = tuple(name for name in KEYS if name in rows[0])
    base = _base_names(truth)
    wanted: dict[tuple[str, ...], list[Key]] = defaultdict(list)
    for key in truth.label:
        parts = {"filename": base.get(key[0], key[0]), "segment": str(key[1]), "device": key[2]}
        wanted[tuple(parts[name] for name in told)].append(key)
    given: dict[tuple[str, ...], int] = {}
    for number, row in enumerate(rows):
        words = tuple(row[name] for name in told)
        if base:
            words = (posixpath.basename(words[0]), *words[1:])
        if given.setdefault(words, number) != number:
            raise row.fault(f"{', '.join(words)} was given before, in line {rows[given[words]].line}")
    several = next((words for words in given if len(wanted.get(words, ())) > 1), None)
    return _Match(
        truth=truth,
        row={key: given[words] for words, keys in wanted.items() if words in given for key in keys},
        missing=[key for words, keys in wanted.items() if words not in given for key in keys],
        strange=[rows[number] for words, number in given.items() if words not in wanted],
        ambiguous=f"{truth.origin} has {len(wanted[several])} segments of {', '.join(several)}; expected columns that "
        f"tell them apart ({', '.join(name for name in KEYS if name not in told)}), found none" if several else "",
    )  # fmt: skip


def _base_names(truth: Truth) -> dict[str, str]:
    """File name -> its name without folders; empty if two files would become one."""
    names = {key[0]: posixpath.basename(key[0]) for key in truth.label}
    return names if len(set(names.values())) == len(names) else {}


def _probabilities(path: Path, rows: Sequence[Row], classes: Sequence[str]) -> np.ndarray:
    """(rows, classes) float64 that sum to 1, for files may round. Raises FormatError for the first row that holds no
    distribution.
    """
    values = np.empty((len(rows), len(classes)))
    for number, row in enumerate(rows):
        for column, name in enumerate(classes):
            try:
                values[number, column] = float(row[name])
            except ValueError:
                raise row.fault(f"{name}: expected a probability, found {row[name]!r}") from None
    with np.errstate(invalid="ignore"):
        outside = ~((values >= 0) & (values <= 1)).all(axis=1)
        wrong_sum = ~(np.abs(values.sum(axis=1) - 1) <= SUM_TOLERANCE)
        if wrong_sum.any():
            texts = ([row[name] for name in classes] for row in rows)
            wrong_sum = ~(np.abs(values.sum(axis=1) - 1) <= np.maximum(SUM_TOLERANCE, rounding(values, texts)))
    for wrong, expected in ((outside, "between 0 and 1"), (wrong_sum, "that sum to 1")):
        if wrong.any():
            number = int(wrong.argmax())
            found = f"a sum of {values[number].sum():.6g}" if wrong is wrong_sum else values[number].tolist()
            raise rows[number].fault(f"expected probabilities {expected}, found {found}")
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def _first_line(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:
            return file.readline(100_000)
    except FileNotFoundError:
        raise FormatError(f"{path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} cannot be read as a table: {error}") from None


def _is_predictions(path: Path) -> bool:
    return _first_line(path).startswith(",".join(COLUMNS))


def _delimiter(path: Path) -> str:
    return "," if _is_predictions(path) else "\t"


def _segment(row: Row) -> int:
    text = row.get("segment") or "0"
    if not text.isdecimal():
        raise row.fault(f"expected segment to be a whole number, found {text!r}")
    return int(text)


def _device(row: Row) -> str:
    """The device that a file name in TAU's form tells."""
    parts = NAME.fullmatch(posixpath.basename(row["filename"]))
    return parts["device"] if parts else "a"


def _told(key: Key) -> str:
    return f"{key[0]}, segment {key[1]}, device {key[2]}"
