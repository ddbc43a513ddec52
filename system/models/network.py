"""stem -> stages of blocks -> head, from a ModelSpec, by any layer factory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from system.complexity import Complexity, Map
from system.errors import ConfigError
from system.models.blocks import BLOCKS, check_slots
from system.models.counting import CostLayers
from system.models.heads import HEADS, POOLINGS
from system.models.layers import ACTIVATIONS, NORMS, FloatLayers, Form, LayerFactory, Mapped
from system.models.stems import STEMS
from system.registry import unknown
from system.spec import ModelSpec, StageSpec

Shape = tuple[int, int, int]


class Stage(Mapped):
    """Blocks of one width, entered with a stride, followed by the norm of the spec.

    The stride is taken by max pooling, by the first block itself, or by a separate BatchNorm and convolution.
    """

    def __init__(self, make: LayerFactory, x: Map, channels: int, stage: StageSpec, spec: ModelSpec) -> None:
        super().__init__()
        stride, self.down = stage.stride, None
        if stride != (1, 1) and spec.downsampling != "strided":
            pool = spec.downsampling == "pool"
            self.down = make.max_pool(x, stride, stride) if pool else make.norm_conv(x, channels, stride)
            x, stride = self.down.map, (1, 1)
        self.blocks = nn.Sequential()
        for index in range(stage.depth):
            block = BLOCKS[spec.block](make, x, channels, stride if index == 0 else (1, 1), spec)
            self.blocks.append(block)
            x = block.map
        self.norm = make.norm(x, spec.norm)
        self.map = self.norm.map

    def forward(self, x: Tensor) -> Tensor:
        if self.down is not None:
            x = self.down(x)
        return self.norm(self.blocks(x))


class Network(Mapped):
    """(B, 1, mel bands, frames) standardized log-mel -> (B, classes) logits"""

    def __init__(self, make: LayerFactory, spec: ModelSpec, shape: Shape, classes: int) -> None:
        super().__init__()
        check(spec, classes)
        self.input = make.input(Map(*shape))
        self.stem = STEMS[spec.stem](make, self.input.map, spec)
        self.stages = nn.Sequential()
        x = self.stem.map
        for stage, channels in zip(spec.stages, spec.widths(), strict=True):
            built = Stage(make, x, channels, stage, spec)
            self.stages.append(built)
            x = built.map
        self.head = HEADS[spec.head](make, x, classes, spec)
        self.output = make.output(self.head.map)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(self.input(x)))  # (B, C, F', T')
        return self.output(self.head(x))  # (B, classes)


def build(spec: ModelSpec, shape: Shape, classes: int, form: Form = "train") -> Network:
    """A float network with fresh weights (He initialization, fan-out).

    `shape` is (1, mel bands, frames). Raises ConfigError if the spec does not fit the shape.
    """
    network = Network(FloatLayers(form), spec, shape, classes)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(network.get_parameter("head.classify.conv.weight"), std=0.01)
    return network


def complexity(spec: ModelSpec, shape: Shape, classes: int, form: Form = "deploy") -> Complexity:
    """The cost of a network for one segment, by arithmetic: no tensor is made."""
    layers = CostLayers(form)
    Network(layers, spec, shape, classes)
    return Complexity.of(layers.rows)


def check(spec: ModelSpec, classes: int) -> None:
    """Raises ConfigError for a name the tables do not have, or a class count below two."""
    if classes < 2:
        raise ConfigError(f"a classifier needs at least 2 classes, found {classes}")
    tables: dict[str, Mapping[str, Any]] = {
        "stem": STEMS, "block": BLOCKS, "activation": ACTIVATIONS, "norm": NORMS, "pooling": POOLINGS, "head": HEADS,
    }  # fmt: skip
    for field, table in tables.items():
        if (name := getattr(spec, field)) not in table:
            raise ConfigError(f"model.{field}: {unknown(field, name, table)}")
    check_slots(spec)
