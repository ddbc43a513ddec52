"""How sure the scores of events are: a percentile bootstrap over sources, as for scenes (bootstrap.py).

Clips of one source are drawn together or not at all. What a draw is scored by are counts that each clip brings, and for
mAP the order of its clips, which draws do not change: neither the network nor sed_eval is asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from system.progress import progress
from system.scoring.bootstrap import RESAMPLES, drawn_sources

EDGES = (2.5, 97.5)  # percent
Scores = dict[str, np.ndarray]  # dotted path in scores.json -> (draws,)


class EventSums:
    """What the scores of events are made of, for sources that count several times, or not at all.

    surest (clips, C) probabilities of clips, tagged (clips, C) of bool, unit (clips,) numbers of sources from 0.
    counts: segment_based or event_based -> (clips, 4), what each clip has of the four that `sed_scores` counts.
    """

    def __init__(
        self, surest: np.ndarray, tagged: np.ndarray, counts: Mapping[str, np.ndarray], unit: np.ndarray
    ) -> None:
        self.unit = unit
        self.counts = {kind: np.zeros((int(unit.max()) + 1, 4)) for kind in counts}
        for kind, sums in self.counts.items():
            np.add.at(sums, unit, counts[kind])
        self.order = np.argsort(-surest, axis=0, kind="stable")  # (clips, C)
        self.tagged = np.take_along_axis(tagged, self.order, axis=0)
        ordered = np.take_along_axis(surest, self.order, axis=0)
        last = np.ones((1, surest.shape[1]), dtype=bool)
        self.last = np.concatenate([ordered[1:] != ordered[:-1], last])  # of equals, which one threshold takes together

    def scores(self, weights: np.ndarray) -> Scores:
        """(draws, sources) how often each was drawn -> scores of each draw; NaN where one is not defined."""
        found = {"mAP": self._mean_average_precision(weights[:, self.unit])}
        for kind, sums in self.counts.items():
            hits, annotated, answered, errors = (weights @ sums).T
            found[f"{kind}.f1"] = _share(2 * hits, annotated + answered)
            found[f"{kind}.error_rate"] = _share(errors, annotated)
        return found

    def _mean_average_precision(self, weights: np.ndarray) -> np.ndarray:
        """(draws, clips) -> (draws,), over the classes that some clips have and others have not."""
        total, classes = np.zeros(len(weights)), np.zeros(len(weights))
        for c in range(self.order.shape[1]):
            kept = self.last[:, c]
            mine = weights[:, self.order[:, c]]  # (draws, clips), surest first
            hits = np.cumsum(mine * self.tagged[:, c], axis=1)[:, kept]
            found = np.cumsum(mine, axis=1)[:, kept]
            positives = hits[:, -1]
            defined = (positives > 0) & (positives < found[:, -1])
            gained = np.diff(hits, axis=1, prepend=0.0)
            precision = np.divide(hits, found, out=np.zeros_like(hits), where=found > 0)
            total[defined] += (gained * precision).sum(axis=1)[defined] / positives[defined]
            classes += defined
        return _share(total, classes)


def draws_of(systems: Sequence[EventSums], seed: int) -> list[Scores]:
    """Scores of each system in the same `RESAMPLES` draws of sources, of which all have the same number."""
    units = int(systems[0].unit.max()) + 1
    drawn: list[list[Scores]] = [[] for _ in systems]
    with progress("drawing sources", RESAMPLES, unit="draws") as step:
        for weights in drawn_sources(units, seed):
            for scores, system in zip(drawn, systems, strict=True):
                scores.append(system.scores(weights))
            step(len(weights))
    return [{name: np.concatenate([chunk[name] for chunk in scores]) for name in scores[0]} for scores in drawn]


def event_intervals(sums: EventSums, seed: int) -> dict[str, Any]:
    """95 % intervals [low, high], nested as scores.json is; None for what no draw defines."""
    intervals: dict[str, Any] = {}
    for name, values in draws_of([sums], seed)[0].items():
        *kind, score = name.split(".")
        (intervals.setdefault(kind[0], {}) if kind else intervals)[score] = interval_of(values)
    return intervals


def interval_of(values: np.ndarray) -> list[float] | None:
    """The middle 95 % of those that are defined."""
    known = values[~np.isnan(values)]
    return np.percentile(known, EDGES).tolist() if len(known) else None


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
