"""Systems of sound events on the same recordings: scores, intervals, order and neighbours, as plain data.

Scored anew from the answers of each run and the annotations of the data set, so that all are held against the same
truth; and compared on the same draws of sources, as systems of scenes are (submission/board/resampling.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from submission.board import resampling
from submission.board.places import lists_only
from submission.board.rules import Quantity
from submission.board.systems import EVENTS, PREDICTIONS, Item, stored_models
from submission.event_rows import EventRows
from system.data.folds import DATASETS, Clip, Event
from system.errors import ConfigError, RunError
from system.registry import unknown
from system.scoring.bootstrap import RESAMPLES
from system.scoring.event_intervals import EventSums, Scores, draws_of, interval_of
from system.scoring.events import have_times, tags
from system.scoring.sed_scores import sed_scores
from system.spec import DataSpec

Values = dict[str, Any]
Key = tuple[str, str]  # file name, device: a recording as it was heard


SCORES = {  # dotted path in scores.json -> whether higher is better; the first ranks unless another is asked for
    "mAP": True,
    "segment_based.f1": True,
    "segment_based.error_rate": False,
    "event_based.f1": True,
    "event_based.error_rate": False,
}
QUANTITIES = {
    "mAP": Quantity("mAP", digits=3),
    "segment_based.f1": Quantity("seconds: F1", digits=3),
    "segment_based.error_rate": Quantity("seconds: error rate", digits=3),
    "event_based.f1": Quantity("events: F1", digits=3),
    "event_based.error_rate": Quantity("events: error rate", digits=3),
}


class Heard(NamedTuple):
    """One system's answers."""

    name: str
    form: str
    costs: Mapping[str, float]
    rows: EventRows


def are_events(items: Sequence[Item]) -> bool:
    """Whether all are runs on sound events."""
    return all((item.path / "best" / EVENTS).exists() or any(item.path.glob(f"quant/*/{EVENTS}")) for item in items)


def event_board(
    items: Sequence[Item],
    by: str | None = None,
    seed: int = 0,
    backend: str | None = None,
    data_root: str | None = None,
) -> Values:
    """Raises ConfigError for runs that were not tested on the same recordings, RunError, FormatError and DataError."""
    by = by or next(iter(SCORES))
    if by not in SCORES:
        raise ConfigError("--by: " + unknown("score of sound events", by, SCORES))
    systems, specs = _read(items, backend)
    moved = specs if data_root is None else [spec.changed(root=data_root) for spec in specs]
    truth = _truth(list(dict.fromkeys(moved)))
    keys, units, unit = _recordings(systems, truth)
    events = {name: clip.events or () for name, clip in truth.items()}
    sums = [_sums(system, keys, unit, events) for system in systems]
    points = [{name: float(values[0]) for name, values in one.scores(np.ones((1, units))).items()} for one in sums]
    if by not in points[0]:
        raise ConfigError(f"--by {by}: the tags of this data set have no time; expected {', '.join(points[0])}")
    draws = draws_of(sums, seed) if units > 1 else None
    sign = -1 if SCORES[by] else 1
    order = sorted(range(len(systems)), key=lambda i: (np.isnan(points[i][by]), sign * points[i][by]))
    return {
        "rule": {"text": f"by {by}", "score": by, "higher_is_better": SCORES[by]},
        "clips": len(keys),
        "sources": units,
        "unit": "recording" if units == len(keys) else "source",
        "resamples": RESAMPLES,
        "classes": list(systems[0].rows.classes),
        "systems": [
            {
                "name": systems[i].name,
                "form": systems[i].form,
                "place": place,
                **{name: _defined(value) for name, value in points[i].items()},
                "interval": {"bootstrap": {name: interval_of(draws[i][name]) if draws else None for name in points[i]}},
                "values": dict(systems[i].costs),
            }
            for place, i in enumerate(order, 1)
        ],
        "neighbours": _neighbours(order, systems, points, draws) if draws else [],
    }


