"""Intervals and p values: against system/scoring/scenes.py, against brute force, and where the answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from submission.board import resampling
from submission.board.resampling import SCORES, SourceSums, holm, jackknife_interval, p_value, source_sums
from system.scoring import bootstrap

CLASSES = 3


def segments(seed: int, n: int = 90, units: int = 15, right: float = 0.6) -> tuple[np.ndarray, ...]:
    """correct, loss, truth, source of n segments."""
    generator = np.random.default_rng(seed)
    source = np.arange(n) % units
    correct = (generator.random(n) < right).astype(float)
    return correct, generator.exponential(size=n), generator.integers(CLASSES, size=n), source


def sums(seed: int, **changes: float) -> SourceSums:
    return source_sums(*segments(seed, **changes), CLASSES)


def test_points_are_those_of_the_scores() -> None:
    correct, loss, truth, _ = segments(0)
    point = resampling.point([sums(0)])
    assert point["accuracy"] == pytest.approx(np.mean([correct[truth == c].mean() for c in range(CLASSES)]))
    assert point["log_loss"] == pytest.approx(loss.mean())
    assert point["log_loss_macro"] == pytest.approx(np.mean([loss[truth == c].mean() for c in range(CLASSES)]))


def test_a_class_of_one_segment_counts_and_one_of_none_does_not() -> None:
    """Classes 0 and 2 of three: two segments of the first, one right; one of the other, right."""
    loss = np.array([1.0, 3.0, 5.0])
    one = source_sums(np.array([1.0, 0.0, 1.0]), loss, np.array([0, 0, 2]), np.array([0, 1, 1]), CLASSES)
    assert resampling.point([one]) == {"accuracy": (1 / 2 + 1) / 2, "log_loss": 3.0, "log_loss_macro": (2 + 5) / 2}


def test_the_bootstrap_is_that_of_scores_json() -> None:
    draws = resampling.bootstrap([[sums(0)]], seed=3)[0]
    expected = bootstrap.bootstrap(*segments(0), seed=3)
    for score in ("accuracy", "log_loss"):
        assert resampling.percentile_interval(draws[score]) == pytest.approx(expected[score])


def test_systems_are_drawn_together_and_deterministically() -> None:
    first, second = resampling.bootstrap([[sums(0)], [sums(0)]], seed=1)
    again = resampling.bootstrap([[sums(5)], [sums(0)]], seed=1)[1]
    other = resampling.bootstrap([[sums(0)]], seed=2)[0]
    for score in SCORES:
        np.testing.assert_array_equal(first[score], second[score])
        np.testing.assert_array_equal(second[score], again[score])
        assert not np.array_equal(first[score], other[score])


def test_parts_are_averaged_draw_by_draw() -> None:
    both = resampling.bootstrap([[sums(0), sums(1)]], seed=0)[0]
    alone = resampling.bootstrap([[sums(0)], [sums(1)]], seed=0)
    for score in SCORES:
        np.testing.assert_allclose(both[score], (alone[0][score] + alone[1][score]) / 2)


def test_the_jackknife_leaves_out_one_source_at_a_time() -> None:
    correct, loss, truth, source = segments(0)
    left_out = resampling.jackknife([sums(0)])
    for unit in (0, 7, 14):
        kept = source != unit
        rest = resampling.point([source_sums(correct[kept], loss[kept], truth[kept], source[kept], CLASSES)])
        for score in SCORES:
            assert left_out[score][unit] == pytest.approx(rest[score])


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    """One segment per source, so that the log loss is a plain mean of independent values."""
    losses = np.random.default_rng(0).exponential(size=40)
    one_each = source_sums(np.ones(40), losses, np.zeros(40, dtype=int), np.arange(40), 1)
    found = jackknife_interval(losses.mean(), resampling.jackknife([one_each])["log_loss"], "log_loss")
    half = 2.0226909 * losses.std(ddof=1) / math.sqrt(40)  # Student's t with 39 degrees of freedom
    assert found == pytest.approx([losses.mean() - half, losses.mean() + half], rel=1e-6)


def test_the_jackknife_stays_within_what_a_share_can_be_and_needs_two_sources() -> None:
    assert jackknife_interval(0.9, np.array([0.0, 1.0, 1.0]), "accuracy") == [0.0, 1.0]
    assert jackknife_interval(0.9, np.array([0.9]), "accuracy") is None
    # of two, the root of half of 0.1^2 + 0.1^2 is 0.1, and Student's t with one degree of freedom 12.706
    of_two = jackknife_interval(2.0, np.array([1.9, 2.1]), "log_loss")
    assert of_two == pytest.approx([2 - 1.2706, 2 + 1.2706], abs=1e-4)


def test_segments_of_one_source_do_not_make_an_interval_narrower() -> None:
    """Each segment ten times: the same information, and the same interval."""
    correct, loss, truth, source = segments(0)
    many = source_sums(correct.repeat(10), loss.repeat(10), truth.repeat(10), source.repeat(10), CLASSES)
    once, often = (resampling.bootstrap([[one]], seed=0)[0]["accuracy"] for one in (sums(0), many))
    np.testing.assert_allclose(once, often)


def test_p_values() -> None:
    assert p_value(np.zeros(1000)) == 1.0
    assert p_value(np.full(1000, 1e-17)) == 1.0  # a sum in another order
    assert p_value(np.ones(999)) == pytest.approx(2 / 1000)
    assert p_value(np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)
    assert p_value(-np.array([1.0] * 95 + [-1.0] * 4)) == pytest.approx(2 * 5 / 100)


def test_p_values_are_even_where_there_is_no_difference() -> None:
    """Two equally good systems: p falls below 0.1 in about a tenth of the cases."""
    values = []
    for seed in range(60):
        a, b = resampling.bootstrap([[sums(2 * seed + 100)], [sums(2 * seed + 101)]], seed=0, resamples=200)
        values.append(p_value(a["accuracy"] - b["accuracy"]))
    assert np.mean(np.array(values) < 0.1) < 0.3
    assert np.mean(values) == pytest.approx(0.5, abs=0.15)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=50)
def test_holm_keeps_the_order_and_never_lowers(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(value <= new <= 1 for value, new in zip(values, adjusted, strict=True))
    by_value = [new for _, new in sorted(zip(values, adjusted, strict=True))]
    assert by_value == sorted(by_value)
