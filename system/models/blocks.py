"""Residual blocks. All take (factory, input map, output channels, stride, spec) and are found by name.

`slots` names the places of a block that may carry an activation; `ModelSpec.activations_kept` picks from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from system.complexity import Map
from system.errors import ConfigError
from system.models.layers import LayerFactory, Mapped, Pair
from system.registry import Registry
from system.spec import ModelSpec


class Block(Mapped):
    slots: ClassVar[tuple[str, ...]]


BLOCKS: Registry[Callable[..., Block]] = Registry("block")


def activations(spec: ModelSpec, slots: tuple[str, ...]) -> Callable[[str], str | None]:
    """slot -> the activation it carries, or None where it was removed (KT, Section 2.7)."""
    kept = slots if spec.activations_kept is None else spec.activations_kept
    return lambda slot: spec.activation if slot in kept else None


class Shortcut(Mapped):
    """Identity, average pooling (shape kept but for the stride), 1x1 convolution, or nothing.

    `exists` is False where the block has no shortcut: the shape changes and the spec asks for identities only.
    """

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        self.exists, self.layer, self.map = True, None, x
        if spec.shortcut == "identity":
            if channels != x.channels:
                self.exists = False
            elif stride != (1, 1):
                self.layer = make.avg_pool(x, (3, 3), stride, (1, 1))
        elif channels != x.channels or stride != (1, 1):
            self.layer = make.conv(x, channels, stride=stride)
        if self.layer is not None:
            self.map = self.layer.map

    def forward(self, x: Tensor) -> Tensor:
        return x if self.layer is None else self.layer(x)


@BLOCKS.add("inverted")
class InvertedBottleneck(Block):
    """1x1 expansion, depthwise convolution, 1x1 projection, residual (KT, Sections 2.4-2.6 and Figure 1).

    (B, C, F, T) -> (B, C', F/s, T/s)
    """

    slots = ("expand", "depthwise", "output")

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        hidden = spec.rounded(x.channels * spec.expansion)
        self.expand = make.conv(x, hidden, act=act("expand"))
        self.depthwise = make.conv(
            self.expand.map, hidden, spec.kernel_size, stride, groups=hidden, act=act("depthwise")
        )
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        joined = self.shortcut.exists
        self.project = make.conv(self.depthwise.map, channels, act=None if joined else act("output"))
        self.add = make.add(self.project.map, self.shortcut.map, act("output")) if joined else None
        self.map = self.project.map if self.add is None else self.add.map

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return y if self.add is None else self.add(y, self.shortcut(x))


@BLOCKS.add("rep_inception")
class AudioRepInceptionNeXt(Block):
    """AudioRepInceptionNeXt block (paper 001, Section III-B and Figure 2b).

    1x1 -> parallel depthwise kernels over time, plus identity -> the same over frequency -> 1x1 expansion ->
    1x1 projection, residual. The branches become one kernel per axis in the deploy form.
    (B, C, F, T) -> (B, C', F/s, T/s)
    """

    slots = ("head", "time", "frequency", "expand", "output")

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        hidden = spec.rounded(channels * spec.expansion)
        sizes = sorted(spec.branches, reverse=True)
        self.head = make.conv(x, channels, stride=stride, act=act("head"))
        self.over_time = make.branches(self.head.map, [(1, k) for k in sizes], act("time"))
        self.over_frequency = make.branches(self.over_time.map, [(k, 1) for k in sizes], act("frequency"))
        self.expand = make.conv(self.over_frequency.map, hidden, act=act("expand"))
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        joined = self.shortcut.exists
        self.project = make.conv(self.expand.map, channels, act=None if joined else act("output"))
        self.add = make.add(self.project.map, self.shortcut.map, act("output")) if joined else None
        self.map = self.project.map if self.add is None else self.add.map

    def forward(self, x: Tensor) -> Tensor:
        y = self.over_frequency(self.over_time(self.head(x)))  # (B, C', F/s, T/s)
        y = self.project(self.expand(y))
        return y if self.add is None else self.add(y, self.shortcut(x))


def check_slots(spec: ModelSpec) -> None:
    """Raises ConfigError if `activations_kept` names a slot the block does not have."""
    block: Any = BLOCKS[spec.block]
    wrong = [slot for slot in spec.activations_kept or () if slot not in block.slots]
    if wrong:
        raise ConfigError(
            f"model.activations_kept: the block {spec.block!r} has the activations {', '.join(block.slots)}; "
            f"found {', '.join(wrong)}"
        )
