"""Published networks as specs, by name; each says where its numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

from system.registry import Registry
from system.spec import ModelSpec, StageSpec

CATALOG: Registry[ModelSpec] = Registry("model")


@dataclass(frozen=True)
class Published:
    """What a paper or an official README states, and for which input."""

    shape: tuple[int, int, int]  # (channels, mel bands, frames)
    classes: int
    counts: dict[str, int]


PUBLISHED = {"dcase2024_baseline": Published((1, 256, 65), 10, {"params": 61_148, "macs_torchinfo": 29_419_156})}

# KT, DCASE 2022, last row of Table 1: stem 5x5 with stride 2 over frequency, inverted bottleneck E = 2 with kernel 5,
# Swish in the middle only, ResNorm, attentive pooling, BatchNorm + strided convolution between stages.
CATALOG.add("kt_final")(
    ModelSpec(
        width=18,
        width_multiple=2,
        activations_kept=("depthwise",),
        stages=(
            StageSpec(depth=2),
            StageSpec(depth=2, stride=(2, 2), ratio=2.0),
            StageSpec(depth=2, stride=(2, 2), ratio=4.0),
        ),
    )
)

# DCASE 2024/25 baseline: 61,148 parameters, 29,416,448 MACs at 1x256x65.
CATALOG.add("dcase2024_baseline")(
    ModelSpec(
        width=32,
        width_multiple=8,
        stem="double_conv",
        stem_kernel=(3, 3),
        stem_stride=(2, 2),
        block="inverted",
        kernel_size=(3, 3),
        expansion=2.1,
        shortcut="identity",
        activation="relu",
        norm="batch",
        downsampling="strided",
        pooling="average",
        head="conv",
        dropout=0.0,
        stages=(
            StageSpec(depth=2),
            StageSpec(depth=1, stride=(1, 2)),
            StageSpec(depth=2, stride=(2, 1), ratio=1.8),
            StageSpec(depth=1, ratio=3.24),
        ),
    )
)

# AudioRepInceptionNeXt (paper 001) at challenge size.
CATALOG.add("audio_rep_inception_128k")(
    ModelSpec(
        width=20,
        stem="conv_pool",
        stem_kernel=(7, 5),
        stem_stride=(2, 2),
        block="rep_inception",
        branches=(3, 11, 21),
        expansion=4.0,
        activation="relu",
        norm="batch",
        downsampling="strided",
        pooling="average",
        stages=(
            StageSpec(depth=2),
            StageSpec(depth=2, stride=(2, 2), ratio=1.6),
            StageSpec(depth=2, stride=(2, 2), ratio=2.4),
            StageSpec(depth=1, stride=(2, 2), ratio=3.2),
        ),
    )
)
