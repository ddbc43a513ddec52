"""Blocks with parallel depthwise kernels of several sizes: AudioRepInceptionNeXt (paper 001), AudioInceptionNeXt (000).

All read (B, C, F, T) and write (B, C', F/s, T/s): a 1x1 convolution to the block's width that takes the stride, the
depthwise kernels of `ModelSpec.branches`, 1x1 convolutions over channels, and the shortcut.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from system.complexity import Map
from system.models.blocks import BLOCKS, Block, Shortcut, activations, has_shortcut
from system.models.factory import LayerFactory
from system.models.layers import Mapped
from system.models.maps import Pair
from system.spec import ModelSpec

Kept = Callable[[str], str | None]  # slot -> its activation


def sizes(spec: ModelSpec) -> list[int]:
    return sorted(spec.branches, reverse=True)


@BLOCKS.add("rep_inception")
class AudioRepInceptionNeXt(Block):
    """1x1 -> kernels over time beside the identity -> the same over frequency -> 1x1 expansion -> 1x1, residual.

    Paper 001, Section III-B and Figure 2b. The branches become one kernel per axis when deployed.
    """

    slots: ClassVar[tuple[str, ...]] = ("head", "time", "frequency", "expand", "output")
    zero_start = "project"
    identity: ClassVar[bool] = True  # beside the branches
    expanded: ClassVar[bool] = True  # two 1x1 convolutions after them, or one

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        self.head = make.conv(x, channels, stride=stride, act=act("head"))
        y = self.declare_branches(make, self.head.map, sizes(spec), act)
        self.expand = None
        if self.expanded:
            self.expand = make.conv(y, spec.rounded(channels * spec.expansion), act=act("expand"))
            y = self.expand.map
        joined = has_shortcut(x, channels, spec)
        project = make.conv(y, channels, act=None if joined else act("output"))
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        self.project = project
        self.add = make.add(self.project.map, self.shortcut.map, act("output")) if joined else None
        self.map = self.project.map if self.add is None else self.add.map

    def declare_branches(self, make: LayerFactory, x: Map, sizes: list[int], act: Kept) -> Map:
        self.over_time = make.branches(x, [(1, k) for k in sizes], act("time"), self.identity)
        x = self.over_time.map
        self.over_frequency = make.branches(x, [(k, 1) for k in sizes], act("frequency"), self.identity)
        return self.over_frequency.map

    def branches(self, x: Tensor) -> Tensor:
        return self.over_frequency(self.over_time(x))

    def forward(self, x: Tensor) -> Tensor:
        y = self.branches(self.head(x))  # (B, C', F/s, T/s)
        if self.expand is not None:
            y = self.expand(y)  # (B, E*C', F/s, T/s)
        y = self.project(y)  # (B, C', F/s, T/s)
        return y if self.add is None else self.add(y, self.shortcut(x))


@BLOCKS.add("rep_inception_2d")
class Square(AudioRepInceptionNeXt):
    """Square kernels in place of one step per axis (paper 001, Section IV-F and Figure 2b, right)."""

    slots = ("head", "square", "expand", "output")

    def declare_branches(self, make: LayerFactory, x: Map, sizes: list[int], act: Kept) -> Map:
        self.square = make.branches(x, [(k, k) for k in sizes], act("square"), self.identity)
        return self.square.map

    def branches(self, x: Tensor) -> Tensor:
        return self.square(x)


@BLOCKS.add("rep_inception_plain")
class WithoutIdentity(AudioRepInceptionNeXt):
    """No identity beside the branches (paper 001, Table VI, s8)."""

    identity = False


@BLOCKS.add("rep_inception_flat")
class WithoutExpansion(AudioRepInceptionNeXt):
    """One 1x1 convolution after the branches: no inverted bottleneck (paper 001, Table VI, s9)."""

    slots = ("head", "time", "frequency", "output")
    expanded = False


class Cascade(Mapped):
    """Depthwise over time, then over frequency, each with an activation; added to the `total` of those before.

    (B, C, F, T), (B, C, F, T) -> (B, C, F, T)
    """

    def __init__(self, make: LayerFactory, x: Map, size: int, act: Kept, total: Map | None) -> None:
        super().__init__()
        self.over_time = make.conv(x, x.channels, (1, size), groups=x.channels, act=act("time"))
        x = self.over_time.map
        self.over_frequency = make.conv(x, x.channels, (size, 1), groups=x.channels, act=act("frequency"))
        self.add = None if total is None else make.add(total, self.over_frequency.map)
        self.map = self.over_frequency.map if self.add is None else self.add.map

    def forward(self, x: Tensor, total: Tensor | None) -> Tensor:
        y = self.over_frequency(self.over_time(x))
        return y if self.add is None else self.add(total, y)


@BLOCKS.add("inception")
class AudioInceptionNeXt(Block):
    """1x1 -> a cascade per kernel size, summed -> 1x1 expansion and projection, residual (paper 000, Figure 1).

    As in the authors' code, neither the first 1x1 convolution nor the expansion has an activation, and nothing is
    beside the cascades. These have activations inside, so they stay as they are when deployed; expansion and
    projection become one convolution.
    """

    slots = ("time", "frequency", "output")
    zero_start = "mix.project"

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        self.head = make.conv(x, channels, stride=stride)
        self.cascades = nn.ModuleList()
        total: Map | None = None
        for size in sizes(spec):
            self.cascades.append(cascade := Cascade(make, self.head.map, size, act, total))
            total = cascade.map
        joined = has_shortcut(x, channels, spec)
        hidden = spec.rounded(channels * spec.expansion)
        assert total is not None  # there is a kernel
        mix = make.linear_pair(total, hidden, channels, None if joined else act("output"))
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        self.mix = mix
        self.add = make.add(self.mix.map, self.shortcut.map, act("output")) if joined else None
        self.map = self.mix.map if self.add is None else self.add.map

    def forward(self, x: Tensor) -> Tensor:
        y, total = self.head(x), None  # (B, C', F/s, T/s)
        for cascade in self.cascades:
            total = cascade(y, total)
        y = self.mix(total)  # (B, C', F/s, T/s)
        return y if self.add is None else self.add(y, self.shortcut(x))
