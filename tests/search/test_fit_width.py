"""The solved width fills the budget: within every limit, and one step more would not be."""

from __future__ import annotations

import itertools
import random
import time
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search import fit_width as module
from search.fit_width import MAP, WIDEST, fit_width
from search.space import PRECISIONS, spec_of, suggest
from system.budget import Budget
from system.complexity import Complexity
from system.errors import ConfigError
from system.models.catalog import CATALOG, model_spec
from system.models.network import complexity
from system.spec import ModelSpec, QuantSpec
from tests.search.conftest import RandomChoices

SHAPE, CLASSES = (1, 80, 51), 3
LIMITS = {
    "params": st.integers(200, 40_000), "macs": st.integers(20_000, 30_000_000), "bytes": st.integers(400, 60_000),
    "activation_bytes": st.integers(500, 400_000), "latency_ms": st.floats(0.05, 5),
}  # fmt: skip
budgets = st.fixed_dictionaries({}, optional=LIMITS).filter(bool)  # type: ignore[arg-type]
specs = st.randoms(use_true_random=False).map(lambda generator: spec_of(suggest(RandomChoices(generator.choice))))


def latency(cost: Complexity) -> float:
    """Made up, and not rising everywhere: whole vectors of channels are faster."""
    return sum(0.01 + layer.macs_exact / (1e7 if layer.output.channels % 16 else 2e7) for layer in cost.layers)


views = st.sampled_from(["strictest", "exact", "torchinfo"])


@settings(deadline=None, max_examples=30)
@given(spec=specs, limit=st.integers(2000, 60_000), bits=st.sampled_from(sorted(PRECISIONS)))
def test_bytes_are_those_of_the_weights_bits(spec: ModelSpec, limit: int, bits: str) -> None:
    quant = QuantSpec(**PRECISIONS[bits](len(spec.stages)))
    fitted = fit_width(spec, Budget("drawn", bytes=limit), SHAPE, CLASSES, quant=quant)
    assume(fitted.spec is not None)
    assert fitted.spec is not None
    wider = fitted.spec.changed(width=fitted.spec.width + spec.width_multiple)
    sizes = [complexity(each, SHAPE, CLASSES, quant=quant).total_bytes for each in (fitted.spec, wider)]
    assert sizes[0] <= limit < sizes[1]
    assert bits == "8" or sizes[0] < complexity(fitted.spec, SHAPE, CLASSES).total_bytes


@settings(deadline=None, max_examples=60)
@given(spec=specs, limits=budgets, view=views, step=st.sampled_from([1, 2, 4, 8]))
def test_no_limit_is_exceeded_and_one_step_more_would_be(
    spec: ModelSpec, limits: dict[str, Any], view: str, step: int
) -> None:
    budget = Budget("drawn", **limits, view=view)
    spec = spec.changed(width=step, width_multiple=step)

    def over(width: int) -> dict[str, float]:
        cost = complexity(spec.changed(width=width), SHAPE, CLASSES)
        totals = cost.totals()
        macs = totals["macs" if view == "strictest" else f"macs_{view}"]
        counted = {
            "params": totals["params"], "macs": macs, "bytes": totals["total_bytes"],
            "activation_bytes": totals["peak_activation_bytes"], "latency_ms": latency(cost),
        }  # fmt: skip
        return {name: counted[name] - limit for name, limit in limits.items() if counted[name] > limit}

    fitted = fit_width(spec, budget, SHAPE, CLASSES, latency)
    if fitted.spec is None and fitted.limit == MAP:
        with pytest.raises(ConfigError):
            over(step)
        return
    if fitted.spec is None:
        assert over(step)
        assert fitted.limit in over(step)
        assert fitted.cost is not None
        assert fitted.limit == max(limits, key=lambda name: over(step).get(name, 0) / limits[name])
        for name in over(step):
            assert f"{name} " in fitted.reason
        return
    assert fitted.limit == ""
    assert fitted.spec.width % step == 0
    assert fitted.spec == spec.changed(width=fitted.spec.width)
    assert fitted.cost is not None
    assert fitted.cost._replace(latency_ms=None) == complexity(fitted.spec, SHAPE, CLASSES)
    assert fitted.cost.latency_ms == (latency(fitted.cost) if "latency_ms" in limits else None)
    assert over(fitted.spec.width) == {}
    assert fitted.spec.width + step > WIDEST or over(fitted.spec.width + step)


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.spec is not None])
def test_costs_grow_with_the_width_as_bisection_needs(name: str) -> None:
    spec, shape = model_spec(name), CATALOG[name].shape
    totals = [
        complexity(spec.changed(width=spec.width_multiple * n), shape, 10).totals().values() for n in range(1, 25)
    ]
    for low, high in itertools.pairwise(totals):
        assert all(a <= b for a, b in zip(low, high, strict=True))


def test_a_budget_that_bounds_nothing_that_grows_stops_at_the_cap() -> None:
    fitted = fit_width(model_spec("kt_final"), Budget.parse("900000M_macs"), SHAPE, CLASSES)
    assert fitted.spec is not None
    assert fitted.spec.width == WIDEST


def test_the_budget_of_the_challenge_is_filled() -> None:
    """KT: the number of primary channels is adjusted to meet the limit."""
    budget = Budget.parse("dcase2022")
    fitted = fit_width(model_spec("kt_final"), budget, (1, 80, 51), 10)
    assert fitted.cost is not None
    assert budget.excess(fitted.cost.totals()) == {}
    assert max(fitted.cost.params / 128_000, fitted.cost.macs / 30e6) > 0.8


def test_a_relaxed_view_leaves_room_for_a_wider_network() -> None:
    spec = model_spec("audio_rep_inception_128k").changed(width_multiple=1)
    widths = []
    for view in ("strictest", "exact"):
        fitted = fit_width(spec, Budget.parse("20M_macs", view), (1, 256, 65), 10)
        assert fitted.spec is not None
        widths.append(fitted.spec.width)
    assert widths[0] < widths[1]


def test_a_design_that_does_not_fit_the_input_says_why() -> None:
    fitted = fit_width(model_spec("kt_final"), Budget.parse("dcase2022"), (1, 4, 2), 10)
    assert (fitted.spec, fitted.cost) == (None, None)
    assert "does not fit a map of" in fitted.reason


def test_a_candidate_costs_few_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred a second on one core is what benchmarks/search_speed.py measures; here, what that rests on."""
    counted = 0

    def counting(*arguments: Any, **named: Any) -> Complexity:
        nonlocal counted
        counted += 1
        return complexity(*arguments, **named)

    monkeypatch.setattr(module, "complexity", counting)
    generator, count = random.Random(0), 60
    started = time.process_time()
    for text in ("dcase2022", "1M_macs", "64KiB_30M_macs_256kB_activations"):
        for _ in range(count):
            fit_width(spec_of(suggest(RandomChoices(generator.choice))), Budget.parse(text), (1, 80, 51), 10)
    assert counted < 4 * 3 * count
    assert 3 * count / (time.process_time() - started) > 40  # also beside other work


def test_without_a_table_of_operators_none_is_measured_for_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.cost_table.estimator", lambda: pytest.fail("measures"))
    assert fit_width(model_spec("kt_final"), Budget.parse("dcase2022"), (1, 80, 51), 10).spec is not None


def test_a_limit_of_latency_asks_this_machine_s_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.cost_table.estimator", lambda: latency)
    fitted = fit_width(model_spec("kt_final"), Budget.parse("2ms_latency"), (1, 80, 51), 10)
    assert fitted.cost is not None
    assert fitted.cost.latency_ms is not None
    assert 1.5 < fitted.cost.latency_ms <= 2
