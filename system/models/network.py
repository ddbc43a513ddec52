"""stem -> stages of blocks -> head, from a ModelSpec, by any layer factory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from torch import Tensor, nn

from system.complexity import Complexity, Map, Shape
from system.errors import ConfigError
from system.models.blocks import BLOCKS, Block, check_slots
from system.models.counting import CostLayers
from system.models.factory import LayerFactory
from system.models.float_layers import FloatLayers
from system.models.foreign import foreign
from system.models.heads import HEADS, POOLINGS
from system.models.hooked import count
from system.models.layers import ACTIVATIONS, Add, Counted, Form, Mapped
from system.models.maps import Pair, asked_by
from system.models.norms import NORMS
from system.models.stems import STEMS
from system.registry import unknown
from system.spec import ModelSpec, QuantSpec, StageSpec

BYTES = QuantSpec()  # a weight in each
MOST_PARAMS = 2**30  # of a network that is built: 4 GiB in float32; the largest of the catalogue has 81 million


class Stage(Mapped):
    """Blocks of one width, entered with a stride; the norm of the spec after them or each, unless they hold it.

    The stride is taken by max pooling, by the first block itself, or by a separate norm and convolution.
    """

    def __init__(self, make: LayerFactory, x: Map, channels: int, stage: StageSpec, spec: ModelSpec) -> None:
        super().__init__()
        self.down: Any = None
        self.dropout: Any = None
        stride, spec = stage.stride, spec.in_stage(stage)
        block: Any = BLOCKS[spec.block]
        if stride != (1, 1) and spec.downsampling != "strided":
            if spec.downsampling == "pool":
                self.down = make.max_pool(x, stride, stride)
            elif block.normalizes and spec.norm != "batch":
                self.down = NormPatch(make, x, channels, stride, spec.norm)
            else:
                self.down = make.norm_conv(x, channels, stride)
            x, stride = self.down.map, (1, 1)
            self.dropout = make.dropout(x, spec.stage_dropout)
        self.blocks = nn.Sequential()
        for index in range(stage.depth):
            self.blocks.append(built := block(make, x, channels, stride if index == 0 else (1, 1), spec))
            x = built.map
            if norm_after(spec, "block") != "batch":
                self.blocks.append(normed := Normed(make, x, spec.norm))
                x = normed.map
        self.norm = make.norm(x, norm_after(spec, "stage"))
        self.map = self.norm.map

    def forward(self, x: Tensor) -> Tensor:
        if self.down is not None:
            x = self.dropout(self.down(x))
        return self.norm(self.blocks(x))


def norm_after(spec: ModelSpec, place: str) -> str:
    """The norm of NORMS at a place outside the blocks: `batch`, which is nothing there, where there is none."""
    block: Any = BLOCKS[spec.block]
    return spec.norm if place in spec.norm_after and not block.normalizes else "batch"


class Normed(Mapped):
    """A norm between blocks. (B, C, F, T) -> (B, C, F, T)"""

    def __init__(self, make: LayerFactory, x: Map, norm: str) -> None:
        super().__init__()
        self.norm = make.norm(x, norm)
        self.map = self.norm.map

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


class NormPatch(Mapped):
    """A norm, then a convolution whose kernel is its stride (ConvNeXt). (B, C, F, T) -> (B, C', F/s, T/s)"""

    def __init__(self, make: LayerFactory, x: Map, channels: int, stride: Pair, norm: str) -> None:
        super().__init__()
        self.norm = make.norm(x, norm)
        self.conv = make.conv(self.norm.map, channels, stride, stride, norm=False, padding=(0, 0))
        self.map = self.conv.map

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


class Network(Mapped):
    """(B, 1, mel bands, frames) standardized log-mel -> (B, classes) logits"""

    def __init__(self, make: LayerFactory, spec: ModelSpec, shape: Shape, classes: int) -> None:
        super().__init__()
        check(spec, classes)
        self.input = make.input(Map(*shape))
        self.band_norm = make.band_norm(self.input.map) if spec.band_norm else None
        with asked_by(stride="model.stem_stride", kernel="model.stem_kernel"):
            self.stem = STEMS[spec.stem](make, (self.band_norm or self.input).map, spec)
        self.stages = nn.Sequential()
        x = self.stem.map
        self.stem_norm = make.norm(x, spec.norm) if norm_after(spec, "stem") != "batch" else None
        for index, (stage, channels) in enumerate(zip(spec.stages, spec.widths(), strict=True)):
            with asked_by(stride=f"model.stages.{index}.stride", kernel="model.kernel_size"):
                built = Stage(make, x, channels, stage, spec)
            self.stages.append(built)
            x = built.map
        self.head = HEADS[spec.head](make, x, classes, spec)
        self.output = make.output(self.head.map)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.head(self.features(x)))  # (B, classes)

    def features(self, x: Tensor) -> Tensor:
        """What the head reads: (B, 1, mel bands, frames) -> (B, C, F', T')"""
        x = self.input(x)
        if self.band_norm is not None:
            x = self.band_norm(x)
        x = self.stem(x)
        return self.stages(x if self.stem_norm is None else self.stem_norm(x))