def _read(items: Sequence[Item], backend: str | None) -> tuple[list[Heard], list[DataSpec]]:
    systems, specs = [], []
    for item in items:
        data, stored = stored_models(item.path, backend)
        specs.append(lists_only(data))
        for one in stored:
            if not (one.folder / PREDICTIONS).is_file():
                raise RunError(f"{one.folder / PREDICTIONS} does not exist; {one.made_by} writes it")
            name = item.name or f"{item.path}" + (f" ({one.form})" if len(stored) > 1 else "")
            systems.append(Heard(name, one.form, one.costs, EventRows.read(one.folder)))
    return systems, specs


def _truth(specs: Sequence[DataSpec]) -> dict[str, Clip]:
    """File name -> clip of the test fold, which must be the same in all of `specs`."""
    found = [{clip.filename: clip for clip in DATASETS[spec.dataset](spec, 0).test} for spec in specs]
    first = {name: (clip.events, clip.source) for name, clip in found[0].items()}
    for spec, other in zip(specs, found, strict=True):
        if {name: (clip.events, clip.source) for name, clip in other.items()} != first:
            raise ConfigError(
                f"the test folds differ: fold {specs[0].fold} of {specs[0].root} and fold {spec.fold} of {spec.root}; "
                "expected runs on one"
            )
    return found[0]


def _recordings(systems: Sequence[Heard], truth: Mapping[str, Clip]) -> tuple[list[Key], int, np.ndarray]:
    """Every recording that was heard, how many sources there are, and the number of each recording's (n,)."""
    heard = [dict.fromkeys(zip(system.rows.filename, system.rows.device, strict=True)) for system in systems]
    for system, keys in zip(systems, heard, strict=True):
        if set(system.rows.classes) != set(systems[0].rows.classes):
            raise ConfigError(f"{systems[0].name} and {system.name} do not have the same classes")
        if keys.keys() != heard[0].keys():
            raise ConfigError(f"{systems[0].name} and {system.name} were not tested on the same recordings")
    tested = list(heard[0])
    if strange := [name for name, _ in tested if name not in truth]:
        raise ConfigError(f"{systems[0].name} was tested on {strange[0]}, which the data set's test fold does not have")
    sources, unit = np.unique([truth[name].source for name, _ in tested], return_inverse=True)
    return tested, len(sources), unit


def _sums(system: Heard, keys: Sequence[Key], unit: np.ndarray, events: Mapping[str, Sequence[Event]]) -> EventSums:
    """What the system's scores are made of. Classes are those of the system, in its order."""
    rows = system.rows
    number = {key: index for index, key in enumerate(keys)}
    clip = np.array([number[key] for key in zip(rows.filename, rows.device, strict=True)])
    surest = np.zeros((len(keys), len(rows.classes)))
    np.maximum.at(surest, clip, rows.probabilities)
    found: dict[Key, list[Event]] = {key: [] for key in keys}
    for filename, device, onset, offset, label in rows.events:
        found[filename, device].append(Event(float(onset), float(offset), label))
    annotated = [events[name] for name, _ in keys]
    pairs = list(zip(annotated, found.values(), strict=True))
    counts = sed_scores(rows.classes, pairs)[1] if have_times(events) else {}
    return EventSums(surest, tags(annotated, rows.classes), counts, unit)


def _neighbours(
    order: Sequence[int], systems: Sequence[Heard], points: Sequence[Mapping[str, float]], draws: Sequence[Scores]
) -> list[Values]:
    """Each system against the next one: difference (better minus next), its 95 % interval, p, and p by Holm."""
    pairs = list(pairwise(order))
    rows: list[Values] = [{"better": systems[a].name, "next": systems[b].name} for a, b in pairs]
    for score in points[0]:
        apart = [draws[a][score] - draws[b][score] for a, b in pairs]
        p_values = [resampling.p_value(values[~np.isnan(values)]) for values in apart]
        adjusted = resampling.holm(p_values)
        for number, (a, b) in enumerate(pairs):
            rows[number][score] = {
                "difference": _defined(points[a][score] - points[b][score]),
                "interval": interval_of(apart[number]),
                "p": p_values[number],
                "p_holm": adjusted[number],
            }
    return rows


def _defined(value: float) -> float | None:
    return None if np.isnan(value) else value
