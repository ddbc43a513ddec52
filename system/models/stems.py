"""Stems: from one input channel to the first width."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from system.complexity import Map
from system.models.factory import LayerFactory
from system.models.layers import Mapped
from system.registry import Registry
from system.spec import ModelSpec

STEMS: Registry[Callable[..., Mapped]] = Registry("stem")


def stem_conv(make: LayerFactory, x: Map, channels: int, spec: ModelSpec, norm: bool = True, act: bool = True) -> Any:
    """A convolution with the kernel, stride and padding of the stem."""
    return make.conv(
        x, channels, spec.stem_kernel, spec.stem_stride, act=spec.activation if act else None, norm=norm,
        bias=spec.conv_bias or None, padding=spec.stem_padding,
    )  # fmt: skip


@STEMS.add("conv")
class ConvStem(Mapped):
    """One strided convolution (KT, Section 2.3). (B, 1, F, T) -> (B, C, F/s, T/s)"""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = stem_conv(make, x, spec.stem_width(), spec)
        self.map = self.conv.map

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@STEMS.add("double_conv")
class DoubleConvStem(Mapped):
    """Two strided convolutions, a quarter of the width between them (DCASE 2024/25 baseline, CP-Mobile).

    (B, 1, F, T) -> (B, C, F/s^2, T/s^2)
    """

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.stem_width()
        quarter = max(1, width // 4)
        self.first = stem_conv(make, x, quarter, spec)
        self.second = stem_conv(make, self.first.map, width, spec)
        self.map = self.second.map

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@STEMS.add("conv_pool")
class ConvPoolStem(Mapped):
    """A strided convolution and 3x3 max pooling of stride 2 (AudioRepInceptionNeXt, paper 001, Table I).

    (B, 1, F, T) -> (B, C, F/2s, T/2s)
    """

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = stem_conv(make, x, spec.stem_width(), spec)
        self.pool = make.max_pool(self.conv.map, (3, 3), (2, 2), (1, 1))
        self.map = self.pool.map

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))


@STEMS.add("patch")
class PatchStem(Mapped):
    """A convolution to patches, then the norm of the spec, no activation (ConvNeXt, paper 004, Sections 2 and 5).

    (B, 1, F, T) -> (B, C, F/s, T/s)
    """

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = stem_conv(make, x, spec.stem_width(), spec, norm=spec.norm == "batch", act=False)
        self.norm = make.norm(self.conv.map, spec.norm)
        self.map = self.norm.map

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))
