"""What a quantization library brings: rounding of activations and of weights that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.integer import LEVELS, Grid

PAIR = (2**15 - 1) // LEVELS  # 128: what the sum of two integer weights may be, and the negative of it
ABOVE = 1e-6  # of a scale, so that float32 cannot bring it below the least: exact pairs of sum 128 round to 128


class _OnGrid(torch.autograd.Function):
    """See `on_grid`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        y = torch.div(x, scale).add_(zero_point).round_().clamp_(0, LEVELS).sub_(zero_point).mul_(scale)
        ctx.save_for_backward(x, y, scale, zero_point)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        (g,), (x, y, scale, zero_point) = gradients, ctx.saved_tensors
        low, high = (float((end - zero_point) * scale) for end in (-0.5, LEVELS + 0.5))
        kept = torch.ops.aten.hardtanh_backward(g, x, low, high)
        of_scale = of_zero_point = None
        if ctx.needs_input_grad[1]:  # y / scale, less x / scale where nothing was cut off
            of_scale = ((_inner(g, y) - _inner(kept, x)) / scale).view_as(scale)
        if ctx.needs_input_grad[2]:
            of_zero_point = ((kept.sum() - g.sum()) * scale).view_as(zero_point)
        return kept, of_scale, of_zero_point


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Sum of products; read in the order in which `a` lies in memory, so that nothing is copied."""
    order = sorted(range(a.dim()), key=a.stride, reverse=True)
    return torch.dot(a.permute(order).reshape(-1), b.permute(order).reshape(-1))


def on_grid(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Real values -> the nearest of the uint8 grid; scale and zero point are one number each.

    Gradients are those of straight-through rounding (LSQ, Esser et al. 2020, Section 2.1; of the zero point LSQ+,
    Bhalgat et al. 2020), as autograd finds them step by step, in a quarter of its passes over memory.
    """
    return _OnGrid.apply(x, scale, zero_point)


class Quantizer(nn.Module):
    """Real values -> real values on a grid of uint8. Passes values on as they are while ranges are found."""

    def grid(self) -> Grid:
        """The grid once ranges are known. Raises RunError where they are not."""
        raise NotImplementedError


class FixedQuantizer(Quantizer):
    """A quantizer with a known range; gradients pass where nothing is cut off."""

    def __init__(self, scale: float, zero_point: int) -> None:
        super().__init__()
        self._grid = Grid.of(scale, zero_point)

    def grid(self) -> Grid:
        return self._grid

    def forward(self, x: Tensor) -> Tensor:
        return on_grid(x, self._grid.scale.to(x), self._grid.zero_point.to(x))


class WeightForm(NamedTuple):
    """How the weights of a layer are stored: symmetric integers, with a scale per output channel."""

    bits: int = 8
    portable: bool = True  # no two products overflow 16 bits (quant/portable.py)
    learned: bool = False  # scales are trained with the weights

    @property
    def largest(self) -> int:
        return 2 ** (self.bits - 1) - 1


BYTES = WeightForm()


def weight_range(rows: Tensor, form: WeightForm) -> Tensor:
    """(C', n) real weights -> (C',) what the largest integer stands for, so that all weights fit."""
    return torch.maximum(rows.abs().amax(dim=1), least_range(rows, form))


def least_range(rows: Tensor, form: WeightForm) -> Tensor:
    """(C', n) real weights -> (C',) what the largest integer must stand for at least, to be portable."""
    if not form.portable or 2 * form.largest <= PAIR:
        return rows.new_zeros(len(rows))
    rows = F.pad(rows, (0, 2))  # zeros that a filter may be filled up with
    pairs = torch.maximum(rows.topk(2).values.sum(dim=1), -rows.topk(2, largest=False).values.sum(dim=1))
    return pairs * (form.largest / PAIR * (1 + ABOVE))


class IntegerWeights(NamedTuple):
    """What a convolution stores: float32 tensors that hold integers, and the scale of each output channel."""

    weight: Tensor  # (C', C/g, kF, kT), within int8
    scale: Tensor  # (C',)


class Quantizers(NamedTuple):
    """The two of a library. Convolutions take the arguments of nn.Conv2d and `form`, a WeightForm, and real values;
    they have `integers()`."""

    activation: Callable[[bool], Quantizer]  # whether values are cut at zero
    convolution: Callable[..., Any]
