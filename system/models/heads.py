"""Heads: pooling of the last map, and the classifier."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from system.complexity import Map
from system.errors import ConfigError
from system.models.factory import LayerFactory
from system.models.layers import Mapped, mean_over_map
from system.models.maps import asked_by
from system.registry import Registry
from system.spec import ModelSpec


class Head(Mapped):
    """(B, C, F, T) -> (B, classes, 1, 1)"""

    def embed(self, x: Tensor) -> Tensor:
        """The pooled vector that the classifier reads: (B, C, F, T) -> (B, D, 1, 1)"""
        raise NotImplementedError


POOLINGS: Registry[Callable[..., Mapped]] = Registry("pooling")
HEADS: Registry[Callable[..., Head]] = Registry("head")


@POOLINGS.add("average")
class AveragePooling(Mapped):
    """Global average. (B, C, F, T) -> (B, C, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.mean = make.global_average(x)
        self.map = self.mean.map

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(x)


@POOLINGS.add("time_average")
class TimeAveragePooling(Mapped):
    """Average over time, each band a channel of its own. (B, C, F, T) -> (B, C*F, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.stack = make.stack_frequency(x)
        self.mean = make.global_average(self.stack.map)
        self.map = self.mean.map

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(self.stack(x))  # (B, C*F, 1, T) -> (B, C*F, 1, 1)


@POOLINGS.add("max")
class MaxPooling(Mapped):
    """Maximum over time and over `pool_bands` neighbouring bands (DCASE 2022 baseline).

    (B, C, F, T) -> (B, C*F/pool_bands, 1, 1)
    """

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        grid = (spec.pool_bands, x.time)
        with asked_by(stride="model.pool_bands", kernel="model.pool_bands"):
            self.pool = make.max_pool(x, grid, grid)
        self.stack = make.stack_frequency(self.pool.map)
        self.map = self.stack.map

    def forward(self, x: Tensor) -> Tensor:
        return self.stack(self.pool(x))


@POOLINGS.add("mean_max")
class MeanMaxPooling(Mapped):
    """Mean over frequency, then maximum plus mean over time (PANNs; paper 004). (B, C, F, T) -> (B, C, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        self.pool = make.mean_and_max(x)
        self.map = self.pool.map

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x)


@POOLINGS.add("attentive")
class AttentivePooling(Mapped):
    """Self-attentive pooling over time, grouped by channel (KT, Section 2.9). (B, C, F, T) -> (B, C*F, 1, 1)"""

    grouped = True

    def __init__(self, make: LayerFactory, x: Map, spec: ModelSpec) -> None:
        super().__init__()
        if x.time < 2:
            raise ConfigError(
                f"model.pooling: attentive pooling does not fit a map of {x.freq}x{x.time} (freq x time): "
                "it weighs frames, which must be at least 2"
            )
        self.stack = make.stack_frequency(x)
        stacked: Map = self.stack.map
        groups = stacked.channels if self.grouped else 1
        self.hidden = make.conv(stacked, stacked.channels, groups=groups, act="tanh", norm=False)
        self.score = make.conv(self.hidden.map, 1, norm=False, bias=False)  # softmax ignores a constant
        self.attend = make.attend(stacked, self.score.map)
        self.map = self.attend.map

    def forward(self, x: Tensor) -> Tensor:
        x = self.stack(x)  # (B, C*F, 1, T)
        return self.attend(x, self.score(self.hidden(x)))


@POOLINGS.add("attentive_full")
class FullAttentivePooling(AttentivePooling):
    """The same, ungrouped: the hidden layer sees all channels and bands of a frame. (B, C, F, T) -> (B, C*F, 1, 1)"""

    grouped = False


@HEADS.add("linear")
class LinearHead(Head):
    """Pooling, dropout, linear layer (as a 1x1 convolution). (B, C, F, T) -> (B, classes, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        self.pool = POOLINGS[spec.pooling](make, x, spec)
        self.dropout = make.dropout(self.pool.map, spec.dropout)
        self.classify = make.conv(self.dropout.map, classes, norm=False)
        self.map = self.classify.map

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.dropout(self.embed(x)))

    def embed(self, x: Tensor) -> Tensor:
        return self.pool(x)


@HEADS.add("norm_linear")
class NormLinearHead(Head):
    """Pooling, layer normalization, dropout, linear layer (ConvNeXt). (B, C, F, T) -> (B, classes, 1, 1)"""

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        self.pool = POOLINGS[spec.pooling](make, x, spec)
        self.norm = make.norm(self.pool.map, "layer")
        self.dropout = make.dropout(self.norm.map, spec.dropout)
        self.classify = make.conv(self.dropout.map, classes, norm=False)
        self.map = self.classify.map

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.dropout(self.embed(x)))

    def embed(self, x: Tensor) -> Tensor:
        return self.norm(self.pool(x))


@HEADS.add("hidden")
class HiddenHead(Head):
    """Pooling, dropout, a hidden layer of `head_width` units, dropout, linear layer (DCASE 2022 baseline)."""

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        self.pool = POOLINGS[spec.pooling](make, x, spec)
        self.dropout = make.dropout(self.pool.map, spec.dropout)
        self.hidden = make.conv(self.dropout.map, spec.head_width, norm=False, act=spec.activation)
        self.dropout_hidden = make.dropout(self.hidden.map, spec.dropout)
        self.classify = make.conv(self.dropout_hidden.map, classes, norm=False)
        self.map = self.classify.map

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.dropout_hidden(self.embed(x)))  # (B, classes, 1, 1)

    def embed(self, x: Tensor) -> Tensor:
        return self.hidden(self.dropout(self.pool(x)))  # (B, head width, 1, 1)


@HEADS.add("collapse")
class CollapseHead(Head):
    """A depthwise 5x5 without padding over frequency, 1x1 to `head_width`, average, linear layer (BC-ResNet)."""

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        with asked_by(kernel="model.head"):  # its stride of one fits any map
            self.collapse = make.conv(x, x.channels, (5, 5), groups=x.channels, norm=False, bias=False, padding=(0, 2))
        self.hidden = make.conv(self.collapse.map, spec.head_width, act=spec.activation)
        self.mean = make.global_average(self.hidden.map)
        self.dropout = make.dropout(self.mean.map, spec.dropout)
        self.classify = make.conv(self.dropout.map, classes, norm=False)
        self.map = self.classify.map

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.dropout(self.embed(x)))

    def embed(self, x: Tensor) -> Tensor:
        return self.mean(self.hidden(self.collapse(x)))  # (B, head width, 1, 1)


@HEADS.add("conv")
class ConvHead(Head):
    """1x1 convolution with BatchNorm to the classes, then global average (DCASE 2024/25 baseline).

    Dropout is of whole channels of the map, as it is after pooling in the other heads.
    """

    def __init__(self, make: LayerFactory, x: Map, classes: int, spec: ModelSpec) -> None:
        super().__init__()
        self.dropout = make.dropout(x, spec.dropout, channels=True)
        self.classify = make.conv(self.dropout.map, classes)
        self.mean = make.global_average(self.classify.map)
        self.map = self.mean.map

    def forward(self, x: Tensor) -> Tensor:
        return self.mean(self.classify(self.dropout(x)))

    def embed(self, x: Tensor) -> Tensor:
        return mean_over_map(x)  # of what the classifier reads at each position
