"""The budgets of one search for a front."""

from __future__ import annotations

import math

from system.budget import QUANTITIES, Budget
from system.errors import BudgetError

ORDER = ("macs", "params", *(quantity for quantity in QUANTITIES if quantity not in ("macs", "params")))


def read_levels(text: str, view: str) -> tuple[Budget, ...]:
    """The budgets of `--front`, ordered by their limits of MACs, then parameters: the order given is no matter.

    Raises BudgetError for one that cannot be read, for two with the same limits, and for a single one.
    """
    budgets = [Budget.parse(level, view) for level in text.split(",")]
    for index, budget in enumerate(budgets):
        same = next((other for other in budgets[:index] if other.limits() == budget.limits()), None)
        if same is not None:
            both = budget.text if same.text == budget.text else f"{same.text} and {budget.text}"
            raise BudgetError(f"--front: {both} stand for the same limits; expected each level once")
    if len(budgets) == 1:
        raise BudgetError(f"--front: expected two budgets or more, joined by ',', found {text!r}; one is a --budget")
    return tuple(sorted(budgets, key=lambda budget: [budget.limits().get(quantity, math.inf) for quantity in ORDER]))
