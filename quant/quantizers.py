"""What a quantization library brings: rounding of activations and of weights that gradients pass through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quant.integer import LEVELS, Grid


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
        scale, zero_point = float(self._grid.scale), float(self._grid.zero_point)
        x = x.clamp(-zero_point * scale, (LEVELS - zero_point) * scale)
        return x + (torch.round(x / scale) * scale - x).detach()


class IntegerWeights(NamedTuple):
    """What a convolution stores: float32 tensors that hold integers, and the scale of each output channel."""

    weight: Tensor  # (C', C/g, kF, kT), within int8
    scale: Tensor  # (C',)


class Quantizers(NamedTuple):
    """The two of a library. Convolutions take the arguments of nn.Conv2d, and real values; they have `integers()`."""

    activation: Callable[[bool], Quantizer]  # whether values are cut at zero
    convolution: Callable[..., Any]