def build(spec: ModelSpec, shape: Shape, classes: int, form: Form = "train") -> Network:
    """A float network with fresh weights, or `spec.module`, which has its own.

    As in the code of paper 001: He initialization by fan-out, the classifier's deviation 0.01, and zero for the last
    BatchNorm's gains of blocks that say so (`zero_start`), which start as their shortcut.
    `shape` is (1, mel bands, frames). Raises ConfigError if the spec does not fit the shape, or the memory.
    """
    if spec.module is not None:
        return cast(Network, foreign(spec.module, shape, classes))
    if (params := complexity(spec, shape, classes, form).params) > MOST_PARAMS:
        raise ConfigError(f"model: to be built it must have at most {MOST_PARAMS:,} parameters, found {params:,}")
    network = Network(FloatLayers(form), spec, shape, classes)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(network.get_parameter("head.classify.conv.weight"), std=0.01)
    if form == "train":
        blocks = [module for module in network.stages.modules() if isinstance(module, Block)]
        for index, block in enumerate(blocks):
            add = getattr(block, "add", None)  # the residual's, not those that sum branches
            if isinstance(add, Add):
                add.drop_path = spec.drop_path * index / max(1, len(blocks) - 1)
                if block.zero_start is not None:
                    nn.init.zeros_(block.get_parameter(f"{block.zero_start}.norm.weight"))
    return network


def complexity(
    spec: ModelSpec, shape: Shape, classes: int, form: Form = "deploy", quant: QuantSpec = BYTES
) -> Complexity:
    """The cost of a network for one segment, by arithmetic: no tensor is made but of `spec.module`, in its one form.

    Bytes are those of weights of as many bits as `quant` says; a foreign module's have eight.
    """
    if spec.module is not None:
        return count(foreign(spec.module, shape, classes), shape)
    layers = CostLayers(form)
    network = Network(layers, spec, shape, classes)
    for row, name in weighted(network) if quant.layer_bits else ():
        layers.rows[row] = layers.rows[row]._replace(name=name)
    return Complexity.of(layers.rows, quant.bits_of)


def weighted(network: Network) -> Iterator[tuple[int, str]]:
    """Of a counted network, the row of each layer with weights, and its name."""
    for prefix, module in network.named_modules():
        for name, layer in vars(module).items():
            if isinstance(layer, Counted) and layer.row is not None:
                yield layer.row, f"{prefix}.{name}" if prefix else name


def check(spec: ModelSpec, classes: int) -> None:
    """Raises ConfigError for a name the tables do not have, or no class. One is enough where it sounds or does not."""
    if classes < 1:
        raise ConfigError(f"classes: a classifier needs at least 1 class, found {classes}")
    tables: dict[str, Mapping[str, Any]] = {
        "stem": STEMS, "block": BLOCKS, "activation": ACTIVATIONS, "norm": NORMS, "pooling": POOLINGS, "head": HEADS,
    }  # fmt: skip
    for field, table in tables.items():
        if (name := getattr(spec, field)) not in table:
            raise ConfigError(f"model.{field}: {unknown(field, name, table)}")
    check_slots(spec)
