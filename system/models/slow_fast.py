"""Auditory Slow-Fast (Kazakos et al., ICASSP 2021): the baseline of papers 000 and 001.

Two ResNet-50 with separable kernels: a wide one on every fourth frame, and one of an eighth of its width on all
frames, whose maps join the wide one's channels before each stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from system.models.audio_inception import VGG_SOUND, printed
from system.models.entry import CATALOG, Entry
from system.models.maps import Pair

ALPHA = 4  # frames of the fast pathway per frame of the slow one
BETA = 8  # channels of the slow pathway per channel of the fast one
FUSED = 2  # channels that a fast channel becomes on its way to the slow pathway
DEPTHS, STRIDES = (3, 4, 6, 3), (1, 2, 2, 2)  # of each stage; the stride is over frequency
TIME_KERNELS = {"slow": (1, 1, 3, 3), "fast": (3, 3, 3, 3)}


def conv_norm(inputs: int, outputs: int, kernel: Pair = (1, 1), stride: Pair = (1, 1)) -> nn.Sequential:
    """Convolution, (freq, time) kernel padded by its half, and BatchNorm."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False), nn.BatchNorm2d(outputs))


def stem(width: int, time_kernel: int) -> nn.Sequential:
    return nn.Sequential(conv_norm(1, width, (7, time_kernel), (2, 2)), nn.ReLU(), nn.MaxPool2d(3, 2, 1))


class Bottleneck(nn.Module):
    """Over time, over frequency with the stride, 1x1; residual. (B, C, F, T) -> (B, C', F/s, T)"""

    def __init__(self, inputs: int, inner: int, outputs: int, time_kernel: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            conv_norm(inputs, inner, (1, time_kernel)),
            nn.ReLU(),
            conv_norm(inner, inner, (3, 1), (stride, 1)),
            nn.ReLU(),
            conv_norm(inner, outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else conv_norm(inputs, outputs, stride=(stride, 1))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.main(x) + self.shortcut(x))


class Stage(nn.Module):
    """The fast pathway's maps go to the slow one; then both have their blocks."""

    def __init__(self, slow: int, fast: int, width: int, index: int) -> None:
        super().__init__()
        self.lateral = nn.Sequential(conv_norm(fast, FUSED * fast, (1, 7), (1, ALPHA)), nn.ReLU())
        self.slow = self.blocks(slow + FUSED * fast, width, TIME_KERNELS["slow"][index], index)
        self.fast = self.blocks(fast, width // BETA, TIME_KERNELS["fast"][index], index)

    @staticmethod
    def blocks(inputs: int, width: int, time_kernel: int, index: int) -> nn.Sequential:
        outputs = 4 * width
        first = Bottleneck(inputs, width, outputs, time_kernel, STRIDES[index])
        rest = [Bottleneck(outputs, width, outputs, time_kernel, stride=1) for _ in range(DEPTHS[index] - 1)]
        return nn.Sequential(first, *rest)

    def forward(self, slow: Tensor, fast: Tensor) -> tuple[Tensor, Tensor]:
        slow = torch.cat([slow, self.lateral(fast)], dim=1)  # (B, C + 2 C/8, F, T/4)
        return self.slow(slow), self.fast(fast)  # (B, 4 C', F/s, T/4), (B, 4 C'/8, F/s, T)


class SlowFast(nn.Module):
    """(B, 1, mel bands, frames) -> (B, classes)"""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.slow, self.fast = stem(width, 1), stem(width // BETA, 5)
        self.stages = nn.ModuleList()
        channels = width
        for index in range(len(DEPTHS)):
            self.stages.append(Stage(channels, channels // BETA, width * 2**index, index))
            channels = 4 * width * 2**index
        self.dropout = nn.Dropout(0.5)
        self.classify = nn.Linear(channels + channels // BETA, classes)

    def forward(self, x: Tensor) -> Tensor:
        slow, fast = self.slow(x[..., ::ALPHA]), self.fast(x)  # (B, C, F/4, T/16), (B, C/8, F/4, T/4)
        for stage in self.stages:
            slow, fast = stage(slow, fast)
        pooled = torch.cat([slow.mean(dim=(2, 3)), fast.mean(dim=(2, 3))], dim=1)  # (B, 32 C + 4 C)
        return self.classify(self.dropout(pooled))


CATALOG.add("slow_fast")(
    Entry(
        "Auditory Slow-Fast, papers 000 (Table 1) and 001 (Table II)",
        **VGG_SOUND,
        module=SlowFast,
        published={"train": printed(26.68, 5.55)},
    )
)
