"""Normalizations that compute statistics at inference; BatchNorm is a part of the layers that it is folded into."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from system import complexity
from system.complexity import LayerCost, Map
from system.models.layers import Layer
from system.registry import Registry


class FreqIN(Layer):
    """Frequency-wise instance normalization (Kim et al., DCASE 2021): per sample and frequency band, no parameters.

    (x - mean) / sqrt(variance + 1e-5) over channels and time; (B, C, F, T) -> (B, C, F, T)
    """

    eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=(1, 3), keepdim=True)  # statistics over channels and time: (B, 1, F, 1)
        variance = (centred * centred).mean(dim=(1, 3), keepdim=True)
        return centred / torch.sqrt(variance + self.eps)


class ResNorm(FreqIN):
    """Residual normalization (Kim et al., DCASE 2021): lambda x + FreqIN(x), lambda 0.1 and not trained."""

    weight = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x + super().forward(x)


class GlobalResponse(Layer):
    """Global response normalization (ConvNeXt V2, Woo et al. 2023), with one gain and one shift as in CP-Mobile.

    gain * x * n + shift + x, where n is the channel's L2 norm over the map, divided by its mean over channels.
    """

    eps = 1e-6

    def __init__(self, out: Map) -> None:
        super().__init__(out)
        self.gain = nn.Parameter(torch.zeros(1))
        self.shift = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        size = torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
        relative = size / (size.mean(dim=1, keepdim=True) + self.eps)
        return x * (self.gain * relative + 1) + self.shift  # (B, C, F, T)


class LayerNorm2d(nn.LayerNorm):
    """Layer normalization over channels at each position, with a gain and a shift per channel (ConvNeXt)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, C, F, T), channels last inside


class ChannelNorm(Layer):
    """LayerNorm2d as a layer. (B, C, F, T) -> (B, C, F, T)"""

    def __init__(self, out: Map) -> None:
        super().__init__(out)
        self.norm = LayerNorm2d(out.channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Norm(NamedTuple):
    """A normalization that computes its statistics at inference, and what it costs."""

    layer: Callable[[Map], Layer]
    cost: Callable[[Map], LayerCost]


NORMS: Registry[Norm | None] = Registry("norm")
NORMS.add("batch")(None)  # nothing at inference: BatchNorm is in the convolutions
NORMS.add("resnorm")(Norm(ResNorm, complexity.residual_norm))
NORMS.add("layer")(Norm(ChannelNorm, complexity.layer_norm))
NORMS.add("freq_in")(Norm(FreqIN, complexity.frequency_norm))
NORMS.add("grn")(Norm(GlobalResponse, complexity.global_response))
