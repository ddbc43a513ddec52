"""Where the tested clips were recorded, and what of it the training fold knew.

predictions.csv names no sources. File names in TAU's form tell city and location themselves; otherwise the lists of
the data set that the run's config.yaml names are read again. Where neither is to be had, each clip is its own source,
and that is said: intervals are then too narrow if several clips come from one recording.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from system.data import devices, made
from system.data.folds import DATASETS
from system.data.tau import NAME
from system.editions import SCENES
from system.errors import ConfigError, DataError
from system.spec import DataSpec


@dataclass(frozen=True)
class Places:
    """Of the tested file names; None where the data do not tell."""

    unit: str  # what a source is, in the singular
    source: Mapping[str, str]  # file name -> source
    city: Mapping[str, str] | None
    known_devices: frozenset[str] | None  # heard in training
    known_cities: frozenset[str] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Lists:
    """What a data set's own lists say, for one test fold."""

    source: Mapping[str, str]  # of the test fold
    devices: frozenset[str]  # of the training fold, as it was heard
    trained: tuple[str, ...]  # file names of the training fold


def places_of(filenames: Iterable[str], specs: Iterable[DataSpec]) -> Places:
    """Sources, cities and what was known in training, of tested files of runs with these data sections."""
    names = sorted(set(filenames))
    notes: list[str] = []
    lists: list[_Lists] = []
    for spec in dict.fromkeys(lists_only(spec) for spec in specs):
        try:
            lists.append(_read_lists(spec))
        except (DataError, ConfigError) as error:
            notes.append(f"known and unknown devices and cities are not told apart: {error}")
            lists.clear()
            break
    if not lists and not notes:
        notes.append("known and unknown devices and cities are not told apart: no run here names a data set")
    known_devices = frozenset.intersection(*(one.devices for one in lists)) if lists else None
    where = _by_name(names)
    if where is not None:
        trained = _by_name({name for one in lists for name in one.trained}) if lists else None
        return Places(
            unit="recording location",
            source={name: f"{city}-{location}" for name, (city, location) in where.items()},
            city={name: city for name, (city, _) in where.items()},
            known_devices=known_devices,
            known_cities=frozenset(city for city, _ in trained.values()) if trained else None,
            notes=tuple(notes),
        )
    listed = {name: source for one in lists for name, source in one.source.items()}
    if any(name not in listed for name in names):
        reason = "the data set's lists do not name every tested file" if lists else "no list of the data set was read"
        notes.append(f"each clip is taken as a source of its own, as {reason}: intervals may be too narrow")
        listed = {name: name for name in names}
    unit = "clip" if all(listed[name] == name for name in names) else "source"
    return Places(unit, listed, None, known_devices, None, tuple(notes))


def lists_only(data: DataSpec) -> DataSpec:
    """What decides which lists are read: runs that differ in nothing else share them."""
    kept = ("dataset", "root", "fold", "train_list", "device_irs")
    return DataSpec(**{key: getattr(data, key) for key in kept}, validation_share=0.0)


def _read_lists(data: DataSpec) -> _Lists:
    if data.dataset == "made" and data.train_list is None:  # its lists are known without writing its recordings
        parts = {part: [row for row in made.recordings() if row.part == part] for part in ("train", "test")}
        trained = [(row.filename, row.device) for row in parts["train"]]
        source = {row.filename: row.identifier for row in parts["test"]}
    else:
        folds = DATASETS[data.dataset](data, 0)  # the seed splits the training fold only, which is taken whole here
        trained = [(clip.filename, clip.device) for clip in (*folds.train, *folds.validation)]
        source = {clip.filename: clip.source for clip in folds.test}
    heard = {devices.AS_RECORDED, *devices.SEEN} if data.device_irs else {device for _, device in trained}
    return _Lists(source, frozenset(heard), tuple(name for name, _ in trained))


def _by_name(names: Iterable[str]) -> dict[str, tuple[str, str]] | None:
    """File name -> (city, location), if every name has TAU's form."""
    found = {}
    for name in names:
        parts = NAME.fullmatch(posixpath.basename(name))
        if parts is None or parts["scene"] not in SCENES:
            return None
        found[name] = parts["city"], parts["location"]
    return found
