"""The integer operators of ONNX Runtime, in torch: what a frozen network computes.

A network of 8-bit layers is chaotic: a single value that rounds the other way changes a fifth of the logits by a
step. So the frozen network does not imitate the integer graph in floating point; it computes the same integers,
with the same float32 factors in the same order (as the runtime does on x86 with AVX2 and FMA; other processors may
round a value in a million differently). Values are real tensors on the grid of a quantizer:
real = (integer - zero point) * scale, with uint8 integers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Grid(NamedTuple):
    """The values a quantizer can give."""

    scale: Tensor  # () float32
    zero_point: Tensor  # () float32 holding an integer

    def steps(self, x: Tensor) -> Tensor:
        """Integers minus the zero point of values that lie on the grid."""
        return torch.round(x / self.scale)

    def nearest(self, x: Tensor) -> Tensor:
        """QuantizeLinear: the value of the grid nearest to each real value, ties to even before the zero point."""
        return self.real(torch.round(x / self.scale) + self.zero_point)

    def real(self, integer: Tensor) -> Tensor:
        """Rounded integers, zero point included, to the values they stand for; saturates."""
        return (integer.clamp(0, 255) - self.zero_point) * self.scale


def convolution(x: Tensor, x_grid: Grid, conv: nn.Conv2d, weight: Tensor, weight_scale: Tensor, y_grid: Grid) -> Tensor:
    """QLinearConv: exact sums of integer products, one float32 factor per output channel, round to even.

    `weight` (C', C/g, kF, kT) lies on the grids of `weight_scale`, one per output channel or one in all.
    """
    weight_steps = torch.round(weight / weight_scale).double()
    scale = weight_scale.flatten()
    bias = None if conv.bias is None else torch.round(conv.bias / (x_grid.scale * scale)).double()
    total = F.conv2d(
        x_grid.steps(x).double(), weight_steps, bias, conv.stride, conv.padding, conv.dilation, conv.groups
    )  # float64 holds every int32 sum exactly
    factor = x_grid.scale * scale / y_grid.scale
    return y_grid.real(torch.round(total.float() * factor.reshape(1, -1, 1, 1)) + y_grid.zero_point)


def addition(a: Tensor, a_grid: Grid, b: Tensor, b_grid: Grid, y_grid: Grid) -> Tensor:
    """QLinearAdd: fused multiply-adds onto a constant, then round to even."""
    a_ratio, b_ratio = a_grid.scale / y_grid.scale, b_grid.scale / y_grid.scale
    constant = y_grid.zero_point - fused_multiply_add(a_grid.zero_point, a_ratio, b_ratio * b_grid.zero_point)
    inner = fused_multiply_add(b_grid.steps(b) + b_grid.zero_point, b_ratio, constant)
    return y_grid.real(torch.round(fused_multiply_add(a_grid.steps(a) + a_grid.zero_point, a_ratio, inner)))


def product(a: Tensor, a_grid: Grid, b: Tensor, b_grid: Grid, y_grid: Grid) -> Tensor:
    """QLinearMul: the integer product times one float32 factor, plus the zero point, then round to even."""
    factor = a_grid.scale * b_grid.scale / y_grid.scale
    return y_grid.real(torch.round(a_grid.steps(a) * b_grid.steps(b) * factor + y_grid.zero_point))


def fused_multiply_add(x: Tensor, factor: Tensor, summand: Tensor) -> Tensor:
    """x * factor + summand, rounded to float32 once (the product of float32 numbers is exact in float64)."""
    return (x.double() * factor.double() + summand.double()).float()
