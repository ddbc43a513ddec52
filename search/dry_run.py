"""What a search would draw, and what its budget buys: no training, no run folder."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from search.fit_width import Fitted
from search.impossible import Fit
from search.known_designs import known_designs
from search.space import Choices, Space, Uniform, suggest
from search.text import described, limit_name
from system.budget import Budget
from system.text import aligned

DRAWN = 400  # for the table of what the budget buys


class Candidate(NamedTuple):
    choices: Choices
    fitted: Fitted


def dry_run(shown: int, budget: Budget, rows: Space, fit: Fit, seed: int) -> None:
    """Print the known designs and `shown` draws with their cost, then what the budget buys, by block."""
    draw = Uniform(np.random.default_rng(seed))
    known = [Candidate(design, fit(design)) for design in known_designs(rows)]
    started = time.process_time()
    drawn = [Candidate(choices, fit(choices)) for choices in (suggest(draw, rows) for _ in range(max(shown, DRAWN)))]
    rate = len(drawn) / (time.process_time() - started)
    print(
        f"{len(known)} known designs and {shown} of {len(drawn)} draws of the space, widths solved for {budget.text}\n"
    )
    lines = [("", *cost_headings(budget), "network")]
    for index, candidate in enumerate([*known, *drawn[:shown]]):
        name = "known" if index < len(known) else str(index - len(known) + 1)
        lines.append((name, *cost_of(candidate.fitted, budget), described(candidate.choices)))
    print(aligned(lines, numbers=True))
    print(f"\nWhat {budget.text} buys: medians of the draws that fit\n")
    print(aligned(bought(drawn, budget), numbers=True))
    print("\n" + infeasible(drawn))
    print(f"{rate:.0f} candidates a second on one core, solving included")


def cost_headings(budget: Budget) -> tuple[str, ...]:
    return ("width", "parameters", "MMACs", "kB", "activations kB", *(["ms"] if budget.latency_ms else []), "fills")


def cost_of(fitted: Fitted, budget: Budget) -> tuple[str, ...]:
    """The solved width, the costs, and the limit that the next width would exceed first, with how much is used."""
    if fitted.spec is None:
        none = ("-",) * (len(cost_headings(budget)) - 1)
        return (*none, f"infeasible: {limit_name(fitted.limit)}")
    assert fitted.cost is not None
    cost = fitted.cost
    shares = budget.shares(cost.total)
    tight = max(shares, key=shares.__getitem__)
    numbers = [
        str(fitted.spec.width), f"{cost.params:,}", f"{cost.macs / 1e6:.2f}", f"{cost.total_bytes / 1e3:.1f}",
        f"{cost.peak_activation_bytes() / 1e3:.1f}",
    ]  # fmt: skip
    numbers += [] if cost.latency_ms is None else [f"{cost.latency_ms:.3f}"]
    return (*numbers, f"{shares[tight]:.0%} of {tight}")


def bought(drawn: Sequence[Candidate], budget: Budget) -> list[tuple[str, ...]]:
    """One line per block: how many fit, and the medians of those."""
    by_block: dict[str, list[Candidate]] = {}
    for candidate in drawn:
        by_block.setdefault(str(candidate.choices["block"]), []).append(candidate)
    lines = [("block", "fit", *cost_headings(budget)[:-1], "limit met first")]
    for block, ones in {**by_block, "any": list(drawn)}.items():
        fit = [one.fitted for one in ones if one.fitted.spec is not None]
        line = [block, f"{len(fit)} of {len(ones)}"]
        if fit:
            line += medians(fit)
            tight = Counter(max(s, key=s.__getitem__) for f in fit if f.cost for s in [budget.shares(f.cost.total)])
            line.append(", ".join(f"{name} {n / len(fit):.0%}" for name, n in tight.most_common(2)))
        lines.append(tuple(line))
    return lines


def medians(fit: Sequence[Fitted]) -> list[str]:
    costs: Any = [f.cost for f in fit]
    middle = [
        f"{median(f.spec.width for f in fit if f.spec):.0f}",
        f"{median(c.params for c in costs):,.0f}",
        f"{median(c.macs for c in costs) / 1e6:.2f}",
        f"{median(c.total_bytes for c in costs) / 1e3:.1f}",
        f"{median(c.peak_activation_bytes() for c in costs) / 1e3:.1f}",
    ]
    return middle + ([] if costs[0].latency_ms is None else [f"{median(c.latency_ms for c in costs):.3f}"])


def infeasible(drawn: Sequence[Candidate]) -> str:
    """How many did not fit at the smallest width, and because of what."""
    limits = Counter(one.fitted.limit for one in drawn if one.fitted.spec is None)
    if not limits:
        return f"all {len(drawn)} draws fit"
    told = ", ".join(f"{limit_name(limit)} {count}" for limit, count in limits.most_common())
    return f"{sum(limits.values())} of {len(drawn)} draws are infeasible, by the limit that fails first: {told}"
