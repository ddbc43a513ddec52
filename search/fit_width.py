"""The width that fills a budget, solved by arithmetic ("the number of primary channels is adjusted", KT, Section 2)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from system.budget import Budget
from system.complexity import Complexity, Shape
from system.errors import ConfigError
from system.models.network import BYTES, complexity
from system.spec import ModelSpec, QuantSpec

WIDEST = 1024  # channels; a budget that bounds nothing that grows with the width stops here
FIRST = 16  # channels that are tried first
MAP = "map"  # in place of a limit: the design does not fit the size of the input
USUAL_GROWTH = 1.5  # cost ~ width to this power: between depthwise (1) and dense convolutions (2)
GUESSES = 6  # predicted widths, before bisection ends what they began

Latency = Callable[[Complexity], float]  # milliseconds


class Fitted(NamedTuple):
    """A spec at its solved width and its cost, or why not even the smallest width fits, and by which limit."""

    spec: ModelSpec | None
    cost: Complexity | None
    reason: str = ""
    limit: str = ""


def fit_width(
    spec: ModelSpec, budget: Budget, shape: Shape, classes: int, latency: Latency | None = None,
    quant: QuantSpec = BYTES,
) -> Fitted:  # fmt: skip
    """The widest network of this design within the budget; one `width_multiple` more would exceed it.

    A width that fits and the next one, which does not, are found by predicting where the cost meets the limit.
    `latency` estimates milliseconds where the budget limits them; None: by this machine's table of operators. Bytes
    are those of weights of the bits of `quant`.
    """
    step, top = spec.width_multiple, max(1, WIDEST // spec.width_multiple)
    if budget.latency_ms is not None and latency is None:
        from quant import cost_table

        latency = cost_table.estimator()

    def cost_at(multiples: int) -> Complexity:
        cost = complexity(spec.model_copy(update={"width": multiples * step}), shape, classes, quant=quant)
        return cost if budget.latency_ms is None or latency is None else cost._replace(latency_ms=latency(cost))

    good, bad, width = 0, top + 1, min(top, max(1, FIRST // step))
    best: Complexity | None = None
    known: list[tuple[float, float]] = []  # (ln width, ln of the cost in multiples of the limit)
    while True:
        try:
            cost = cost_at(width)
        except ConfigError as error:
            return Fitted(None, None, str(error), MAP)
        shares = budget.shares(cost.total)
        if not budget.excess(cost.total):
            good, best = width, cost
        else:
            bad = width
        if bad == 1:
            return Fitted(None, cost, _too_large(cost, budget, step), max(shares, key=shares.__getitem__))
        if bad - good == 1:
            return Fitted(spec.changed(width=good * step), best)
        known.append((math.log(width), math.log(max(shares.values()))))
        wanted = _predicted(known) if len(known) <= GUESSES else (good + bad) // 2
        width = min(max(wanted, good + 1), bad - 1)


def _predicted(known: list[tuple[float, float]]) -> int:
    """The width whose cost meets the limit, on the line through the last two (on logarithmic axes)."""
    (x, y), growth = known[-1], USUAL_GROWTH
    if len(known) > 1 and y != known[-2][1]:
        growth = (y - known[-2][1]) / (x - known[-2][0])
    return int(math.exp(min(x - y / max(growth, 0.1), math.log(2 * WIDEST))))


def _too_large(smallest: Complexity, budget: Budget, width: int) -> str:
    over = ", ".join(f"{quantity} {amount:,} over" for quantity, amount in budget.excess(smallest.total).items())
    return f"width {width} has {smallest.params:,} parameters, {smallest.macs:,} MACs: {over}"
