"""Blocks of networks that others entered in challenges: CP-Mobile, BC-ResNet."""

from __future__ import annotations

from torch import Tensor

from system.complexity import Map
from system.models.blocks import BLOCKS, Block, Shortcut, activations
from system.models.factory import LayerFactory
from system.models.maps import Pair
from system.spec import ModelSpec


@BLOCKS.add("cp_mobile")
class CPMobile(Block):
    """Inverted bottleneck whose sum is normalized before the last activation (Schmid et al., DCASE 2023).

    With the norm `grn` this is CP-Mobile, with `batch` the DCASE 2024/25 baseline. (B, C, F, T) -> (B, C', F/s, T/s)
    """

    slots = ("expand", "depthwise", "output")
    normalizes = True

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        hidden = spec.rounded(x.channels * spec.expansion)
        self.expand = make.conv(x, hidden, act=act("expand"))
        self.depthwise = make.conv(
            self.expand.map, hidden, spec.kernel_size, stride, groups=hidden, act=act("depthwise")
        )
        self.project = make.conv(self.depthwise.map, channels)
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        self.add = make.add(self.project.map, self.shortcut.map) if self.shortcut.exists else None
        y = self.project.map if self.add is None else self.add.map
        self.norm = make.norm(y, spec.norm, act("output"))
        self.map = self.norm.map

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))  # (B, C', F/s, T/s)
        return self.norm(y if self.add is None else self.add(y, self.shortcut(x)))


@BLOCKS.add("broadcast")
class BroadcastResidual(Block):
    """Broadcasted residual (Kim et al., BC-ResNet, Interspeech 2021, Section 2 and Figure 2).

    Over frequency a depthwise convolution with sub-spectral normalization; of its mean over frequency a depthwise
    convolution over time with Swish, dilated, and a 1x1, added to every band. A block that changes the width starts
    with a 1x1 and ReLU and has no shortcut. (B, C, F, T) -> (B, C', F/s, T/s)
    """

    slots = ("output",)

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        kernel = spec.kernel_size
        self.widen = make.conv(x, channels, act="relu") if channels != x.channels else None
        y = x if self.widen is None else self.widen.map
        self.over_frequency = make.conv(y, channels, (kernel[0], 1), stride, groups=channels, norm=False, bias=False)
        self.sub_band_norm = make.sub_band_norm(self.over_frequency.map, spec.sub_bands)
        y = self.sub_band_norm.map
        self.mean = make.frequency_average(y)
        self.over_time = make.conv(
            self.mean.map, channels, (1, kernel[1]), groups=channels, act="silu", dilation=(1, spec.dilation)
        )
        self.mix = make.conv(self.over_time.map, channels, norm=False, bias=False)
        self.dropout = make.dropout(self.mix.map, spec.block_dropout, channels=True)
        identity = self.widen is None and stride == (1, 1)
        self.broadcast = make.add(y, self.dropout.map, None if identity else act("output"))
        self.add = make.add(self.broadcast.map, x, act("output")) if identity else None
        self.map = self.broadcast.map if self.add is None else self.add.map

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.widen is None else self.widen(x)
        y = self.sub_band_norm(self.over_frequency(y))  # (B, C', F/s, T/s)
        over_time = self.dropout(self.mix(self.over_time(self.mean(y))))  # (B, C', 1, T/s)
        y = self.broadcast(y, over_time)
        return y if self.add is None else self.add(y, x)
