"""The integer operators of ONNX Runtime, in torch: what a frozen network computes.

A network of 8-bit layers is chaotic: a single value that rounds the other way changes a fifth of the logits by a
step. So the frozen network does not imitate the integer graph in floating point; it computes the same integers,
with the same float32 factors in the same order (as the runtime does on x86 with AVX2 and FMA; other processors may
round a value in a million differently).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 255  # the largest uint8
EXACT = 2**24  # float32 holds every integer up to here

Pair = tuple[int, int]  # as in system/models/maps.py: packages hold this file, which needs nothing of the project


class Grid(NamedTuple):
    """The values that a uint8 tensor stands for: (integer - zero point) * scale."""

    scale: Tensor  # () float32
    zero_point: Tensor  # () float32 holding an integer

    @classmethod
    def of(cls, scale: float, zero_point: int) -> Grid:
        return cls(torch.tensor(scale, dtype=torch.float32), torch.tensor(float(zero_point)))

    def times(self, factor: float) -> Grid:
        """What the same integers stand for when the values are multiplied."""
        return Grid(self.scale * factor, self.zero_point)

    def nearest(self, x: Tensor) -> Integers:
        """QuantizeLinear: ties to even before the zero point is added; saturates."""
        return self.rounded(torch.round(x / self.scale) + self.zero_point)

    def rounded(self, q: Tensor) -> Integers:
        return Integers(q.clamp(0, LEVELS), self)


class Integers(NamedTuple):
    """A uint8 tensor with its meaning. The integers are held in float32: torch convolves no integers."""

    q: Tensor
    grid: Grid

    @property
    def steps(self) -> Tensor:
        """Integers minus the zero point."""
        return self.q - self.grid.zero_point

    @property
    def real(self) -> Tensor:
        """DequantizeLinear"""
        return self.steps * self.grid.scale

    def on(self, grid: Grid) -> Integers:
        """The same integers, read as other values."""
        return Integers(self.q, grid)


def convolution(
    x: Integers, weight: Tensor, scale: Tensor, bias: Tensor | None, y: Grid,
    stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> Integers:  # fmt: skip
    """QLinearConv: exact sums of integer products, one float32 factor per output channel, round to even.

    `weight` (C', C/g, kF, kT) and `bias` (C',) hold integers; `scale` (C',) is the weights'.
    """
    exact_in_float32 = LEVELS * 128 * weight[0].numel() < EXACT
    number = torch.float32 if exact_in_float32 else torch.float64  # which holds every int32 sum exactly
    total = F.conv2d(x.steps.to(number), weight.to(number), None, stride, padding, dilation, groups)
    if bias is not None:
        total = total.double() + bias.double()[:, None, None]
    factor = x.grid.scale * scale / y.scale
    return y.rounded(torch.round(total.float() * factor.reshape(1, -1, 1, 1)) + y.zero_point)


def addends(a: Grid, b: Grid, y: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """What an addition multiplies each integer with, and the constant it adds."""
    a_ratio, b_ratio = a.scale / y.scale, b.scale / y.scale
    return a_ratio, b_ratio, y.zero_point - fused_multiply_add(a.zero_point, a_ratio, b_ratio * b.zero_point)


def addition(a: Integers, b: Integers, y: Grid) -> Integers:
    """QLinearAdd: fused multiply-adds onto a constant, then round to even."""
    a_ratio, b_ratio, constant = addends(a.grid, b.grid, y)
    inner = fused_multiply_add(b.q, b_ratio, constant)
    return y.rounded(torch.round(fused_multiply_add(a.q, a_ratio, inner)))


def product(a: Integers, b: Integers, y: Grid) -> Integers:
    """QLinearMul: the integer product times one float32 factor, plus the zero point, then round to even."""
    factor = a.grid.scale * b.grid.scale / y.scale
    return y.rounded(torch.round(a.steps * b.steps * factor + y.zero_point))


def lookup(x: Integers, function: Callable[[Tensor], Tensor], y: Grid) -> Integers:
    """QLinearSigmoid, QLinearLeakyRelu: a table of 256 results."""
    table = y.nearest(function(x.on(x.grid)._replace(q=torch.arange(256.0)).real)).q
    return Integers(table[x.q.long()], y)


def global_average(x: Integers, y: Grid) -> Integers:
    """QLinearGlobalAveragePool: an integer sum over the map, one float32 factor, round to even."""
    positions = x.q.shape[2] * x.q.shape[3]
    total = x.steps.double().sum(dim=(2, 3), keepdim=True).float()
    factor = x.grid.scale / (y.scale * positions)
    return y.rounded(torch.round(total * factor) + y.zero_point)


def instance_norm(x: Tensor, eps: float) -> Tensor:
    """InstanceNormalization of rows (..., N), without gain, with sums in the runtime's order (Eigen, SSE2)."""
    count = x.shape[-1]
    mean = ordered_sum(x, 4, 2) / count
    centred = x - mean
    variance = ordered_sum(centred * centred, 4, 2) / count
    inverse = 1 / root(variance + torch.tensor(eps, dtype=torch.float32))
    return x * inverse - mean * inverse


def layer_norm(x: Tensor, gain: Tensor, shift: Tensor, eps: float) -> Tensor:
    """LayerNormalization of rows (..., C) of integers, whose sum is exact; squares are added as MLAS does (AVX2).

    Below 8 channels the runtime has another order, so that a value in ten thousand may round otherwise.
    """
    count = x.shape[-1]
    centred = x - x.sum(dim=-1, keepdim=True) / count
    variance = ordered_sum(centred, 8, 1, squared=True) / count
    inverse = 1 / root(variance + torch.tensor(eps, dtype=torch.float32))
    return fused_multiply_add(centred * inverse, gain, shift)


def ordered_sum(x: Tensor, width: int, chains: int, squared: bool = False) -> Tensor:
    """(..., N) -> (..., 1): float32 sums of packets of `width`, in `chains` that take turns, then of what is left.

    With `squared`, of squares by fused multiply-adds; but four of what is left are squared at once, not fused.
    """

    def add(total: Tensor | None, values: Tensor, fused: bool = True) -> Tensor:
        if squared and fused and total is not None:
            return fused_multiply_add(values, values, total)
        values = values * values if squared else values
        return values if total is None else total + values

    count = x.shape[-1]
    whole = count // width * width
    packets = x[..., :whole].unflatten(-1, (-1, width)).unbind(-2)
    turns = len(packets) // chains * chains
    totals: list[Tensor | None] = [None] * chains
    for index, packet in enumerate(packets[:turns]):
        totals[index % chains] = add(totals[index % chains], packet)
    total: Tensor | None = None
    for part in totals:
        total = part if total is None or part is None else total + part
    for packet in packets[turns:]:
        total = add(total, packet)
    while total is not None and total.shape[-1] > 1:
        half = total.shape[-1] // 2
        total = total[..., :half] + total[..., half:]
    for index in range(whole, count):
        total = add(total, x[..., index : index + 1], fused=index >= count // 4 * 4)
    assert total is not None
    return total


def root(x: Tensor) -> Tensor:
    """The float32 nearest to the square root; torch.sqrt is off by one in a sixth of the cases."""
    return torch.sqrt(x.double()).float()


def fused_multiply_add(x: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
    """x * factor + summand, rounded to float32 once (the product of float32 numbers is exact in float64)."""
    return (x.double() * factor.double() + summand.double()).float()
