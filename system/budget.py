"""Limits of a deployed model, and the text that names them.

Grammar: one or more of the following, joined by `_`, in any order, each at most once
    128k_params        parameters, zeros included
    30M_macs           multiply-accumulates per segment
    128kB   64KiB      bytes of the deployed model at its stored precision, int32 biases and scales included
    256kB_activations  bytes of the largest set of feature maps alive at once
    2ms_latency        milliseconds of one segment on this machine, one thread: estimated, unlike the counted others
k = 1000, M = 1e6, kB = 1000 bytes, KiB = 1024 bytes. An edition's budget name (`dcase2022`) stands for its limits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from system.editions import EDITIONS
from system.errors import BudgetError

BUDGET_NAMES = {edition.budget_name: edition.limits for edition in EDITIONS.values() if edition.limits}

GRAMMAR = (
    "limits joined by '_': 128k_params, 30M_macs, 128kB or 64KiB (model bytes), 256kB_activations, 2ms_latency; "
    "for example 128k_params_30M_macs, 64KiB or " + ", ".join(sorted(BUDGET_NAMES))
)
COUNT_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
BYTE_UNITS = {"B": 1, "kB": 1_000, "MB": 1_000_000, "KiB": 1024, "MiB": 1024**2}
QUANTITIES = {  # limit -> (key of complexity.json, unit for messages)
    "params": ("params", "parameters"),
    "macs": ("macs", "MACs"),
    "bytes": ("total_bytes", "bytes"),
    "activation_bytes": ("peak_activation_bytes", "bytes of activations"),
    "latency_ms": ("latency_ms", "ms of latency"),
}
ESTIMATED = "latency_ms"  # known only where a search estimates it: what does not state it is not judged by it
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_COUNT = re.compile(_NUMBER + r"(k|M|)_(params|macs)")
_BYTES = re.compile(_NUMBER + r"(B|kB|MB|KiB|MiB)(_activations)?")
_LATENCY = re.compile(_NUMBER + r"(ms)_(latency)")

_LETTERS = {unit.lower(): unit for unit in (*COUNT_UNITS, *BYTE_UNITS)}

Amount = int | float  # float: milliseconds
Costs = Mapping[str, Any] | Callable[[str], Any]  # keys of complexity.json -> amounts


@dataclass(frozen=True)
class Budget:
    """Upper limits, each inclusive; None means no limit."""

    text: str
    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    activation_bytes: int | None = None
    latency_ms: float | None = None
    view: str = "strictest"  # how MACs are counted: strictest of the official views, or exact, or torchinfo

    @classmethod
    def parse(cls, text: str, view: str = "strictest") -> Budget:
        """Read a budget. Raises BudgetError that shows the grammar."""
        limits: dict[str, Any] = {}
        rest = BUDGET_NAMES.get(text, text)
        while rest:
            match = _COUNT.match(rest) or _BYTES.match(rest) or _LATENCY.match(rest)
            if match is None or rest[match.end() : match.end() + 1] not in ("", "_") or match.end() + 1 == len(rest):
                raise BudgetError(f"budget {text!r}: cannot read {rest!r}{_meant(text)}; expected {GRAMMAR}")
            number, unit, noun = match.groups()
            if match.re is _COUNT:
                quantity, factor = noun, COUNT_UNITS[unit]
            elif match.re is _LATENCY:
                quantity, factor = "latency_ms", 1
            else:
                quantity, factor = "activation_bytes" if noun else "bytes", BYTE_UNITS[unit]
            if quantity in limits:
                raise BudgetError(f"budget {text!r}: {quantity} is limited twice; expected {GRAMMAR}")
            exact = Decimal(number) * factor  # 64.1k is 64,100, unlike as float
            limits[quantity] = float(exact) if quantity == ESTIMATED else int(exact)
            if limits[quantity] <= 0:
                raise BudgetError(f"budget {text!r}: the limit of {quantity} is zero, so nothing fits")
            rest = rest[match.end() + 1 :]
        if not limits:
            raise BudgetError(f"budget {text!r} is empty; expected {GRAMMAR}")
        return cls(text=text, view=view, **limits)

    def limits(self) -> dict[str, Any]:
        """The limits that are set, by quantity."""
        return {quantity: limit for quantity in QUANTITIES if (limit := getattr(self, quantity)) is not None}

    def summary(self) -> dict[str, Amount | str]:
        """What complexity.json and search.json say of the budget."""
        return {"text": self.text, "view": self.view, **self.limits()}

    def costs(self, complexity: Costs) -> dict[str, Amount]:
        """Limited quantity -> how much of it `complexity` has; without an estimate that it does not state."""
        of = complexity if callable(complexity) else complexity.__getitem__
        limited = self.limits()
        if not callable(complexity) and complexity.get(ESTIMATED) is None:
            limited.pop(ESTIMATED, None)
        found: dict[str, Any] = {quantity: of(self._key(quantity)) for quantity in limited}
        return {quantity: amount for quantity, amount in found.items() if amount is not None}

    def shares(self, complexity: Costs) -> dict[str, float]:
        """Limited quantity -> how much of it `complexity` has, in multiples of the limit."""
        return {quantity: amount / getattr(self, quantity) for quantity, amount in self.costs(complexity).items()}

    def excess(self, complexity: Costs) -> dict[str, Amount]:
        """quantity -> how much `complexity` is above the limit; empty if it fits."""
        over = {quantity: amount - getattr(self, quantity) for quantity, amount in self.costs(complexity).items()}
        return {q: round(a, 4) if q == ESTIMATED else int(a) for q, a in over.items() if a > 0}

    def check(self, complexity: Costs, what: str = "the model") -> None:
        """Raise BudgetError naming every exceeded limit, the amount, and by how much."""
        over = self.excess(complexity)
        if over:
            limits, costs = self.limits(), self.costs(complexity)
            parts = [
                f"{costs[q]:,} {QUANTITIES[q][1]} of {limits[q]:,} allowed ({amount:,} too many)"
                for q, amount in over.items()
            ]
            raise BudgetError(f"{what} exceeds the budget {self.text}: " + "; ".join(parts))

    def _key(self, quantity: str) -> str:
        if quantity == "macs" and self.view != "strictest":
            return f"macs_{self.view}"
        return QUANTITIES[quantity][0]


def _meant(text: str) -> str:
    """Asks whether the budget is meant that the same text is in the right capital and small letters, if it is one."""
    near = re.sub("(?<=[0-9])[a-z]+", lambda unit: _LETTERS.get(unit[0], unit[0]), text.lower())
    if near == text:
        return ""
    try:
        return f", did you mean {Budget.parse(near).text!r}?"
    except BudgetError:
        return ""
