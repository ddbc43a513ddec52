"""How certain a score is: whole sources are drawn or left out, never single segments.

Segments of one recording location are not independent (DCASE cuts ten of them from one recording), so the source is
the unit. The bootstrap draws sources with replacement (Efron 1979); the jackknife leaves one out at a time (Quenouille
1956, Tukey 1958), as the official result tables of DCASE do. Systems are compared on the same draws, so that what is
hard for both cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from system.progress import Step
from system.scoring.bootstrap import RESAMPLES, drawn_sources

SCORES = ("accuracy", "log_loss", "log_loss_macro")
EDGES = (2.5, 97.5)  # percentiles of a 95 % interval
BOUNDS = {"accuracy": (0.0, 1.0)}  # a loss has none above
ROUNDING = 1e-12  # differences below are those of floating-point sums


@dataclass(frozen=True)
class SourceSums:
    """What the scores of one system are made of, per source and class: three arrays of (sources, classes)."""

    counts: np.ndarray  # segments
    hits: np.ndarray  # segments classified right
    losses: np.ndarray  # sum of the losses, nats


def source_sums(
    correct: np.ndarray, loss: np.ndarray, truth: np.ndarray, source: np.ndarray, classes: int
) -> SourceSums:
    """Sums over segments: `correct` (0 or 1), `loss` (nats), `truth` and `source` (both from 0) of shape (n,).

    Any other grouping of the segments, such as by device, may stand for the source.
    """
    shape = (int(source.max()) + 1, classes)
    cell = np.ravel_multi_index((source, truth), shape)

    def total(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, weights, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)

    return SourceSums(counts=total(None), hits=total(correct), losses=total(loss))


def scores_of(counts: np.ndarray, hits: np.ndarray, losses: np.ndarray) -> dict[str, np.ndarray]:
    """Macro accuracy (0 to 1), micro and macro log loss (nats) of r resamples, from sums of (r, classes).

    A class that a resample does not hold takes no part in its mean, as in system/scoring/scenes.py.
    """
    present = counts > 0

    def over_classes(sums: np.ndarray) -> np.ndarray:
        shares = np.divide(sums, counts, out=np.zeros_like(sums), where=present)
        return shares.sum(axis=1) / present.sum(axis=1)

    return {
        "accuracy": over_classes(hits),
        "log_loss": losses.sum(axis=1) / counts.sum(axis=1),
        "log_loss_macro": over_classes(losses),
    }


def point(parts: Sequence[SourceSums]) -> dict[str, float]:
    """The scores of a system, the mean over its parts (one, unless an edition asks for several trainings)."""
    totals = _mean_over_parts(parts, lambda sums: sums.sum(axis=0, keepdims=True))
    return {name: float(values[0]) for name, values in totals.items()}


def bootstrap(
    systems: Sequence[Sequence[SourceSums]], seed: int, resamples: int = RESAMPLES, step: Step | None = None
) -> list[dict[str, np.ndarray]]:
    """Scores of each system (its parts) in the same `resamples` draws of sources: (resamples,) by name of score."""
    units = len(systems[0][0].counts)
    drawn: list[list[dict[str, np.ndarray]]] = [[] for _ in systems]
    for weights in drawn_sources(units, seed, resamples):
        for scores, parts in zip(drawn, systems, strict=True):
            scores.append(_mean_over_parts(parts, weights.__matmul__))
        if step:
            step(len(weights))
    return [{name: np.concatenate([chunk[name] for chunk in scores]) for name in SCORES} for scores in drawn]


def jackknife(parts: Sequence[SourceSums]) -> dict[str, np.ndarray]:
    """The scores of a system with each source left out in turn: (sources,) by name of score."""
    return _mean_over_parts(parts, lambda sums: sums.sum(axis=0) - sums)


def _mean_over_parts(
    parts: Sequence[SourceSums], resampled: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """`resampled`: (sources, classes) sums -> (r, classes) sums of r resamples."""
    of_parts = [scores_of(resampled(part.counts), resampled(part.hits), resampled(part.losses)) for part in parts]
    return {name: np.mean([scores[name] for scores in of_parts], axis=0) for name in SCORES}


def percentile_interval(values: np.ndarray) -> list[float]:
    """The middle 95 % of bootstrap values."""
    low, high = np.percentile(values, EDGES)
    return [float(low), float(high)]


def jackknife_interval(estimate: float, left_out: np.ndarray, score: str) -> list[float] | None:
    """Student's 95 % interval around `estimate` from leave-one-out values; None for a single source."""
    units = len(left_out)
    if units < 2:
        return None
    deviation = np.sqrt((units - 1) / units * np.sum((left_out - left_out.mean()) ** 2))
    half = float(student.ppf(EDGES[1] / 100, units - 1) * deviation)
    low, high = BOUNDS.get(score, (0.0, np.inf))
    return [max(low, estimate - half), min(high, estimate + half)]


def p_value(differences: np.ndarray) -> float:
    """Two-sided p of "no difference": twice the smaller share of draws on one side of 0, never exactly 0.

    It is the level at which the percentile interval of the difference just reaches 0 (Efron and Tibshirani 1993).
    """
    draws = len(differences)
    smaller = min(int((differences <= ROUNDING).sum()), int((differences >= -ROUNDING).sum()))
    return min(1.0, 2 * (smaller + 1) / (draws + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values adjusted for being several (Holm 1979), in the given order."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted
