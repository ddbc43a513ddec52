"""Stems: from one input channel to the first width."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from system.complexity import Map
from system.models.layers import LayerFactory, Mapped
from system.registry import Registry
from system.spec import ModelSpec

STEMS: Registry[Callable[..., Mapped]] = Registry("stem")


@STEMS.add("conv")
class ConvStem(Mapped):
    """One strided convolution (KT, Section 2.3). (B, 1, F, T) -> (B, C, F/s, T/s)"""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = make.conv(x, spec.widths()[0], spec.stem_kernel, spec.stem_stride, act=spec.activation)
        self.map = self.conv.map

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


@STEMS.add("double_conv")
class DoubleConvStem(Mapped):
    """Two strided convolutions, a quarter of the width between them (DCASE 2024/25 baseline, CP-Mobile)."""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.widths()[0]
        quarter = max(1, width // 4)
        self.first = make.conv(x, quarter, spec.stem_kernel, spec.stem_stride, act=spec.activation)
        self.second = make.conv(self.first.map, width, spec.stem_kernel, spec.stem_stride, act=spec.activation)
        self.map = self.second.map

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@STEMS.add("conv_pool")
class ConvPoolStem(Mapped):
    """A strided convolution and 3x3 max pooling of stride 2 (AudioRepInceptionNeXt, paper 001, Table I)."""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.conv = make.conv(x, spec.widths()[0], spec.stem_kernel, spec.stem_stride, act=spec.activation)
        self.pool = make.max_pool(self.conv.map, (3, 3), (2, 2), (1, 1))
        self.map = self.pool.map

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.conv(x))
