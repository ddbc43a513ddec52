"""Reference networks of the challenges, which ours are compared with."""

from __future__ import annotations

from system.models.entry import CATALOG, Entry
from system.spec import ModelSpec, StageSpec

DCASE2024_BASELINE = ModelSpec(
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

CATALOG.add("dcase2024_baseline")(
    Entry(
        "DCASE 2024 and 2025 Task 1 baseline, README of the official repository",
        shape=(1, 256, 65),
        spec=DCASE2024_BASELINE,
        published={"train": {"params": 61_148, "macs_torchinfo": 29_419_156}},
    )
)
