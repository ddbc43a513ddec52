"""How sure scores are: a percentile bootstrap over sources (Efron 1979).

Segments of one recording location or upload are not independent, so they are drawn together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

RESAMPLES = 1000
_CHUNK = 2_000_000  # numbers drawn at once by the bootstrap: bounds its memory


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
