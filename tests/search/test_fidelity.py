"""Rungs and the rule at them; the model that chooses. Pure functions of curves and choices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.fidelity import FULL_FIRST, REDUCTION, rungs, stops
from search.propose import AT_RANDOM, CANDIDATES, FIRST_AT_RANDOM, Seen, choose, expected_improvement, wanted


@pytest.mark.parametrize(
    ("epochs", "found"), [(1, ()), (2, (1,)), (3, (1,)), (9, (1, 3)), (12, (1, 4)), (30, (1, 3, 10))]
)
def test_rungs_are_thirds_of_thirds(epochs: int, found: tuple[int, ...]) -> None:
    assert rungs(epochs) == found


def test_the_first_trials_are_trained_to_the_end() -> None:
    others: list[list[float]] = []
    for loss in range(FULL_FIRST):
        assert stops([float(loss)], others, 9) is None
        others.append([float(loss)])
    assert stops([float(FULL_FIRST)], others, 9) == "after epoch 1 of 9 it was number 4 of 4; the best 2 go on"


def test_between_rungs_and_at_the_end_nothing_is_stopped() -> None:
    others = [[0.1] * 9] * 10
    assert [len(curve) for curve in ([9.0] * n for n in range(1, 10)) if stops(curve, others, 9)] == [1, 3]


def test_only_those_that_got_there_are_compared() -> None:
    short, long = [[0.1, 0.1]] * 20, [[0.5, 0.5, 0.5]] * 4
    assert stops([1.0, 1.0, 0.4], short + long, 9) is None
    assert stops([0.1, 0.1, 0.6], short + long, 9) is not None


@given(st.lists(st.floats(0, 10), min_size=FULL_FIRST, max_size=30), st.floats(0, 10))
def test_a_lower_loss_never_fares_worse_and_a_third_goes_on(losses: list[float], loss: float) -> None:
    others = [[value] for value in losses]
    if stops([loss], others, 9) is None:
        assert stops([loss / 2], others, 9) is None
    assert stops([min(losses)], others, 9) is None
    below = sum(value < loss for value in losses)
    assert (stops([loss], others, 9) is None) == (below < (len(losses) + 1) / REDUCTION)


def test_the_model_finds_what_makes_networks_good() -> None:
    """Losses that depend on two of four choices: of many candidates the chosen ones are far better than the mean."""
    rng = np.random.default_rng(0)

    def loss(features: dict[str, object]) -> float:
        return 1 + 0.5 * (features["a"] != "x") + 0.2 * float(features["b"])  # type: ignore[arg-type]

    every = [dict(zip("abcd", values, strict=True)) for values in itertools.product("xyz", "012", "pqr", "01")]
    order = rng.permutation(len(every))
    curves = {index: [loss(every[index]) + 1, loss(every[index]) + 0.5, loss(every[index])] for index in order}
    seen = [Seen(every[index], curves[index][: 3 if index % 2 else 1]) for index in order[:25]]
    rest = [every[index] for index in order[25:]]
    losses = []
    for _ in range(10):
        drawn = [rest[i] for i in rng.permutation(len(rest))[:10]]
        losses.append(loss(drawn[choose(seen, drawn, 3, rng)]))
    assert np.mean(losses) < np.mean([loss(one) for one in rest]) - 0.25


def test_a_choice_is_the_same_for_the_same_seed() -> None:
    seen = [Seen({"a": name, "params": float(n)}, [1.0 / (n + 1)]) for n, name in enumerate("pqrstu")]
    candidates = [{"a": name, "params": float(n)} for n, name in enumerate("uvwp")]
    found = {choose(seen, candidates, 1, np.random.default_rng(3)) for _ in range(3)}
    assert len(found) == 1
    assert choose(seen, candidates[:1], 1, np.random.default_rng(3)) == 0


def test_first_random_then_mostly_by_the_model() -> None:
    rng = np.random.default_rng(0)
    one = Seen({}, [1.0])
    assert {wanted([one] * n, rng) for n in range(FIRST_AT_RANDOM)} == {1}
    later = [wanted([one] * FIRST_AT_RANDOM, rng) for _ in range(500)]
    assert set(later) == {1, CANDIDATES}
    assert later.count(1) / 500 == pytest.approx(AT_RANDOM, abs=0.06)


def test_expected_improvement_by_its_integral() -> None:
    rng = np.random.default_rng(0)
    mean, spread = np.array([1.0, 2.0, 0.5]), np.array([0.5, 1.0, 0.1])
    drawn = rng.normal(mean, spread, (200_000, 3))
    expected = np.maximum(0, 1.2 - drawn).mean(axis=0)
    assert expected_improvement(mean, spread, 1.2) == pytest.approx(expected, abs=5e-3)
    assert expected_improvement(np.array([1.0]), np.array([0.0]), 1.5) == pytest.approx(0.5)
