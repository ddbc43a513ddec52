"""The width that fills a budget, solved by arithmetic ("the number of primary channels is adjusted", KT, Section 2)."""

from __future__ import annotations

from typing import NamedTuple

from system.budget import Budget
from system.complexity import Complexity
from system.errors import ConfigError
from system.models.network import Shape, complexity
from system.spec import ModelSpec

WIDEST = 1024  # channels; a budget that bounds neither parameters, bytes nor MACs stops here


class Fitted(NamedTuple):
    """A spec at its solved width and its cost, or the reason why not even the smallest width fits."""

    spec: ModelSpec | None
    cost: Complexity | None
    reason: str = ""


def fit_width(spec: ModelSpec, budget: Budget, shape: Shape, classes: int) -> Fitted:
    """The widest network of this design within the budget; one `width_multiple` more would exceed it.

    Costs grow with the width, so bisection is exact. A design that does not fit the map's size is infeasible too.
    """
    step = spec.width_multiple

    def cost_at(multiples: int) -> Complexity:
        return complexity(spec.model_copy(update={"width": multiples * step}), shape, classes)

    def fits(cost: Complexity) -> bool:
        return not budget.excess(cost.totals())

    try:
        smallest = cost_at(1)
    except ConfigError as error:
        return Fitted(None, None, str(error))
    if over := budget.excess(smallest.totals()):
        totals = smallest.totals()
        excess = ", ".join(f"{q} {amount:,} over" for q, amount in over.items())
        size = f"{totals['params']:,} parameters, {totals['macs']:,} MACs"
        return Fitted(None, smallest, f"width {step} has {size}: {excess}")
    good, cost = 1, smallest
    bad = 2
    while bad * step <= WIDEST and fits(candidate := cost_at(bad)):
        good, cost, bad = bad, candidate, bad * 2
    bad = min(bad, WIDEST // step + 1)
    while bad - good > 1:
        middle = (good + bad) // 2
        if fits(candidate := cost_at(middle)):
            good, cost = middle, candidate
        else:
            bad = middle
    return Fitted(spec.changed(width=good * step), cost)
