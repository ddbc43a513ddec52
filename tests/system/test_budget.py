"""The grammar of budgets, and what a budget says of a network."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.budget import BUDGET_NAMES, Budget
from system.editions import EDITIONS
from system.errors import BudgetError

COST = {
    "params": 1000, "macs": 2200, "macs_exact": 2000, "macs_torchinfo": 2200, "macs_nessi_tflite": 2100,
    "total_bytes": 1500, "peak_activation_bytes": 400,
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("128k_params_30M_macs", {"params": 128_000, "macs": 30_000_000}),
        ("30M_macs_128k_params", {"params": 128_000, "macs": 30_000_000}),
        ("128kB_30M_macs", {"bytes": 128_000, "macs": 30_000_000}),
        ("64KiB", {"bytes": 65_536}),
        ("1MiB", {"bytes": 1_048_576}),
        ("1MB", {"bytes": 1_000_000}),
        ("500B", {"bytes": 500}),
        ("30M_macs_256kB_activations", {"macs": 30_000_000, "activation_bytes": 256_000}),
        ("64KiB_64KiB_activations", {"bytes": 65_536, "activation_bytes": 65_536}),
        ("61148_params", {"params": 61_148}),
        ("0.3M_macs", {"macs": 300_000}),
        ("64.1k_params", {"params": 64_100}),
        ("1.005M_macs", {"macs": 1_005_000}),
        ("1.5B", {"bytes": 1}),
        ("2ms_latency", {"latency_ms": 2.0}),
        ("0.75ms_latency_30M_macs", {"macs": 30_000_000, "latency_ms": 0.75}),
    ],
)
def test_readable_budgets(text: str, limits: dict[str, int]) -> None:
    budget = Budget.parse(text)
    assert budget.limits() == limits
    assert budget.text == text


@pytest.mark.parametrize(
    "text",
    [
        "", "_", "128k", "128kparams", "128k_params_", "_128k_params", "128k_params__30M_macs", "128K_params",
        "128kb", "128kib", "30m_macs", "30M_flops", "30M", "-5k_params", "+5k_params", "5e3_params", "1,000_params",
        ".5M_macs", "5._params", "128k_params 30M_macs", " 64KiB", "64KiB\n", "64 KiB", "256kB_activation",
        "30M_macs_activations", "30MB_macs", "٣k_params", "9" * 400 + "kB", "dcase1999", "DCASE2022", "1.5.2M_macs",
        "2ms", "2_latency", "2s_latency", "2kms_latency", "2ms_latency_", "2msB_latency",
    ],
)  # fmt: skip
def test_anything_else_is_an_error_that_shows_the_grammar(text: str) -> None:
    with pytest.raises(BudgetError) as caught:
        Budget.parse(text)
    assert repr(text) in str(caught.value)
    assert "128k_params_30M_macs, 64KiB or" in str(caught.value)
    assert "dcase2022" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("64KB", "64kB"), ("64kib", "64KiB"), ("1K_PARAMS_3m_macs", "1k_params_3M_macs"), ("DCASE2022", "dcase2022")],
)
def test_letters_of_the_other_size_get_the_right_ones(text: str, meant: str) -> None:
    with pytest.raises(BudgetError, match=f"^budget '{text}': cannot read .*, did you mean '{meant}'\\?; expected"):
        Budget.parse(text)


@pytest.mark.parametrize(
    "text", ["64KiB_64kB", "1k_params_2k_params", "1M_macs_64KiB_1M_macs", "1ms_latency_2ms_latency"]
)
def test_a_limit_given_twice_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="is limited twice"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0_params", "0.0M_macs", "0.5B", "64KiB_0_macs", "0ms_latency", "0.0ms_latency"])
def test_a_limit_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(BudgetError, match="is zero, so nothing fits"):
        Budget.parse(text)


@settings(deadline=None)
@given(
    params=st.none() | st.integers(1, 10**9),
    macs=st.none() | st.integers(1, 10**12),
    size=st.none() | st.integers(1, 10**9),
    activations=st.none() | st.integers(1, 10**9),
    order=st.randoms(use_true_random=False),
    data=st.data(),
)
def test_every_budget_is_read_back_exactly(
    params: int | None, macs: int | None, size: int | None, activations: int | None, order: Any, data: st.DataObject
) -> None:
    """Each number in any of its units, decimals written out, in any order."""
    quantities = {"params": params, "macs": macs, "bytes": size, "activation_bytes": activations}
    wanted = {quantity: number for quantity, number in quantities.items() if number is not None}
    words = []
    for quantity, number in wanted.items():
        if quantity in ("params", "macs"):
            unit, factor = data.draw(st.sampled_from([("", 1), ("k", 10**3), ("M", 10**6)]))
            words.append(f"{Decimal(number) / factor:f}{unit}_{quantity}")
        else:
            unit, factor = data.draw(st.sampled_from([("B", 1), ("kB", 10**3), ("MB", 10**6)]))
            words.append(f"{Decimal(number) / factor:f}{unit}" + "_activations" * (quantity == "activation_bytes"))
    order.shuffle(words)
    text = "_".join(words)
    if wanted:
        assert Budget.parse(text).limits() == wanted
    else:
        with pytest.raises(BudgetError):
            Budget.parse(text)


@settings(deadline=None)
@given(number=st.integers(1, 10**6), unit=st.sampled_from([("KiB", 1024), ("MiB", 1024**2)]))
def test_binary_units(number: int, unit: tuple[str, int]) -> None:
    assert Budget.parse(f"{number}{unit[0]}").bytes == number * unit[1]


@settings(deadline=None)
@given(st.text(alphabet="0123456789.kMBKi_paramscstlney", max_size=24))
def test_no_text_is_anything_but_a_budget_or_a_budget_error(text: str) -> None:
    try:
        budget = Budget.parse(text)
    except BudgetError:
        return
    assert budget.limits()
    for quantity, limit in budget.limits().items():
        assert limit > 0
        assert isinstance(limit, float if quantity == "latency_ms" else int)


def test_editions_stand_for_their_limits() -> None:
    assert Budget.parse("dcase2022").limits() == {"params": 128_000, "macs": 30_000_000}
    assert Budget.parse("dcase2023").limits() == {"bytes": 128_000, "macs": 30_000_000}
    assert Budget.parse("dcase2022").text == "dcase2022"
    assert set(BUDGET_NAMES) == {edition.budget_name for edition in EDITIONS.values() if edition.limits}
    for name, limits in BUDGET_NAMES.items():
        assert Budget.parse(name).limits() == Budget.parse(limits).limits()


def test_limits_are_inclusive() -> None:
    assert Budget.parse("1000_params_2200_macs_1500B_400B_activations").excess(COST) == {}
    Budget.parse("1000_params_2200_macs_1500B_400B_activations").check(COST)


def test_excess_and_its_message_name_every_limit() -> None:
    budget = Budget.parse("999_params_2k_macs_1kB_399B_activations")
    assert budget.excess(COST) == {"params": 1, "macs": 200, "bytes": 500, "activation_bytes": 1}
    with pytest.raises(BudgetError) as caught:
        budget.check(COST, "the model of runs/x")
    assert str(caught.value) == (
        "the model of runs/x exceeds the budget 999_params_2k_macs_1kB_399B_activations: "
        "1,000 parameters of 999 allowed (1 too many); 2,200 MACs of 2,000 allowed (200 too many); "
        "1,500 bytes of 1,000 allowed (500 too many); 400 bytes of activations of 399 allowed (1 too many)"
    )


def test_only_what_is_exceeded_is_named() -> None:
    with pytest.raises(BudgetError, match=r"2,200 MACs of 2,199 allowed \(1 too many\)$"):
        Budget.parse("1000_params_2199_macs").check(COST)


@pytest.mark.parametrize(("view", "over"), [("strictest", 150), ("exact", 0), ("torchinfo", 150)])
def test_a_view_counts_macs_its_own_way(view: str, over: int) -> None:
    assert Budget.parse("2050_macs", view).excess(COST).get("macs", 0) == over
    assert Budget.parse("999_params", view).excess(COST) == {"params": 1}


def test_latency_is_judged_only_where_it_is_estimated() -> None:
    """A trained network's own report has no estimate: its integer file is measured instead."""
    budget = Budget.parse("1000_params_2ms_latency")
    assert budget.excess(COST) == {}
    assert budget.excess({**COST, "latency_ms": 2.0}) == {}
    assert budget.excess({**COST, "latency_ms": 2.25}) == {"latency_ms": 0.25}
    with pytest.raises(BudgetError, match=r"2\.25 ms of latency of 2\.0 allowed \(0\.25 too many\)$"):
        budget.check({**COST, "latency_ms": 2.25})
    assert budget.shares({**COST, "latency_ms": 1.5}) == {"params": 1.0, "latency_ms": 0.75}
    assert budget.shares({**COST, "latency_ms": None}.__getitem__) == {"params": 1.0}
    assert budget.summary() == {
        "text": "1000_params_2ms_latency", "view": "strictest", "params": 1000, "latency_ms": 2.0
    }  # fmt: skip


def test_a_counted_limit_needs_its_count() -> None:
    for text in ("1k_params", "1k_params_2ms_latency"):
        with pytest.raises(KeyError):
            Budget.parse(text).excess({"macs": 3})


def test_costs_may_be_asked_one_by_one() -> None:
    asked: list[str] = []

    def ask(key: str) -> int:
        asked.append(key)
        return COST[key]

    assert Budget.parse("999_params_1B").excess(ask) == {"params": 1, "bytes": 1499}
    assert asked == ["params", "total_bytes"]
