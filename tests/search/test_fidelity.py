"""What curves promise and when a trial stops; the model that chooses. Pure functions of curves and choices."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.fidelity import FINISHED_FIRST, SPREAD, UNLIKELY, first_judged, promise, stops
from search.propose import AT_RANDOM, CANDIDATES, FIRST_AT_RANDOM, Seen, choose, expected_improvement, wanted

FINISHED = [[2.0, 1.5, 1.2, 1.1 + place, 1.05 + place, 1.0 + place] for place in (0.0, 0.1, 0.2, 0.3)]


@pytest.mark.parametrize(("epochs", "first"), [(1, 1), (2, 1), (3, 1), (6, 2), (9, 3), (10, 4), (30, 10)])
def test_nothing_stops_in_the_first_third(epochs: int, first: int) -> None:
    assert first_judged(epochs) == first
    finished = [[1.0 - epoch / 100 for epoch in range(epochs)]] * FINISHED_FIRST
    stopped = [epoch for epoch in range(1, epochs + 1) if stops([99.0] * epoch, finished, epochs)]
    assert stopped == list(range(first, epochs))  # and never after its last epoch


def test_a_promise_is_the_loss_less_what_others_gained() -> None:
    mean, spread = promise([2.5, 2.0, 1.7, 1.5], [*FINISHED, [9.0, 9.0]], 6)
    assert mean == pytest.approx(1.4)  # all gained 0.1 from the fourth epoch on
    assert spread == pytest.approx(math.sqrt(3 * SPREAD**2 / (len(FINISHED) - 1 + 3)))
    assert promise([2.5, 1.5], [[9.0, 9.0]], 6) == (1.5, math.inf)  # nothing is known
    assert promise([2.0, 1.0], FINISHED, 2) == (1.0, 0.0)


def test_the_first_trials_are_trained_to_the_end() -> None:
    others: list[list[float]] = []
    for _ in range(FINISHED_FIRST):
        assert stops([9.0, 9.0, 9.0], others, 6) is None
        others.append([2.0, 1.8, 1.5, 1.3, 1.1, 1.0])
    reason = stops([9.0, 9.0, 9.0], others, 6)
    assert reason == "after epoch 3 of 6 it promises 8.500; the best has 1.000, a chance of 0.0%"


@given(st.floats(0, 5), st.floats(0, 5), st.integers(2, 5))
def test_a_lower_loss_never_fares_worse(loss: float, less: float, epoch: int) -> None:
    higher, lower = [[value] * epoch for value in (loss + less, loss)]
    if stops(higher, FINISHED, 6) is None:
        assert stops(lower, FINISHED, 6) is None
    mean, spread = promise(lower, FINISHED, 6)
    chance = 0.5 * math.erfc((mean - 1.0) / spread / math.sqrt(2))  # to be below the best of FINISHED
    assert (stops(lower, FINISHED, 6) is None) == (chance >= UNLIKELY)


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
