"""How sure the scores of events are: a percentile bootstrap over sources, as for scenes (system/evaluation.py).

Clips of one source are drawn together or not at all. What a draw is scored by are counts that each clip brings, and for
mAP the order of its clips, which draws do not change: neither the network nor sed_eval is asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from system.evaluation import RESAMPLES, drawn_sources
from system.progress import progress

EDGES = (2.5, 97.5)  # percent


def event_intervals(
    surest: np.ndarray, tagged: np.ndarray, counts: Mapping[str, np.ndarray], source: Sequence[str], seed: int
) -> dict[str, Any]:
    """95 % intervals [low, high] of mAP, and of f1 and error_rate of each kind in `counts`; None where not defined.

    surest (clips, C) probabilities of clips, tagged (clips, C) of bool, source (clips,) names. counts: segment_based or
    event_based -> (clips, 4) true positives, annotated, found, errors, as `sed_scores` has them.
    """
    names, unit = np.unique(np.asarray(source), return_inverse=True)
    summed = {kind: _sums(values, unit, len(names)) for kind, values in counts.items()}
    ranking = _Ranking(surest, tagged)
    drawn: dict[tuple[str, ...], list[np.ndarray]] = {}
    with progress("drawing sources", RESAMPLES, unit="draws") as step:
        for weights in drawn_sources(len(names), seed):
            drawn.setdefault(("mAP",), []).append(ranking.mean_average_precision(weights[:, unit]))
            for kind, sums in summed.items():
                hits, annotated, found, errors = (weights @ sums).T
                drawn.setdefault((kind, "f1"), []).append(_share(2 * hits, annotated + found))
                drawn.setdefault((kind, "error_rate"), []).append(_share(errors, annotated))
            step(len(weights))
    intervals: dict[str, Any] = {kind: {} for kind in counts}
    for (*where, score), values in drawn.items():
        (intervals[where[0]] if where else intervals)[score] = _interval(np.concatenate(values))
    return intervals


class _Ranking:
    """Average precision of clips that count several times, or not at all, with their order found once."""

    def __init__(self, surest: np.ndarray, tagged: np.ndarray) -> None:
        self.order = np.argsort(-surest, axis=0, kind="stable")  # (clips, C)
        self.tagged = np.take_along_axis(tagged, self.order, axis=0)
        ordered = np.take_along_axis(surest, self.order, axis=0)
        last = np.ones((1, surest.shape[1]), dtype=bool)
        self.last = np.concatenate([ordered[1:] != ordered[:-1], last])  # of equals, which one threshold takes together

    def mean_average_precision(self, weights: np.ndarray) -> np.ndarray:
        """(draws, clips) -> (draws,), over the classes that some clips have and others have not; NaN without any."""
        total = np.zeros(len(weights))
        classes = np.zeros(len(weights))
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


def _sums(values: np.ndarray, unit: np.ndarray, units: int) -> np.ndarray:
    """(clips, k) -> (units, k)."""
    sums = np.zeros((units, values.shape[1]))
    np.add.at(sums, unit, values)
    return sums


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _interval(values: np.ndarray) -> list[float] | None:
    known = values[~np.isnan(values)]
    return np.percentile(known, EDGES).tolist() if len(known) else None
