"""How long a trial may train: what its learning curve promises, as a pure function of curves.

A trial stops as soon as the loss that it promises for its last epoch is unlikely to be below the best so far. What it
promises is its loss now, less what the finished trials still gained from there on; how sure that is, their spread
tells (as in Swersky et al. 2014, "Freeze-Thaw Bayesian Optimization", with one number per epoch in place of a process).
Before a third of its epochs nothing is stopped: under warm-up, ranks say little of the end. On 150 random candidates
Spearman's correlation with the loss after nine epochs is 0.55 after the first, 0.72 after the third and 0.84 after the
fourth (benchmarks/search_efficiency.py).

Trials stop where they are, so that nothing has to be paused, kept on disk or moved between machines, and none waits for
another. Optuna's pruners are not asked: their rules would neither hold in a multi-objective study nor replay on stored
curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

Curve = Sequence[float]  # validation log loss after each epoch, from the first

SHARE_BEFORE = 1 / 3  # of the epochs, in which no trial is stopped
FINISHED_FIRST = 4  # trials that are trained to the end before one is stopped
UNLIKELY = 0.02  # probability to become the best, below which a trial stops
SPREAD, SPREAD_WEIGHT = 0.1, 3  # nats: what is assumed of the spread before many trials are finished, and as how many


def first_judged(epochs: int) -> int:
    """The epoch after which a trial may be stopped for the first time.

    >>> first_judged(9), first_judged(30), first_judged(2)
    (3, 10, 1)
    """
    return math.ceil(epochs * SHARE_BEFORE)


def promise(curve: Curve, others: Sequence[Curve], epochs: int) -> tuple[float, float]:
    """Mean and standard deviation of the loss after the last epoch, from the curves in `others` that got there.

    Without any, the last loss of the curve, and no deviation is known.
    """
    epoch = len(curve)
    gains = [other[epoch - 1] - other[-1] for other in others if len(other) == epochs]
    if epoch == epochs or not gains:
        return curve[-1], 0.0 if epoch == epochs else math.inf
    mean = sum(gains) / len(gains)
    squares = sum((gain - mean) ** 2 for gain in gains) + SPREAD_WEIGHT * SPREAD**2
    return curve[-1] - mean, math.sqrt(squares / (len(gains) - 1 + SPREAD_WEIGHT))


def stops(curve: Curve, others: Sequence[Curve], epochs: int) -> str | None:
    """Why the trial of this curve stops after its last epoch, or None if it goes on.

    `others` are the curves of the trials of its budget before it, as long as each got, of trainings of the same
    `epochs`.
    """
    epoch = len(curve)
    finished = [other[-1] for other in others if len(other) == epochs]
    if not first_judged(epochs) <= epoch < epochs or len(finished) < FINISHED_FIRST:
        return None
    best, (mean, spread) = min(finished), promise(curve, others, epochs)
    chance = NormalDist(mean, spread).cdf(best)
    if chance >= UNLIKELY:
        return None
    return f"after epoch {epoch} of {epochs} it promises {mean:.3f}; the best has {best:.3f}, a chance of {chance:.1%}"
