"""The plain convolution and the residual blocks that KT's roadmap starts from (paper 002, Sections 2.2 and 2.4)."""

from __future__ import annotations

from torch import Tensor

from system.complexity import Map
from system.errors import ConfigError
from system.models.blocks import BLOCKS, Block, InvertedBottleneck, Shortcut, activations, has_shortcut
from system.models.factory import LayerFactory
from system.models.maps import Pair
from system.spec import ModelSpec


@BLOCKS.add("plain")
class PlainConvolution(Block):
    """One convolution with BatchNorm, no shortcut (DCASE 2022 baseline). (B, C, F, T) -> (B, C', F/s, T/s)"""

    slots = ("output",)

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        self.conv = make.conv(x, channels, spec.kernel_size, stride, act=act("output"), bias=spec.conv_bias)
        self.map = self.conv.map

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def check_groups(width_in: int, width_out: int, groups: int) -> None:
    if width_in % groups or width_out % groups:
        raise ConfigError(
            f"model.groups: must divide a block's channels, {width_in} before and {width_out} after it; found {groups}"
        )


@BLOCKS.add("basic")
class BasicBlock(Block):
    """Two convolutions, residual (He et al. 2016; KT, Section 2.2). (B, C, F, T) -> (B, C', F/s, T/s)

    Receptive-field regularization (CP-ResNet, Koutini et al. 2019) is a choice of kernels for each stage.
    """

    slots = ("inner", "output")

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        check_groups(x.channels, channels, spec.groups)
        self.first = make.conv(x, channels, spec.kernel_size, stride, groups=spec.groups, act=act("inner"))
        joined = has_shortcut(x, channels, spec)
        second = make.conv(
            self.first.map, channels, spec.second_kernel or spec.kernel_size, groups=spec.groups,
            act=None if joined else act("output"),
        )  # fmt: skip
        self.shortcut = Shortcut(make, x, channels, stride, spec, groups=spec.groups)
        self.second = second
        self.add = make.add(self.second.map, self.shortcut.map, act("output")) if joined else None
        self.map = self.second.map if self.add is None else self.add.map

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.first(x))  # (B, C', F/s, T/s)
        return y if self.add is None else self.add(y, self.shortcut(x))


@BLOCKS.add("resnext")
class ResNeXt(InvertedBottleneck):
    """1x1, depthwise convolution, 1x1, residual, all of the output's width (Xie et al. 2017; KT, Section 2.4).

    As many groups as channels, like ConvNeXt's first step: no bottleneck in the middle and no expansion.
    (B, C, F, T) -> (B, C', F/s, T/s)
    """

    @staticmethod
    def hidden(width_in: int, width_out: int, spec: ModelSpec) -> int:
        return width_out
