"""Scales under which no result lies near a tie, so that every runtime rounds it the same way.

An addition, a product or a mean of quantized values is written in ONNX as float operators between quantizers, and
every runtime, and every level of its optimizations, orders the float32 arithmetic in its own way. A result near the
middle between two integers then rounds either way, and in a network of 8-bit layers one such value changes logits.
Where the ratio of input scale to output scale is a fraction k/m with an odd m, results are multiples of 1/m steps:
half a step is none of them, and the nearest is 1/(2m) steps away. Float32 errs by less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from quant.integer import Grid

CLEAR, FINE, FINEST = 1e-3, 1e-5, 50  # steps from a tie; how much of its scale a table's input is read otherwise, times
SUM, PRODUCT, MEAN = 1023, 1023, 255  # largest m; a mean adds hundreds of values, which leaves a larger error


class OnGrid(Protocol):
    @property
    def grid(self) -> Grid: ...

    def on(self, grid: Grid) -> OnGrid: ...


X = TypeVar("X", bound=OnGrid)


def summands(a: X, b: X, y: Grid) -> tuple[X, X]:
    """The operands of an addition that ends on the grid `y`, each read as up to r/8 steps of `y` more or less.

    r is how much coarser than those of `y` the steps of the coarser operand are, at least 1.
    """
    ratios = [float(x.grid.scale) / float(y.scale) for x in (a, b)]
    m = odd(SUM / max(1.0, *ratios))
    first, second = (
        x.on(Grid(y.scale * (max(1, round(ratio * m)) / m), x.grid.zero_point))
        for x, ratio in zip((a, b), ratios, strict=True)
    )
    return first, second  # type: ignore[return-value]


def product_grid(a: Grid, b: Grid, y: Grid) -> Grid:
    """The grid nearest to `y` for the product of values on two others."""
    return clear(float(a.scale) * float(b.scale), y, PRODUCT)


def mean_grid(x: Grid, count: int, y: Grid) -> Grid:
    """The grid nearest to `y` for the mean of `count` values on another."""
    return clear(float(x.scale) / count, y, MEAN)


def table_grid(x: Grid, function: Callable[[Tensor], Tensor], y: Grid) -> Grid:
    """The grid nearest to `x` on which none of the 256 results of a function is rounded to `y` from near a tie."""
    steps = torch.arange(256.0, dtype=torch.float64) - x.zero_point
    best, widest = 1.0, -1.0
    for factor in (1 + sign * number * FINE for number in range(FINEST) for sign in (1, -1)):
        results = function(steps * float(x.scale) * factor) / float(y.scale)
        within = (results + y.zero_point > 0) & (results + y.zero_point < 255)  # others saturate either way
        margin = float((torch.frac(results[within].abs()) - 0.5).abs().min()) if within.any() else 0.5
        if margin > widest:
            best, widest = factor, margin
        if margin >= CLEAR:
            break
    return x.times(best)


def clear(step: float, y: Grid, largest: int) -> Grid:
    """The grid nearest to `y` of whose scale `step` is a fraction with an odd denominator up to `largest`.

    Where `step` is a smaller part than that, up to the odd numbers about that part.
    """
    ratio = step / float(y.scale)
    m = torch.arange(1, max(largest, int(1 / ratio) + 2) + 1, 2, dtype=torch.float64)
    k = torch.round(ratio * m)  # never 0 at the best: m reaches 1 / ratio
    best = torch.argmin((k / m / ratio - 1).abs())
    return Grid((step * m[best] / k[best]).float(), y.zero_point)


def odd(value: float) -> int:
    """The largest odd number up to `value`, at least 1."""
    return max(1, (int(value) - 1) // 2 * 2 + 1)
