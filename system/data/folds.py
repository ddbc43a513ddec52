"""What every data set gives: clips, classes, and who is trained, validated and tested on."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from system.errors import DataError
from system.progress import progress
from system.registry import Registry
from system.spec import DataSpec


class Event(NamedTuple):
    """One annotated sound, in seconds from the start of its clip; a tag without a time lasts from 0 to infinity."""

    onset: float
    offset: float
    label: str


@dataclass(frozen=True)
class Clip:
    """One recording as a data set lists it."""

    filename: str  # as in the data set's own list, relative to its root
    path: Path
    label: str  # the class; of a clip with several, all of them joined by LABEL_SEPARATOR
    source: str  # recordings of one source (location, upload, speaker) stay on one side of a split
    device: str = "a"
    recorded: bool = True  # False: a simulated device
    events: tuple[Event, ...] | None = None  # of a set where a clip may have several classes or none; else None
    parent: str | None = None  # the longer recording of which this clip is a part, if the set tells
    place: int = 0  # of the clip among the parts of its parent

    @property
    def labels(self) -> tuple[str, ...]:
        """Its classes: exactly one, unless the set annotates events."""
        return (self.label,) if self.events is None else tuple(sorted({event.label for event in self.events}))


@dataclass(frozen=True)
class DatasetFolds:
    """A data set split for one experiment. Validation is a part of the training fold, by source."""

    name: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]
    rest: tuple[Clip, ...] = ()  # labelled, but in none of these

    def everything(self) -> DatasetFolds:
        """All of it for training, nothing left to score."""
        every = (*self.train, *self.validation, *self.test, *self.rest)
        return replace(self, train=every, validation=(), test=(), rest=())


LABEL_SEPARATOR = "|"
"""Between the classes of one clip or segment, in meta.csv and in predictions.csv."""

Loader = Callable[[DataSpec, int], DatasetFolds]
DATASETS: Registry[Loader] = Registry("data set")
"""name -> loader(data spec, seed)"""


def data_root(data: DataSpec) -> Path:
    """The data set's folder. Raises DataError if none is given or it is no folder."""
    if data.root is None:
        raise DataError(f"data set {data.dataset!r} is read from a folder: give it as --data-root DIR (data.root)")
    root = Path(data.root).expanduser()
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise DataError(f"{data.root}: expected the folder of data set {data.dataset!r}, found {found}")
    return root


def split_folds(
    name: str,
    root: Path,
    classes: Sequence[str],
    training: Sequence[Clip],
    test: Sequence[Clip],
    data: DataSpec,
    seed: int,
) -> DatasetFolds:
    """Check a training and a test fold against each other and split the validation part off the first.

    Raises DataError for an empty part or a class that occurs nowhere in the training fold.
    """
    where = f"{root}, fold {data.fold}"
    if not training:
        raise DataError(f"{where}: the training fold is empty")
    if not test:
        raise DataError(f"{where}: the test fold is empty")
    missing = sorted(set(classes) - {label for clip in training for label in clip.labels})
    if missing:
        found = sum(missing[0] in clip.labels for clip in test)
        raise DataError(
            f"{where}: class {missing[0]!r} occurs nowhere in the training fold (expected at least one clip of "
            f"each of {len(classes)} classes; {found} clips of it in the test fold)"
        )
    train, validation = split_validation(training, data.validation_share, seed, where)
    return DatasetFolds(name, root, tuple(classes), tuple(train), tuple(validation), tuple(test))


def split_validation(clips: Sequence[Clip], share: float, seed: int, where: str) -> tuple[list[Clip], list[Clip]]:
    """Split a training fold into (train, validation) by source, stratified by label (of several, the rarest).

    Every class stays in the training part, and is in the validation part too where it has at least
    two sources. A share of 0 leaves nothing to validate on. Raises DataError if another one leaves a part empty.
    """
    if not share:
        return list(clips), []
    counts = Counter(label for clip in clips for label in clip.labels)
    labels = np.array([min(clip.labels, key=lambda label: (counts[label], label), default="") for clip in clips])
    groups = np.unique([clip.source for clip in clips], return_inverse=True)[1]
    n_sources = int(groups.max()) + 1
    largest_class = int(np.unique(labels, return_counts=True)[1].max())
    n_splits = min(max(2, round(1 / share)), n_sources, largest_class)
    if n_splits < 2:
        raise DataError(
            f"{where}: a validation part needs at least two sources in the training fold, found {n_sources}"
        )
    # Without groups of several clips both splitters agree, but the grouped one takes minutes on 100,000 sources.
    alone = n_sources == len(clips)
    splitter = (StratifiedKFold if alone else StratifiedGroupKFold)(n_splits, shuffle=True, random_state=seed)
    with progress("splitting off the validation part", None), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class in y")  # _keep_classes sees to it
        folds = splitter.split(groups, labels, None if alone else groups)
        held_out = set(groups[next(iter(folds))[1]].tolist())
    _keep_classes([clip.labels for clip in clips], groups, held_out)
    train = [clip for clip, group in zip(clips, groups.tolist(), strict=True) if group not in held_out]
    validation = [clip for clip, group in zip(clips, groups.tolist(), strict=True) if group in held_out]
    if not train or not validation:
        raise DataError(
            f"{where}: no validation part can be split off: expected a class with at least two sources, found none"
        )
    return train, validation


def _keep_classes(labels: Sequence[Sequence[str]], groups: np.ndarray, held_out: set[int]) -> None:
    """Move single sources across the split until each class is trained on and, if it can be, validated on.

    A stratified split of few sources may miss a rare class on either side. Training comes first: a source
    stays there if it is the last one of any of its classes. `held_out` changes in place.
    """
    sources_of: dict[str, set[int]] = defaultdict(set)
    classes_of: dict[int, set[str]] = defaultdict(set)
    for several, group in zip(labels, groups.tolist(), strict=True):
        classes_of[group].update(several)
        for label in several:
            sources_of[label].add(group)
    sizes = np.bincount(groups)

    def order(group: int) -> tuple[int, int]:
        return int(sizes[group]), group  # small sources first: they disturb the shares least

    for sources in sources_of.values():
        if sources <= held_out:
            held_out.discard(min(sources, key=order))
    for sources in sources_of.values():
        if len(sources) < 2 or sources & held_out:
            continue
        for group in sorted(sources, key=order):
            if all(sources_of[other] - held_out - {group} for other in classes_of[group]):
                held_out.add(group)
                break
