"""Residual blocks. All take (factory, input map, output channels, stride, spec) and are found by name.

`slots` names the places of a block that may carry an activation; `ModelSpec.activations_kept` picks from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor

from system.complexity import Map
from system.errors import ConfigError
from system.models.factory import LayerFactory
from system.models.layers import Mapped
from system.models.maps import Pair
from system.registry import Registry
from system.spec import ModelSpec


class Block(Mapped):
    slots: ClassVar[tuple[str, ...]]
    zero_start: ClassVar[str | None] = None  # the layer whose BatchNorm starts at zero: the block is its shortcut then
    normalizes: ClassVar[bool] = False  # True: the norm of the spec is in the block, so the stage adds none


BLOCKS: Registry[Callable[..., Block]] = Registry("block")


def activations(spec: ModelSpec, slots: tuple[str, ...]) -> Callable[[str], str | None]:
    """slot -> the activation it carries, or None where it was removed (KT, Section 2.7)."""
    kept = slots if spec.activations_kept is None else spec.activations_kept
    return lambda slot: spec.activation if slot in kept else None


def has_shortcut(x: Map, channels: int, spec: ModelSpec) -> bool:
    """False where the width changes and the spec asks for identities only."""
    return spec.shortcut != "identity" or channels == x.channels


class Shortcut(Mapped):
    """Identity, average pooling (shape kept but for the stride), 1x1 convolution, or nothing: see `has_shortcut`.

    It runs last, so a block declares it last, and is counted so: the memory depends on the order. Where its place in
    the block is an earlier one, it keeps that: fresh weights are drawn in the order of the parts.
    """

    def __init__(
        self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec, groups: int = 1
    ) -> None:
        super().__init__()
        self.exists, self.layer, self.map = has_shortcut(x, channels, spec), None, x
        if spec.shortcut == "identity":
            if self.exists and stride != (1, 1):
                self.layer = make.avg_pool(x, (3, 3), stride, (1, 1))
        elif channels != x.channels or stride != (1, 1):
            self.layer = make.conv(x, channels, stride=stride, groups=groups)
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
        hidden = self.hidden(x.channels, channels, spec)
        self.expand = make.conv(x, hidden, act=act("expand"))
        self.depthwise = make.conv(
            self.expand.map, hidden, spec.kernel_size, stride, groups=hidden, act=act("depthwise")
        )
        joined = has_shortcut(x, channels, spec)
        project = make.conv(self.depthwise.map, channels, act=None if joined else act("output"))
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        self.project = project
        self.add = make.add(self.project.map, self.shortcut.map, act("output")) if joined else None
        self.map = self.project.map if self.add is None else self.add.map

    @staticmethod
    def hidden(width_in: int, width_out: int, spec: ModelSpec) -> int:
        """Channels of the depthwise convolution."""
        return spec.rounded(width_in * spec.expansion)

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return y if self.add is None else self.add(y, self.shortcut(x))


@BLOCKS.add("convnext")
class ConvNeXt(Block):
    """ConvNeXt block (paper 004, Section 2): depthwise -> norm -> 1x1 expansion -> 1x1 projection, residual.

    The projection is scaled per channel where the spec has a layer scale. With the norm `layer` this is the paper's
    block; with `batch`, whose norm folds into the depthwise convolution, all that is left to run is convolutions.
    (B, C, F, T) -> (B, C', F/s, T/s)
    """

    slots = ("expand",)
    normalizes = True

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, spec: ModelSpec) -> None:
        super().__init__()
        act = activations(spec, self.slots)
        hidden = spec.rounded(channels * spec.expansion)
        self.depthwise = make.conv(
            x, x.channels, spec.kernel_size, stride, groups=x.channels, norm=spec.norm == "batch"
        )
        self.norm = make.norm(self.depthwise.map, spec.norm)
        self.expand = make.conv(self.norm.map, hidden, norm=False, act=act("expand"))
        self.project = make.conv(self.expand.map, channels, norm=False, scale=spec.layer_scale)
        self.shortcut = Shortcut(make, x, channels, stride, spec)
        self.add = make.add(self.project.map, self.shortcut.map) if self.shortcut.exists else None
        self.map = self.project.map if self.add is None else self.add.map

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x))  # (B, C, F/s, T/s)
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
