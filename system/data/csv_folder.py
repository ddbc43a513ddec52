"""Any labelled folder: audio files and one meta.csv; with an events.csv, sounds with their onsets and offsets."""

from __future__ import annotations

import math
import posixpath
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from system.data.decoding import seconds_of
from system.data.folds import DATASETS, LABEL_SEPARATOR, Clip, DatasetFolds, Event, data_root, split_folds
from system.data.lists import InsideFolder, Row, read_rows, unique_by_filename
from system.errors import DataError
from system.progress import progress
from system.spec import DataSpec

META, EVENTS = "meta.csv", "events.csv"
COLUMNS = ("filename", "label", "fold")
COLUMNS_WITH_EVENTS = ("filename", "fold")
EVENT_COLUMNS = ("filename", "onset", "offset", "label")
BEYOND_SECONDS = 0.05
"""How far an annotated offset may lie beyond the clip's end: annotators round."""
BREAKING = ("Cc", "Zl", "Zp")
"""Kinds of characters that a label may not have: control characters, tabs and ends of lines among them."""
SIMULATED_DEVICE = re.compile(r"s\d+")
"""TAU's names for simulated devices; any other name is a microphone that recorded the clip."""


@DATASETS.add("csv")
def load(data: DataSpec, seed: int) -> DatasetFolds:
    """a folder with meta.csv of filename,label,fold[,source_id,device]; fold data.fold is the test fold

    The other folds are the training fold. Without a `source_id` column each file is its own source.

    A clip may have several classes, or none, in either of two ways. Where there is an events.csv of
    filename,onset,offset,label (seconds), it tells the classes of every clip, and meta.csv needs no label column (one
    that is there is not read). Without it, labels may be joined by `|` in meta.csv: tags without a time; where that is
    done in any row, one without a label is a clip that has none of the classes.
    Raises DataError.
    """
    root = data_root(data)
    if data.train_list is not None:
        raise DataError(f"{root / META}: its folds tell what is trained on; expected no data.train_list, found one")
    listed = read_clips(root)
    folds = {fold for _, fold in listed}
    if data.fold not in folds:
        raise DataError(
            f"{root / META}: data.fold is {data.fold}, but the folds found are {', '.join(map(str, sorted(folds)))}"
        )
    if len(folds) == 1:
        raise DataError(f"{root / META}: expected at least two folds, one of them to test on, found only {data.fold}")
    training = [clip for clip, fold in listed if fold != data.fold]
    test = [clip for clip, fold in listed if fold == data.fold]
    shared = {clip.source for clip in training} & {clip.source for clip in test}
    if shared:
        raise DataError(
            f"{root / META}: source_id {min(shared)!r} is both in fold {data.fold} and in another one "
            f"({len(shared)} such sources); recordings of one source must stay in one fold"
        )
    classes = sorted({label for clip in training + test for label in clip.labels})
    if len(classes) == 1 and listed[0][0].events is None:
        raise DataError(
            f"{root / META}: expected at least two classes, found only {classes[0]!r}; whether one sound is there or "
            f"not is learnt from an {EVENTS}"
        )
    return split_folds("csv", root, classes, training, test, data, seed)


def read_clips(root: Path) -> list[tuple[Clip, int]]:
    """Every clip of the folder with its fold, in the order of meta.csv. Raises DataError."""
    timed = (root / EVENTS).exists()
    inside = InsideFolder(root)
    with progress(f"reading {META}", None, unit="rows") as step:
        rows = unique_by_filename(read_rows(root / META, COLUMNS_WITH_EVENTS if timed else COLUMNS, ","))
        if not rows:
            raise DataError(f"{root / META}: expected at least one clip, found only a header")
        labels = {} if timed else _labels_of(rows)
        paths = {name: inside.path(row) for name, row in rows.items()}
        step(len(rows))
    if timed:
        events = _read_events(root / EVENTS, paths)
    elif any(len(several) > 1 for several in labels.values()):
        events = {name: tuple(Event(0.0, math.inf, label) for label in labels[name]) for name in rows}
    else:
        events = {}
    return [
        (_clip(name, row, paths[name], labels.get(name, ()), events.get(name)), _fold(row))
        for name, row in rows.items()
    ]


