"""Every block with every option, as small specs: what the contract tests run over. Filled from the registries."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from system.models.blocks import BLOCKS
from system.models.catalog import CATALOG
from system.models.heads import HEADS, POOLINGS
from system.models.layers import ACTIVATIONS, NORMS
from system.models.network import Network, Shape
from system.models.stems import STEMS
from system.spec import ModelSpec, StageSpec

torch.set_num_threads(1)

SMALL: Shape = (1, 18, 14)
CLASSES = 3
BASE = ModelSpec(
    width=4, width_multiple=2, stem_kernel=(3, 3), stem_stride=(2, 1), kernel_size=(3, 3), branches=(1, 3, 5),
    activation="relu", norm="batch", pooling="average", downsampling="strided",
    stages=(StageSpec(depth=2), StageSpec(stride=(2, 2), ratio=1.5)),
)  # fmt: skip
SAME_WIDTH = (StageSpec(), StageSpec(stride=(2, 2)))

OPTIONS: dict[str, dict[str, Any]] = {
    "base": {},
    **{f"activation {name}": {"activation": name} for name in ACTIVATIONS},
    **{f"norm {name}": {"norm": name} for name in NORMS},
    **{f"pooling {name}": {"pooling": name} for name in POOLINGS},
    **{f"stem {name}": {"stem": name} for name in STEMS},
    **{f"head {name}": {"head": name} for name in HEADS},
    **{f"downsampling {name}": {"downsampling": name} for name in ("pool", "strided", "separate")},
    "identity shortcuts": {"shortcut": "identity"},
    "identity shortcuts, pooled": {"shortcut": "identity", "stages": SAME_WIDTH},
    "no activation in blocks": {"activation": "prelu", "activations_kept": ()},
    "silu at the output only": {"activation": "silu", "activations_kept": ("output",)},
    "silu without output, no shortcut": {
        "activation": "silu", "activations_kept": ("expand",), "shortcut": "identity",
    },
    "even stem kernel": {"stem_kernel": (4, 4), "stem_stride": (1, 2)},
    "stem stride 3": {"stem_kernel": (5, 3), "stem_stride": (3, 3)},
    "flat kernels": {"kernel_size": (1, 5), "branches": (7,)},
    "narrowing": {"expansion": 0.5, "width_multiple": 1},
    "unequal strides": {"downsampling": "separate", "stages": (StageSpec(stride=(2, 1)), StageSpec(stride=(4, 2)))},
    "all of KT": {
        "activation": "silu", "activations_kept": ("expand",), "norm": "resnorm", "pooling": "attentive",
        "downsampling": "separate",
    },
}  # fmt: skip

Case = tuple[ModelSpec, Shape, int]
CASES: dict[str, Case] = {
    **{
        f"{block}: {name}": (BASE.changed(block=block, **changes), SMALL, CLASSES)
        for block in BLOCKS
        for name, changes in OPTIONS.items()
        if name == "base" or BASE.changed(**changes) != BASE
    },
    **{
        f"catalog: {name}": (entry.spec, entry.shape, entry.classes)
        for name, entry in CATALOG.items()
        if entry.spec is not None
    },
}


def randomised(network: Network, seed: int = 0) -> Network:
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
            elif isinstance(module, nn.Conv2d):
                bound = (3 / module.weight[0].numel()) ** 0.5  # keeps the variance
                fill(module.weight, -bound, bound)
                if module.bias is not None:
                    fill(module.bias, -0.5, 0.5)
            elif isinstance(module, nn.PReLU):
                fill(module.weight, 0.1, 0.4)
    return network.eval()


def inputs(shape: Shape, batch: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))
