"""What a search would draw and what a budget buys, and the refusal of a budget that buys nothing."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from search import impossible, space
from search.dry_run import dry_run
from search.fit_width import MAP, Fitted, fit_width
from search.impossible import refuse_impossible
from search.known_designs import KNOWN_DESIGNS
from search.space import DEFAULT, Choices, read_space
from search.text import described
from system.budget import Budget
from system.errors import BudgetError

SHAPE, CLASSES = (1, 40, 26), 4


def fit_within(budget: Budget, shape: tuple[int, int, int] = SHAPE) -> impossible.Fit:
    return lambda choices: fit_width(space.spec_of(choices), budget, shape, CLASSES)


def printed(budget: Budget, shown: int, capsys: pytest.CaptureFixture[str], rows: space.Space = DEFAULT) -> str:
    dry_run(shown, budget, rows, fit_within(budget), 0)
    return capsys.readouterr().out


def test_candidates_are_shown_with_their_cost(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.dry_run.DRAWN", 60)
    budget = Budget.parse("20k_params_2M_macs")
    out = printed(budget, 5, capsys)
    assert f"{len(KNOWN_DESIGNS)} known designs and 5 of 60 draws of the space" in out
    fitted = fit_within(budget)(KNOWN_DESIGNS[0])
    assert fitted.spec is not None
    assert fitted.cost is not None
    first = next(line for line in out.splitlines() if line.startswith("known"))
    assert first.split()[1:4] == [str(fitted.spec.width), f"{fitted.cost.params:,}", f"{fitted.cost.macs / 1e6:.2f}"]
    assert first.endswith(described(KNOWN_DESIGNS[0]))
    assert len(re.findall(r"^[1-5]  ", out, re.MULTILINE)) == 5
    table = out.partition("What 20k_params_2M_macs buys")[2]
    blocks = re.findall(r"^(\w+) +(\d+) of (\d+) ", table, re.MULTILINE)
    assert {name for name, *_ in blocks} <= {"any", *map(str, DEFAULT[4].values)}
    assert sum(int(total) for name, _, total in blocks if name != "any") == 60
    assert re.search(r"\d+ candidates a second on one core", out)
    assert (
        printed(budget, 5, capsys).partition("candidates a second")[0].rpartition("\n")[0]
        == (out.partition("candidates a second")[0].rpartition("\n")[0])
    )


def test_a_candidate_on_one_line() -> None:
    assert described(KNOWN_DESIGNS[0]) == (
        "conv 5 / 2x1, inverted 5, x2, silu, inner, resnorm, after stage, attentive, separate, depth 1-2-3, growth 2"
    )
    assert described(KNOWN_DESIGNS[3]) == (
        "conv 5 / 2x2, basic 3, then 1x1_ends, relu, batch, average, pool, depth 1-1-1, growth 1.5"
    )
    told = described({**KNOWN_DESIGNS[3], "second_kernel": "same", "depth_3": 0, "n_mels": 64, "a_new_row": "x"})
    assert told == "conv 5 / 2x2, basic 3, relu, batch, average, pool, depth 1-1, growth 1.5, n_mels 64, a_new_row x"


def test_infeasible_draws_are_counted_by_the_limit_that_fails_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.dry_run.DRAWN", 60)
    out = printed(Budget.parse("600_params_4kB_activations"), 3, capsys)
    (told,) = re.findall(r"(\d+) of 60 draws are infeasible, by the limit that fails first: (.*)", out)
    found = re.findall(r"(activation_bytes|params|the input's size) (\d+)", told[1])
    counts = Counter({name: int(n) for name, n in found})
    assert counts.total() == int(told[0]) > 0
    assert {"params", "activation_bytes"} & set(counts)


def test_a_budget_that_only_few_networks_fit_is_not_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws miss them; changing one choice at a time finds one."""
    monkeypatch.setattr(impossible, "PROBES", 3)
    budget = Budget.parse("260_params")
    drawn: list[Fitted] = []

    def fit(choices: Choices) -> Fitted:
        drawn.append(fit_within(budget)(choices))
        return drawn[-1]

    refuse_impossible(budget, DEFAULT, fit)
    assert all(fitted.spec is None for fitted in drawn[:3])
    assert drawn[-1].spec is not None


def test_a_refusal_tells_the_smallest_network_and_what_fails_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impossible, "PROBES", 20)
    budget = Budget.parse("10_params_1M_macs_100B")
    found: list[Fitted] = []

    def fit(choices: Choices) -> Fitted:
        found.append(fit_within(budget)(choices))
        return found[-1]

    with pytest.raises(BudgetError) as caught:
        refuse_impossible(budget, DEFAULT, fit)
    smallest = min(fitted.cost.params for fitted in found if fitted.cost is not None)
    assert f"has {smallest:,} parameters" in str(caught.value)
    assert "nothing fits the budget 10_params_1M_macs_100B" in str(caught.value)
    assert f"params fails first: it would take {smallest:,} parameters, and 10 are allowed" in str(caught.value)


def test_a_refusal_speaks_of_the_narrowed_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impossible, "PROBES", 20)
    path = tmp_path / "space.yaml"
    path.write_text("block: [basic]\nstem_stride_frequency: [1]\nstem_stride_time: [1]\nstem: conv\n")
    with pytest.raises(BudgetError, match="macs fails first"):
        refuse_impossible(Budget.parse("70k_macs"), read_space(path), fit_within(Budget.parse("70k_macs")))
    refuse_impossible(Budget.parse("70k_macs"), DEFAULT, fit_within(Budget.parse("70k_macs")))


def test_an_input_that_nothing_fits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impossible, "PROBES", 5)
    nothing = Fitted(None, None, "attentive pooling does not fit a map of 1x1", MAP)
    with pytest.raises(BudgetError, match="no network of the search space fits the input: attentive pooling"):
        refuse_impossible(Budget.parse("1M_macs"), DEFAULT, lambda choices: nothing)
