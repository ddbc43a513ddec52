"""PANNs' CNN6 and CNN14, and the variants with depthwise convolutions (paper 004, Section 4, Tables 1 and 2).

All read 64 mel bands of ten seconds, 1001 frames (32 kHz, hop 320), and give logits of AudioSet's 527 classes. The
layers are those of the authors' classes: an average pooling and a dropout of 0.2 after each block but where said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from system.models.entry import CATALOG, Entry
from system.models.layers import mean_and_max
from system.models.norms import LayerNorm2d

SHAPE, AUDIOSET = (1, 64, 1001), 527
CNN6_WIDTHS = (64, 128, 256, 512)
CNN14_WIDTHS = (64, 128, 256, 512, 1024, 2048)


class Panns(nn.Module):
    """BatchNorm over mel bands, blocks, pooling, two linear layers.

    (B, 1, mel bands, frames) log-mel -> (B, classes) logits
    """

    def __init__(self, blocks: Sequence[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.band_norm = nn.BatchNorm2d(SHAPE[1])
        self.blocks = nn.Sequential(*blocks)
        self.hidden = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, width), nn.ReLU())
        self.classify = nn.Sequential(nn.Dropout(0.5), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.band_norm(x.transpose(1, 2)).transpose(1, 2)  # (B, 1, F, T), bands as channels inside
        x = mean_and_max(self.blocks(x)).flatten(1)  # (B, C)
        return self.classify(self.hidden(x))  # (B, classes)


def convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def pooled(layers: Sequence[nn.Module], pool: int = 2) -> nn.Module:
    return nn.Sequential(*layers, nn.AvgPool2d(pool) if pool > 1 else nn.Identity(), nn.Dropout(0.2))


def next_block(inputs: int, outputs: int) -> list[nn.Module]:
    """Table 2: depthwise 7x7 of multiplier outputs / inputs, LayerNorm, 1x1 to 4 C, GELU, 1x1; no residual."""
    return [
        nn.Conv2d(inputs, outputs, 7, padding=3, groups=inputs),
        LayerNorm2d(outputs, eps=1e-6),
        nn.Conv2d(outputs, 4 * outputs, 1),
        nn.GELU(),
        nn.Conv2d(4 * outputs, outputs, 1),
    ]


def pairs(widths: Sequence[int]) -> list[tuple[int, int]]:
    """(inputs, outputs) of each block."""
    return list(zip((1, *widths), widths, strict=False))


def cnn6(classes: int) -> nn.Module:
    """One 5x5 convolution per block."""
    return Panns([pooled(convolution(i, o, 5)) for i, o in pairs(CNN6_WIDTHS)], CNN6_WIDTHS[-1], classes)


def cnn6next(classes: int) -> nn.Module:
    """Table 2 to the letter: the last block is not pooled before the global pooling."""
    blocks = [pooled(next_block(i, o), 1 if o == CNN6_WIDTHS[-1] else 2) for i, o in pairs(CNN6_WIDTHS)]
    return Panns(blocks, CNN6_WIDTHS[-1], classes)


def cnn6next_repo(classes: int) -> nn.Module:
    """The authors' class of that name: a 4x4 stem of stride 2 with LayerNorm in place of the first block."""
    stem = nn.Sequential(nn.Conv2d(1, CNN6_WIDTHS[0], 4, stride=2), LayerNorm2d(CNN6_WIDTHS[0], eps=1e-6))
    blocks = [pooled(next_block(i, o)) for i, o in pairs(CNN6_WIDTHS)[1:]]
    return Panns([stem, *blocks], CNN6_WIDTHS[-1], classes)


def cnn14(classes: int, depthwise: bool = False) -> nn.Module:
    """Two 3x3 convolutions per block; the last block is not pooled."""
    blocks = [
        pooled(
            [*convolution(i, o, 3), *convolution(o, o, 3, groups=o if depthwise else 1)],
            1 if o == CNN14_WIDTHS[-1] else 2,
        )
        for i, o in pairs(CNN14_WIDTHS)
    ]
    return Panns(blocks, CNN14_WIDTHS[-1], classes)


def cnn14sep(classes: int) -> nn.Module:
    """The second convolution of each block is depthwise, with no 1x1 after it (Section 4.1)."""
    return cnn14(classes, depthwise=True)


# macs_exact is what Table 3 prints as FLOPs
PUBLISHED: dict[Callable[[int], nn.Module], tuple[dict[str, int], str]] = {
    cnn6: ({"params": 4_837_455}, ""),
    cnn6next: ({"params": 3_300_000}, "the 3.3 M of Table 1 are the authors' class, not the layout of Table 2"),
    cnn6next_repo: ({"params": 3_300_000}, ""),
    cnn14: (
        {"params": 80_753_615, "macs_exact": 21_200_000_000},
        "the published 21.2 G also hold the front end: 1.052 G of the Fourier transform, 0.033 G of the mel filters",
    ),
    cnn14sep: ({"params": 30_470_543}, ""),
}
for make, (numbers, remark) in PUBLISHED.items():
    CATALOG.add(make.__name__)(
        Entry(
            "ConvNeXt for audio (paper 004), Tables 1 to 3; parameters by the authors' classes",
            shape=SHAPE,
            classes=AUDIOSET,
            module=make,
            published={"train": numbers},
            remark=remark,
        )
    )
