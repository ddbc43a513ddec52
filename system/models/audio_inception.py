"""AudioRepInceptionNeXt (paper 001) and AudioInceptionNeXt (paper 000)."""

from __future__ import annotations

from system.models.entry import CATALOG, Entry
from system.spec import ModelSpec, StageSpec

AUDIO_REP_INCEPTION_128K = ModelSpec(
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

CATALOG.add("audio_rep_inception_128k")(
    Entry("AudioRepInceptionNeXt (paper 001) at challenge size", shape=(1, 256, 65), spec=AUDIO_REP_INCEPTION_128K)
)
