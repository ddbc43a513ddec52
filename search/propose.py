"""Which network to train next: a model of what was learnt so far, asked about many candidates.

Candidates cost a millisecond and their parameters and MACs are exact before any training, so the model knows them as
well as the choices. It is a forest of random trees (Hutter et al. 2011, "Sequential Model-Based Optimization for
General Algorithm Configuration") that also knows the epoch of each loss: curves that were cut short teach it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from search.fidelity import Curve, rungs

Features = Mapping[str, Any]  # a candidate's choices, and its cost
FIRST_AT_RANDOM = 8  # trials before the model is asked
CANDIDATES = 24  # that are drawn for it to choose from
AT_RANDOM = 0.2  # share of the later trials that are drawn blindly: the model may be wrong
TREES = 100


class Seen(NamedTuple):
    """A candidate that was trained, as far as it got."""

    features: Features
    curve: Curve


def wanted(seen: Sequence[Seen], rng: np.random.Generator) -> int:
    """How many candidates to draw: one is a random draw, of more the model chooses."""
    return 1 if len(seen) < FIRST_AT_RANDOM or rng.random() < AT_RANDOM else CANDIDATES


def choose(seen: Sequence[Seen], candidates: Sequence[Features], epochs: int, rng: np.random.Generator) -> int:
    """The index of the candidate that promises the largest improvement after `epochs` epochs.

    Expected improvement over the best predicted loss of `seen`, under a normal distribution with the mean and the
    spread of the trees.
    """
    if len(candidates) == 1:
        return 0
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.feature_extraction import DictVectorizer

    judged = [*rungs(epochs), epochs]
    rows = [(one.features, epoch, one.curve[epoch - 1]) for one in seen for epoch in judged if len(one.curve) >= epoch]
    vectorizer = DictVectorizer(sparse=False)
    known = vectorizer.fit_transform([{**features, "epoch": float(epoch)} for features, epoch, _ in rows])
    forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=int(rng.integers(2**31)))
    forest.fit(known, np.array([loss for *_, loss in rows]))

    def predictions(all_features: Sequence[Features]) -> np.ndarray:
        x = vectorizer.transform([{**features, "epoch": float(epochs)} for features in all_features])
        return np.stack([tree.predict(x) for tree in forest.estimators_])  # (trees, candidates)

    best = predictions([one.features for one in seen]).mean(axis=0).min()
    found = predictions(candidates)
    return int(np.argmax(expected_improvement(found.mean(axis=0), found.std(axis=0), best)))


def expected_improvement(mean: np.ndarray, spread: np.ndarray, best: float) -> np.ndarray:
    """E[max(0, best - loss)] of normal losses, elementwise (Jones et al. 1998, eq. 15)."""
    from scipy.stats import norm

    spread = np.maximum(spread, 1e-9)
    z = (best - mean) / spread
    return (best - mean) * norm.cdf(z) + spread * norm.pdf(z)
