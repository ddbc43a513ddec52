"""Scales whose results lie away from ties, and no farther from the ones they stand for than they must."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from quant.integer import Grid, Integers
from quant.ties import (
    CLEAR,
    FINE,
    FINEST,
    MEAN,
    PRODUCT,
    SUM,
    clear,
    mean_grid,
    odd,
    product_grid,
    summands,
    table_grid,
)

scales = st.floats(0.05, 1.0)
BYTES = torch.arange(256.0, dtype=torch.float64)


def from_a_tie(results: Tensor) -> float:
    """How near to the middle between two integers the nearest result is."""
    return float((results - results.floor() - 0.5).abs().min())


def least_error(ratio: float, largest: int) -> float:
    """Relative distance to the nearest k/m of an odd m up to `largest`, by trying them all."""
    return min(abs(max(1, round(ratio * m)) / m / ratio - 1) for m in range(1, largest + 1, 2))


def test_the_largest_odd_number_up_to_a_value() -> None:
    assert [odd(value) for value in (0.3, 1, 2.9, 3, 4, 1022.5, 1023)] == [1, 1, 1, 3, 3, 1021, 1023]


@settings(max_examples=50, deadline=None)
@given(scales, scales, scales)
def test_no_sum_lies_near_a_tie(first: float, second: float, after: float) -> None:
    a, b, y = Grid.of(first, 10), Grid.of(second, 200), Grid.of(after, 0)
    read = summands(Integers(torch.zeros(1), a), Integers(torch.zeros(1), b), y)
    ratios = [float(x.grid.scale.double() / y.scale.double()) for x in read]
    assert [float(x.grid.zero_point) for x in read] == [10, 200]
    # multiples of 1/m: with an odd m half of that from a tie, but for float32's rounding of the scales
    m = odd(SUM / max(1.0, first / after, second / after))
    sums = (BYTES[:, None] - 10) * ratios[0] + (BYTES - 200) * ratios[1]
    assert from_a_tie(sums) > 0.5 / m - 255 * sum(ratios) * 2**-23
    for ratio, asked in zip(ratios, (first / after, second / after), strict=True):
        assert abs(ratio - asked) <= 0.5 / m + asked * 2**-22


def test_a_summand_of_all_but_nothing_is_read_as_the_least_step() -> None:
    y = Grid.of(1.0, 0)
    faint, _ = summands(Integers(torch.zeros(1), Grid.of(1e-6, 0)), Integers(torch.zeros(1), y), y)
    assert float(faint.grid.scale) == pytest.approx(1 / SUM, rel=2**-22)


@settings(max_examples=30, deadline=None)
@given(scales, scales, st.floats(0.01, 1.0))
def test_no_product_lies_near_a_tie(first: float, second: float, after: float) -> None:
    a, b, y = Grid.of(first, 0), Grid.of(second, 0), Grid.of(after, 7)
    found = product_grid(a, b, y)
    step = float(a.scale) * float(b.scale)
    ratio, asked = step / float(found.scale), step / float(y.scale)
    largest = max(PRODUCT, int(1 / asked) + 2)
    assert from_a_tie(torch.arange(256.0, dtype=torch.float64) * ratio) > 0.5 / largest - 256 * ratio * 2**-23
    assert abs(ratio / asked - 1) == pytest.approx(least_error(asked, largest), abs=2**-22)
    assert float(found.zero_point) == 7


@pytest.mark.parametrize("count", [4, 60, 1000])
def test_a_mean_is_a_sum_of_smaller_steps(count: int) -> None:
    x, y = Grid.of(0.02, 0), Grid.of(0.0123, 3)
    asked = 0.02 / count / float(y.scale)
    ratio = 0.02 / count / float(mean_grid(x, count, y).scale)
    assert abs(ratio / asked - 1) == pytest.approx(least_error(asked, max(MEAN, int(1 / asked) + 2)), abs=2**-22)


def test_a_part_of_a_step_beyond_the_largest_fraction() -> None:
    """One of 5,000: no odd number up to 255 comes near, the one above it does."""
    assert float(clear(1 / 5000, Grid.of(1.0, 0), MEAN).scale) == pytest.approx(5001 / 5000, rel=2**-22)


def test_a_table_that_is_clear_of_ties_keeps_its_grid() -> None:
    x = Grid.of(0.1, 0)
    assert table_grid(x, lambda values: 10 * values, Grid.of(1.0, 0)) == x.times(1.0)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_table_moves_to_the_nearest_grid_clear_of_ties(sign: int) -> None:
    """One result is half of CLEAR from a tie: away from it by FINE, which moves it by FINE of about 100, is enough."""
    result = 100.5 + sign * CLEAR / 2

    def only_ten(values: Tensor) -> Tensor:
        return torch.where((values - 10).abs() < 0.5, values * result / 10, -1.0)

    found = table_grid(Grid.of(1.0, 0), only_ten, Grid.of(1.0, 0))
    assert float(found.scale) == pytest.approx(1 + sign * FINE, abs=2**-23)


def test_a_table_that_no_grid_clears_goes_as_far_from_ties_as_it_may() -> None:
    """Halves of integers, whose first is moved by half of what the scale is changed by: never by CLEAR."""
    found = table_grid(Grid.of(1.0, 0), lambda values: values / 2, Grid.of(1.0, 0))
    assert abs(float(found.scale) - 1) == pytest.approx((FINEST - 1) * FINE, abs=2**-23)
    assert (FINEST - 1) * FINE / 2 < CLEAR


def test_what_saturates_or_no_integer_stands_for_may_lie_on_a_tie() -> None:
    """Of integers up to 255 about a zero point of 100, values reach from -100 to 155."""
    x, y = Grid.of(1.0, 100), Grid.of(1.0, 0)

    def halves_beyond(values: Tensor) -> Tensor:
        return torch.where(values > 155, values + 0.5, values)

    def halves_outside(values: Tensor) -> Tensor:
        return torch.where(values < 0, values + 0.5, torch.where(values > 100, 300.5, values))

    assert table_grid(x, halves_outside, y) == x.times(1.0)
    assert table_grid(x, halves_beyond, y) == x.times(1.0)
