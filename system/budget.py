"""Limits of a deployed model, and the text that names them.

Grammar: one or more of the following, joined by `_`, in any order, each at most once
    128k_params        parameters, zeros included
    30M_macs           multiply-accumulates per segment
    128kB   64KiB      bytes of the deployed model at its stored precision, int32 biases and scales included
    256kB_activations  bytes of the largest set of feature maps alive at once
k = 1000, M = 1e6, kB = 1000 bytes, KiB = 1024 bytes. An edition's budget name (`dcase2022`) stands for its limits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from system.editions import EDITIONS
from system.errors import BudgetError

BUDGET_NAMES = {edition.budget_name: edition.limits for edition in EDITIONS.values() if edition.limits}

GRAMMAR = (
    "limits joined by '_': 128k_params, 30M_macs, 128kB or 64KiB (model bytes), 256kB_activations; "
    "for example 128k_params_30M_macs, 64KiB or " + ", ".join(sorted(BUDGET_NAMES))
)
COUNT_UNITS = {"": 1, "k": 1_000, "M": 1_000_000}
BYTE_UNITS = {"B": 1, "kB": 1_000, "MB": 1_000_000, "KiB": 1024, "MiB": 1024**2}
QUANTITIES = {  # limit -> (key of complexity.json, unit for messages)
    "params": ("params", "parameters"),
    "macs": ("macs", "MACs"),
    "bytes": ("total_bytes", "bytes"),
    "activation_bytes": ("peak_activation_bytes", "bytes of activations"),
}
_NUMBER = r"([0-9]{1,15}(?:\.[0-9]{1,9})?)"
_COUNT = re.compile(_NUMBER + r"(k|M|)_(params|macs)")
_BYTES = re.compile(_NUMBER + r"(B|kB|MB|KiB|MiB)(_activations)?")


@dataclass(frozen=True)
class Budget:
    """Upper limits, each inclusive; None means no limit."""

    text: str
    params: int | None = None
    macs: int | None = None
    bytes: int | None = None
    activation_bytes: int | None = None
    view: str = "strictest"  # how MACs are counted: strictest of the official views, or exact, or torchinfo

    @classmethod
    def parse(cls, text: str, view: str = "strictest") -> Budget:
        """Read a budget. Raises BudgetError that shows the grammar."""
        limits: dict[str, int] = {}
        rest = BUDGET_NAMES.get(text, text)
        while rest:
            match = _COUNT.match(rest) or _BYTES.match(rest)
            if match is None or rest[match.end() : match.end() + 1] not in ("", "_") or match.end() + 1 == len(rest):
                raise BudgetError(f"budget {text!r}: cannot read {rest!r}; expected {GRAMMAR}")
            number, unit, noun = match.groups()
            if match.re is _COUNT:
                quantity, factor = noun, COUNT_UNITS[unit]
            else:
                quantity, factor = "activation_bytes" if noun else "bytes", BYTE_UNITS[unit]
            if quantity in limits:
                raise BudgetError(f"budget {text!r}: {quantity} is limited twice; expected {GRAMMAR}")
            limits[quantity] = int(Decimal(number) * factor)  # 64.1k is 64,100: exact, unlike float
            if limits[quantity] <= 0:
                raise BudgetError(f"budget {text!r}: the limit of {quantity} is zero, so nothing fits")
            rest = rest[match.end() + 1 :]
        if not limits:
            raise BudgetError(f"budget {text!r} is empty; expected {GRAMMAR}")
        return cls(text=text, view=view, **limits)

    def limits(self) -> dict[str, int]:
        """The limits that are set, by quantity."""
        return {quantity: limit for quantity in QUANTITIES if (limit := getattr(self, quantity)) is not None}

    def summary(self) -> dict[str, int | str]:
        """What complexity.json and search.json say of the budget."""
        return {"text": self.text, "view": self.view, **self.limits()}

    def excess(self, complexity: Mapping[str, Any]) -> dict[str, int]:
        """quantity -> how much `complexity` (keys of complexity.json) is above the limit; empty if it fits."""
        over = {q: int(complexity[self._key(q)]) - limit for q, limit in self.limits().items()}
        return {quantity: amount for quantity, amount in over.items() if amount > 0}

    def check(self, complexity: Mapping[str, Any], what: str = "the model") -> None:
        """Raise BudgetError naming every exceeded limit, the amount, and by how much."""
        over = self.excess(complexity)
        if over:
            limits = self.limits()
            parts = [
                f"{complexity[self._key(q)]:,} {QUANTITIES[q][1]} of {limits[q]:,} allowed ({amount:,} too many)"
                for q, amount in over.items()
            ]
            raise BudgetError(f"{what} exceeds the budget {self.text}: " + "; ".join(parts))

    def _key(self, quantity: str) -> str:
        if quantity == "macs" and self.view != "strictest":
            return f"macs_{self.view}"
        return QUANTITIES[quantity][0]