def _fold(row: Row) -> int:
    try:
        return int(row["fold"])
    except ValueError:
        raise row.fault(f"expected fold to be a whole number, found {row['fold']!r}") from None


def _labels_of(rows: Mapping[str, Row]) -> dict[str, list[str]]:
    """The classes of each clip. Raises DataError for a clip without any, where no clip has several."""
    tags = any(LABEL_SEPARATOR in row["label"] for row in rows.values())
    return {name: [] if tags and row.get("label") is None else _labels(row) for name, row in rows.items()}


def _labels(row: Row) -> list[str]:
    labels = [part.strip() for part in _label(row).split(LABEL_SEPARATOR)]
    if "" in labels or len(set(labels)) < len(labels):
        raise row.fault(f"expected different labels joined by {LABEL_SEPARATOR!r}, found {row['label']!r}")
    return labels


def _label(row: Row) -> str:
    """Without outer spaces. Raises DataError for what would break the lines of a table or of what is printed."""
    label = row.filled("label").strip()
    if any(unicodedata.category(character) in BREAKING for character in label):
        raise row.fault(f"expected a label on one line and without tabs or control characters, found {label!r}")
    return label


def _clip(name: str, row: Row, path: Path, labels: Sequence[str], events: tuple[Event, ...] | None) -> Clip:
    device = row.if_told("device", "a")
    return Clip(
        filename=name,
        path=path,
        label=labels[0] if events is None else LABEL_SEPARATOR.join(sorted({event.label for event in events})),
        source=row.if_told("source_id", name),
        device=device,
        recorded=SIMULATED_DEVICE.fullmatch(device) is None,
        events=events,
    )


def _read_events(path: Path, clips: dict[str, Path]) -> dict[str, tuple[Event, ...]]:
    """The events of each clip in time order; a clip without any has an empty tuple. Raises DataError."""
    found: dict[str, list[tuple[Event, int]]] = defaultdict(list)
    seconds: dict[str, float] = {}
    rows = read_rows(path, EVENT_COLUMNS, ",")
    if not rows:
        raise DataError(f"{path}: expected at least one event, found only a header")
    with progress(f"reading {EVENTS}", len(rows), unit="events") as step:
        for row in rows:
            name = posixpath.normpath(row.filled("filename"))
            if name not in clips:
                raise row.fault(f"{name} is not listed in {META}")
            if name not in seconds:
                seconds[name] = seconds_of(clips[name])
            found[name].append((_event(row, seconds[name]), row.line))
            step(1)
    return {name: _in_order(path, found[name]) for name in clips}


def _event(row: Row, seconds: float) -> Event:
    onset, offset = _time(row, "onset"), _time(row, "offset")
    label = _label(row)
    if LABEL_SEPARATOR in label:
        raise row.fault(f"expected one label, found {label!r}; write one row for each label")
    if not 0 <= onset < offset:
        raise row.fault(f"expected 0 <= onset < offset, found onset {onset:g} and offset {offset:g}")
    if offset > seconds + BEYOND_SECONDS or onset >= seconds:
        raise row.fault(
            f"expected an event within the {seconds:g} s of {row['filename']}, found onset {onset:g} and "
            f"offset {offset:g}"
        )
    return Event(onset, min(offset, seconds), label)


def _time(row: Row, column: str) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise row.fault(f"expected {column} in seconds, found {row[column]!r}")
    return value


def _in_order(path: Path, events: list[tuple[Event, int]]) -> tuple[Event, ...]:
    """Sorted by onset. Raises DataError where two events of one class overlap: they could not be told apart."""
    latest: dict[str, tuple[Event, int]] = {}
    for event, line in sorted(events):
        if event.label in latest and event.onset < latest[event.label][0].offset:
            other = latest[event.label][1]
            raise DataError(
                f"{path}, line {max(line, other)}: this {event.label!r} overlaps the one of line {min(line, other)} in "
                "the same clip; expected one row from the first onset to the last offset"
            )
        latest[event.label] = event, line
    return tuple(event for event, _ in sorted(events))
