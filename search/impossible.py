"""A budget that no network of the space fits is refused before anything is trained, with the smallest there is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from search.fit_width import Fitted
from search.space import Choices, Space, Uniform, Value, suggest
from system.budget import QUANTITIES, Budget
from system.errors import BudgetError

PROBES = 300  # draws before the search for the smallest begins
Fit = Callable[[Choices], Fitted]


class Preferring:
    """Draws what is wanted where a row has it, else the row's first value."""

    def __init__(self, wanted: Mapping[str, Any]) -> None:
        self.wanted = wanted

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        wanted = self.wanted.get(name)
        return wanted if wanted in choices else choices[0]


def refuse_impossible(budget: Budget, rows: Space, fit: Fit) -> None:
    """Raises BudgetError with the smallest network's cost, and the limit it fails first, if nothing fits the budget.

    Draws, then changes one choice at a time of the draw that is nearest to fitting, until none brings it nearer.
    """
    draw = Uniform(np.random.default_rng(0))
    best: Fitted | None = None
    choices: dict[str, Value] = {}
    for _ in range(PROBES):
        drawn = suggest(draw, rows)
        fitted = fit(drawn)
        if fitted.spec is not None:
            return
        if best is None or share(fitted, budget) < share(best, budget):
            best, choices = fitted, drawn
    assert best is not None
    better = True
    while better:
        better = False
        for row in rows:
            for value in row.values if row.applies(choices) else ():
                changed = suggest(Preferring({**choices, row.name: value}), rows)
                fitted = fit(changed)
                if fitted.spec is not None:
                    return
                if share(fitted, budget) < share(best, budget):
                    best, choices, better = fitted, changed, True
    raise BudgetError(refusal(budget, best))


def share(fitted: Fitted, budget: Budget) -> float:
    """The largest cost in multiples of its limit; infinite for a design that does not fit the input."""
    return max(budget.shares(fitted.cost.total).values()) if fitted.cost is not None else float("inf")


def refusal(budget: Budget, smallest: Fitted) -> str:
    cost = smallest.cost
    if cost is None:
        return f"no network of the search space fits the input: {smallest.reason}"
    over = ", ".join(f"{quantity} by {amount:,}" for quantity, amount in budget.excess(cost.total).items())
    limits, shares = budget.limits(), budget.shares(cost.total)
    first = max(shares, key=shares.__getitem__)
    also = "" if cost.latency_ms is None else f" and takes about {cost.latency_ms:.3f} ms"
    return (
        f"nothing fits the budget {budget.text}: the smallest of the networks tried, the one nearest to fitting, has "
        f"{cost.params:,} parameters, {cost.total_bytes:,} bytes, {cost.macs:,} MACs and "
        f"{cost.peak_activation_bytes():,} bytes of activations{also}, over the limit of {over}; {first} fails first: "
        f"it would take {budget.costs(cost.total)[first]:,} {QUANTITIES[first][1]}, and {limits[first]:,} are allowed"
    )
