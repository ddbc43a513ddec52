"""How long a trial may train: asynchronous successive halving on the epochs, as a pure function of learning curves.

At each rung a trial goes on only if it is among the best of all that got there (Li et al. 2020, "A System for
Massively Parallel Hyperparameter Tuning"; the variant that stops trials where they are, so that nothing has to be
paused, kept on disk or moved between machines). No trial waits for another, and Optuna's pruners are not asked: their
rules would neither hold in a multi-objective study nor replay on stored curves (benchmarks/search_efficiency.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Curve = Sequence[float]  # validation log loss after each epoch, from the first

REDUCTION = 3  # of those at a rung, one in so many goes on
FULL_FIRST = 3  # trials at a rung before one is stopped there


def rungs(epochs: int) -> tuple[int, ...]:
    """Epochs after which a trial is judged: a third of the training, a ninth, and so on.

    >>> rungs(9), rungs(30), rungs(2)
    ((1, 3), (1, 3, 10), (1,))
    """
    found: list[int] = []
    rung = epochs / REDUCTION
    while rung >= 2 / REDUCTION:
        found.append(max(1, round(rung)))
        rung /= REDUCTION
    return tuple(sorted({rung for rung in found if rung < epochs}))


def stops(curve: Curve, others: Sequence[Curve], epochs: int) -> str | None:
    """Why the trial of this curve stops after its last epoch, or None if it goes on.

    `others` are the curves of the trials before it, as long as each got, of trainings of the same `epochs`.
    """
    epoch = len(curve)
    if epoch not in rungs(epochs):
        return None
    there = [other[epoch - 1] for other in others if len(other) >= epoch]
    if len(there) < FULL_FIRST:
        return None
    places = math.ceil((len(there) + 1) / REDUCTION)
    rank = 1 + sum(loss < curve[-1] for loss in there)
    if rank <= places:
        return None
    return f"after epoch {epoch} of {epochs} it was number {rank} of {len(there) + 1}; the best {places} go on"
