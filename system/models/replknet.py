"""RepLKNet-31T (Ding et al., CVPR 2022, at the size of paper 001, Table II): depthwise kernels of up to 31x31.

The widths of the T are the paper's (Section IV-F), depths and kernels those of Ding et al.'s 31B: with them all of its
counts are met. Each large kernel has a 5x5 beside it while training.
"""

from __future__ import annotations

import copy

from torch import Tensor, nn

from system.models.audio_inception import VGG_SOUND, printed
from system.models.entry import CATALOG, Entry
from system.models.reparam import centred, fold

WIDTHS, DEPTHS, KERNELS, SMALL = (64, 128, 320, 512), (2, 2, 18, 2), (31, 29, 27, 13), 5
EXPANSION = 4


def conv_norm(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


def folded(pair: nn.Sequential) -> tuple[Tensor, Tensor]:
    conv, norm = pair
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fold(conv.weight, conv.bias, norm)


class LargeKernel(nn.Module):
    """Two parallel depthwise convolutions with BatchNorm; one when merged. (B, C, F, T) -> (B, C, F, T)"""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.large = conv_norm(width, width, kernel, groups=width)
        self.small: nn.Module | None = conv_norm(width, width, SMALL, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        return self.large(x) if self.small is None else self.large(x) + self.small(x)

    def merge(self) -> None:
        """Both kernels as one, in place."""
        assert isinstance(self.small, nn.Sequential)
        conv = copy.deepcopy(self.large[0])
        (large, large_bias), (small, small_bias) = (folded(self.large), folded(self.small))
        conv.weight = nn.Parameter((large + centred(small, list(large.shape[2:]))).detach())
        conv.bias = nn.Parameter((large_bias + small_bias).detach())
        self.large, self.small = nn.Sequential(conv), None


class Residual(nn.Module):
    """BatchNorm, layers, and what was read added to it."""

    def __init__(self, width: int, *layers: nn.Module) -> None:
        super().__init__()
        self.main = nn.Sequential(nn.BatchNorm2d(width), *layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.main(x)


def block(width: int, kernel: int) -> list[nn.Module]:
    """1x1, large kernel, 1x1; then expansion and projection."""
    hidden = EXPANSION * width
    spatial = [conv_norm(width, width), nn.ReLU(), LargeKernel(width, kernel), nn.ReLU(), conv_norm(width, width)]
    pointwise = [conv_norm(width, hidden), nn.GELU(), conv_norm(hidden, width)]
    return [Residual(width, *spatial), Residual(width, *pointwise)]


def entry_to(inputs: int, width: int) -> list[nn.Module]:
    """To a stage's width and half the map: 1x1, then a depthwise 3x3 of stride 2."""
    return [conv_norm(inputs, width), nn.ReLU(), conv_norm(width, width, 3, 2, groups=width), nn.ReLU()]


class RepLKNet(nn.Module):
    """(B, 1, mel bands, frames) -> (B, classes)"""

    def __init__(self, classes: int) -> None:
        super().__init__()
        first, last = WIDTHS[0], WIDTHS[-1]
        layers = [conv_norm(1, first, 3, 2), nn.ReLU(), conv_norm(first, first, 3, groups=first), nn.ReLU()]
        for inputs, width, depth, kernel in zip((first, *WIDTHS), WIDTHS, DEPTHS, KERNELS, strict=False):
            layers += entry_to(inputs, width)
            for _ in range(depth):
                layers += block(width, kernel)
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(last))
        self.classify = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.layers(x).mean(dim=(2, 3)))  # (B, C, F/32, T/32) -> (B, C) -> (B, classes)


def merged(network: nn.Module) -> nn.Module:
    """A copy with one kernel in place of two everywhere."""
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, LargeKernel):
            module.merge()
    return network


CATALOG.add("replknet_31t")(
    Entry(
        "RepLKNet-31T, paper 001, Table II",
        **VGG_SOUND,
        module=RepLKNet,
        merge=merged,
        published={"train": printed(29.52, 7.86), "merged": printed(29.32, 7.79)},
    )
)
