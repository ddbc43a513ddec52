"""Heads: pooling of the last map, and the classifier."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from system.complexity import Map
from system.models.layers import LayerFactory, Mapped
from system.registry import Registry
from system.spec import ModelSpec

POOLINGS: Registry[Callable[..., Mapped]] = Registry("pooling")
HEADS: Registry[Callable[..., Mapped]] = Registry("head")


@POOLINGS.add("average")
class AveragePooling(Mapped):
    """Global average. (B, C, F, T) -> (B, C, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map) -> None:
        super().__init__()
        self.mean = make.global_average(x)
        self.map = self.mean.map

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(x)


@POOLINGS.add("attentive")
class AttentivePooling(Mapped):
    """Self-attentive pooling over time, grouped by channel (KT, Section 2.9). (B, C, F, T) -> (B, C*F, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map) -> None:
        super().__init__()
        self.stack = make.stack_frequency(x)
        stacked: Map = self.stack.map
        self.hidden = make.conv(stacked, stacked.channels, groups=stacked.channels, act="tanh", norm=False)
        self.score = make.conv(self.hidden.map, 1, norm=False, bias=False)  # softmax ignores a constant
        self.attend = make.attend(stacked, self.score.map)
        self.map = self.attend.map

    def forward(self, x: Tensor) -> Tensor:
        x = self.stack(x)  # (B, C*F, 1, T)
        return self.attend(x, self.score(self.hidden(x)))


@HEADS.add("linear")
class LinearHead(Mapped):
    """Pooling, dropout, linear layer (as a 1x1 convolution). (B, C, F, T) -> (B, classes, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        self.pool = POOLINGS[spec.pooling](make, x)
        self.dropout = make.dropout(self.pool.map, spec.dropout)
        self.classify = make.conv(self.dropout.map, classes, norm=False)
        self.map = self.classify.map

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.dropout(self.pool(x)))


@HEADS.add("conv")
class ConvHead(Mapped):
    """1x1 convolution with BatchNorm to the classes, then global average (DCASE 2024/25 baseline)."""

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        self.classify = make.conv(x, classes)
        self.mean = make.global_average(self.classify.map)
        self.map = self.mean.map

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(self.classify(x))
