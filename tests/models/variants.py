"""Every block with every option, as small specs: what the contract tests run over. Filled from the registries."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import nn

from system.complexity import Shape
from system.models.blocks import BLOCKS
from system.models.catalog import CATALOG, Entry
from system.models.heads import HEADS, POOLINGS
from system.models.layers import ACTIVATIONS, LayerScale
from system.models.network import complexity
from system.models.norms import NORMS, GlobalResponse
from system.models.stems import STEMS
from system.spec import ModelSpec, StageSpec

torch.set_num_threads(1)

M = TypeVar("M", bound=nn.Module)
SMALL: Shape = (1, 18, 14)
CLASSES = 3
BASE = ModelSpec(
    width=4, width_multiple=2, stem_kernel=(3, 3), stem_stride=(2, 1), kernel_size=(3, 3), branches=(1, 3, 5),
    activation="relu", norm="batch", pooling="average", downsampling="strided", sub_bands=1,
    stages=(StageSpec(depth=2), StageSpec(stride=(2, 2), ratio=1.5)),
)  # fmt: skip
SAME_WIDTH = (StageSpec(), StageSpec(stride=(2, 2)))

# tried with every block
OPTIONS: dict[str, dict[str, Any]] = {
    "base": {},
    "activation prelu": {"activation": "prelu"},
    "downsampling pool": {"downsampling": "pool"},
    "downsampling separate": {"downsampling": "separate"},
    "identity shortcuts": {"shortcut": "identity"},
    "identity shortcuts, pooled": {"shortcut": "identity", "stages": SAME_WIDTH},
    "no activation in blocks": {"activation": "prelu", "activations_kept": ()},
    "silu at the output only": {"activation": "silu", "activations_kept": ("output",)},
    "silu without output, no shortcut": {
        "activation": "silu", "activations_kept": ("expand",), "shortcut": "identity",
    },
    "flat kernels": {"kernel_size": (1, 5), "branches": (7,)},
    "narrowing": {"expansion": 0.5, "width_multiple": 1},
    "widening on one map": {"expansion": 4.0, "stages": (StageSpec(), StageSpec(ratio=3.0))},
    "unequal strides": {"downsampling": "separate", "stages": (StageSpec(stride=(2, 1)), StageSpec(stride=(4, 2)))},
    "all of KT": {
        "activation": "silu", "activations_kept": ("expand",), "norm": "resnorm", "pooling": "attentive",
        "downsampling": "separate",
    },
    "all of ConvNeXt": {
        "activation": "gelu", "norm": "layer", "layer_scale": 0.5, "band_norm": True, "stem": "patch",
        "pooling": "mean_max", "head": "norm_linear", "downsampling": "separate",
    },
}  # fmt: skip

# what a block hands on unread: tried with one block
AROUND_BLOCKS: dict[str, dict[str, Any]] = {
    **{f"activation {name}": {"activation": name} for name in ACTIVATIONS},
    **{f"norm {name}": {"norm": name} for name in NORMS},
    "norm after each block": {"norm": "resnorm", "norm_after": ("block",)},
    "norm after stem and stages": {"norm": "freq_in", "norm_after": ("stem", "stage")},
    "norm everywhere": {"norm": "layer", "norm_after": ("stem", "block", "stage")},
    **{f"pooling {name}": {"pooling": name} for name in POOLINGS},
    **{f"stem {name}": {"stem": name} for name in STEMS},
    **{f"head {name}": {"head": name} for name in HEADS},
    "even stem kernel": {"stem_kernel": (4, 4), "stem_stride": (1, 2)},
    "stem stride 3": {"stem_kernel": (5, 3), "stem_stride": (3, 3)},
    "padded stem": {"stem_kernel": (4, 3), "stem_stride": (4, 2), "stem_padding": (0, 4)},
    "wide stem": {"stem_ratio": 2.0},
    "norm per band": {"band_norm": True},
}

# what one block alone reads
OF_ONE_BLOCK: dict[str, dict[str, Any]] = {
    "cp_mobile: norm grn": {"norm": "grn"},
    "basic: kernels and groups per stage": {
        "stages": (StageSpec(second_kernel=(1, 3)), StageSpec(groups=2, ratio=1.5)),
    },
    "broadcast: sub-bands, dilated": {
        "sub_bands": 3, "block_dropout": 0.1, "kernel_size": (5, 3),
        "stages": (StageSpec(depth=2), StageSpec(depth=2, stride=(3, 1), ratio=1.5, dilation=3)),
    },
}  # fmt: skip

Case = tuple[ModelSpec, Shape, int]


def says(block: str, changes: dict[str, Any]) -> bool:
    """Whether the block has the activations that these options keep."""
    return set(changes.get("activations_kept") or ()) <= set(BLOCKS[block].slots)


def case_of(entry: Entry) -> Case:
    """A published network, narrower and shallower, a large one on a smaller map: the contract is about structure."""
    assert entry.spec is not None
    stages = tuple(stage.changed(depth=min(stage.depth, 2)) for stage in entry.spec.stages)
    large = complexity(entry.spec, entry.shape, entry.classes).macs_exact > 100e6
    return entry.spec.changed(width=8, stages=stages), (1, 64, 160) if large else entry.shape, CLASSES


CASES: dict[str, Case] = {
    **{
        f"{block}: {name}": (BASE.changed(block=block, **changes), SMALL, CLASSES)
        for block in BLOCKS
        for name, changes in {**OPTIONS, **(AROUND_BLOCKS if block == BASE.block else {})}.items()
        if says(block, changes) and (name == "base" or BASE.changed(**changes) != BASE)
    },
    **{
        name: (BASE.changed(block=name.partition(":")[0], **changes), SMALL, CLASSES)
        for name, changes in OF_ONE_BLOCK.items()
    },
    **{f"catalog: {name}": case_of(entry) for name, entry in CATALOG.items() if entry.spec is not None},
}

MODULES = [name for name, entry in CATALOG.items() if entry.module is not None]


def randomised(network: M, seed: int = 0) -> M:
    """Weights, and BatchNorm's parameters and statistics, as no initialization has them; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def fill(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.uniform_(low, high, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                fill(module.weight, 0.5, 1.5)
                module.weight[::2] *= -1
                fill(module.bias, -0.5, 0.5)
                fill(module.running_mean, -0.5, 0.5)
                fill(module.running_var, 0.5, 2.0)
            elif isinstance(module, nn.Conv2d | nn.Linear):
                bound = (3 / module.weight[0].numel()) ** 0.5  # keeps the variance
                fill(module.weight, -bound, bound)
                if module.bias is not None:
                    fill(module.bias, -0.5, 0.5)
            elif isinstance(module, nn.LayerNorm):
                fill(module.weight, 0.5, 1.5)
                fill(module.bias, -0.5, 0.5)
            elif isinstance(module, GlobalResponse):
                fill(module.gain, 0.5, 1.5)
                fill(module.shift, -0.5, 0.5)
            elif isinstance(module, LayerScale):
                fill(module.gain, 0.5, 1.5)
            elif isinstance(module, nn.PReLU):
                fill(module.weight, 0.1, 0.4)
    return network.eval()


def inputs(shape: Shape, batch: int = 3, seed: int = 1, louder: float = 1.0) -> torch.Tensor:
    """Noise, each sample `louder` times the one before it: deep networks with pooling hardly tell noises apart."""
    noise = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))
    return noise * louder ** torch.arange(batch)[:, None, None, None]
