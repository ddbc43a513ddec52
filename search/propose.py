"""Which network to train next: a model of what was learnt so far, asked about many candidates.

Candidates cost a millisecond and their parameters and MACs are exact before any training, so the model knows them as
well as the choices. It is a Bayesian linear regression (MacKay 1992, "Bayesian Interpolation") on one column per value
of each choice: with a few dozen trials there is little more to be learnt than which values are good (a random forest
ranked the rest of 150 trained candidates no better, from 15, 30 or 60 of them). Trainings that were cut short teach it
what they promised, at half the weight.

The budgets of a front share the model, to which the budget is one more choice. What is to be improved on is the best of
the candidates' own budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from search.fidelity import Curve, promise
from search.space import BUDGET

Features = Mapping[str, Any]  # a candidate's choices, and its cost
FIRST_AT_RANDOM = 8  # trials before the model is asked
CANDIDATES = 24  # that are drawn for it to choose from
CUT_SHORT = 0.5  # weight of a trial that was not trained to the end
AT_RANDOM = 0.2  # share of the later trials that are drawn blindly: the model may be wrong


class Seen(NamedTuple):
    """A candidate that was trained, as far as it got."""

    features: Features
    curve: Curve


def wanted(seen: Sequence[Seen], rng: np.random.Generator) -> int:
    """How many candidates to draw: one is a random draw, of more the model chooses."""
    return 1 if len(seen) < FIRST_AT_RANDOM or rng.random() < AT_RANDOM else CANDIDATES


def choose(seen: Sequence[Seen], candidates: Sequence[Features], epochs: int, rng: np.random.Generator) -> int:
    """The index of the candidate that promises the largest improvement after `epochs` epochs.

    Expected improvement over the best predicted loss of those `seen` within the candidates' budget, or of the
    candidates themselves if there is none, under the model's normal distribution; `rng` breaks ties.
    """
    if len(candidates) == 1:
        return 0
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.linear_model import BayesianRidge

    curves: dict[Any, list[Curve]] = {}
    for one in seen:
        curves.setdefault(one.features.get(BUDGET), []).append(one.curve)
    vectorizer, model = DictVectorizer(sparse=False), BayesianRidge()
    known = vectorizer.fit_transform([one.features for one in seen])
    promised = [promise(one.curve, curves[one.features.get(BUDGET)], epochs)[0] for one in seen]
    model.fit(known, promised, sample_weight=[1.0 if len(one.curve) == epochs else CUT_SHORT for one in seen])

    def predicted(all_features: Sequence[Features]) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(invalid="ignore"):  # where all columns are known by heart, rounding makes variances negative
            mean, spread = model.predict(vectorizer.transform(all_features), return_std=True)
        return mean, np.nan_to_num(spread)

    rivals = [one.features for one in seen if one.features.get(BUDGET) == candidates[0].get(BUDGET)]
    best = predicted(rivals or candidates)[0].min()
    mean, spread = predicted(candidates)
    unknown = np.sqrt(np.maximum(spread**2 - 1 / model.alpha_, 0))  # without the noise of a single training
    order = rng.permutation(len(candidates))
    return int(order[np.argmax(expected_improvement(mean, unknown, best)[order])])


def expected_improvement(mean: np.ndarray, spread: np.ndarray, best: float) -> np.ndarray:
    """E[max(0, best - loss)] of normal losses, elementwise (Jones et al. 1998, eq. 15)."""
    from scipy.stats import norm

    spread = np.maximum(spread, 1e-9)
    z = (best - mean) / spread
    return (best - mean) * norm.cdf(z) + spread * norm.pdf(z)
