"""AudioRepInceptionNeXt (paper 001) and AudioInceptionNeXt (paper 000): the models, the ablation, members for a budget.

Published are parameters in millions and fvcore's count (convolutions, and 2 per output of BatchNorm) in units of 1e9,
both with two decimals, in the tables sometimes rounded and sometimes cut off. Shapes are (1, mel bands, frames).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from system.models.entry import CATALOG, Entry
from system.spec import ModelSpec, StageSpec

VGG_SOUND: dict[str, Any] = {"shape": (1, 128, 512), "classes": 309}  # 5.12 s
EPIC_SOUNDS: dict[str, Any] = {"shape": (1, 128, 416), "classes": 44}  # 2.08 s

B1 = ModelSpec(  # paper 001, Table I
    width=64,
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
    dropout=0.5,
    stages=(
        StageSpec(depth=3),
        StageSpec(depth=4, stride=(2, 2), ratio=2.0),
        StageSpec(depth=6, stride=(2, 2), ratio=4.0),
        StageSpec(depth=3, stride=(2, 2), ratio=8.0),
    ),
)
SMALL: dict[str, Any] = {  # ours: a network of this kind for a challenge
    "dropout": 0.3,
    "stages": (
        StageSpec(depth=2),
        StageSpec(depth=2, stride=(2, 2), ratio=1.6),
        StageSpec(depth=2, stride=(2, 2), ratio=2.4),
        StageSpec(depth=1, stride=(2, 2), ratio=3.2),
    ),
}


class Row(NamedTuple):
    """A line of paper 001: how it differs from B1, and what is printed before and after fusion."""

    table: str
    changes: dict[str, Any]
    before: tuple[float, float]  # millions of parameters, 1e9 of fvcore
    after: tuple[float, float]
    remark: str = ""


NO_BIAS = "printed after fusion: 7,552 parameters less than the fused kernels and their biases have"
ROWS: dict[str, Row] = {
    "b0": Row(
        "Table II", {"width": 32}, (2.18, 0.49), (2.11, 0.46),
        "not reachable: the widths, depths and expansions of Table I give 0.91 million parameters more; what fusion "
        "saves agrees, so the difference is in 1x1 convolutions",
    ),
    "b1": Row("Tables II and VI (s6)", {}, (11.83, 2.62), (11.69, 2.55)),
    "b1_2d": Row("Table II", {"block": "rep_inception_2d"}, (13.70, 3.52), (13.19, 3.27)),
    "b1_s1": Row("Table VI", {"branches": (3,)}, (11.56, 2.49), (11.54, 2.48), NO_BIAS),
    "b1_s2": Row("Table VI", {"branches": (11,)}, (11.62, 2.52), (11.60, 2.51), NO_BIAS),
    "b1_s3": Row("Table VI", {"branches": (21,)}, (11.69, 2.55), (11.68, 2.55), NO_BIAS),
    "b1_s4": Row("Table VI", {"branches": (3, 21)}, (11.73, 2.57), (11.69, 2.55)),
    "b1_s5": Row("Table VI", {"branches": (11, 21)}, (11.79, 2.60), (11.69, 2.55)),
    "b1_s7": Row(
        "Table VI", {"branches": (3, 11, 21, 31)}, (12.08, 2.74), (11.69, 2.55),
        "printed after fusion are the numbers of a largest kernel of 21; one of 31 leaves 11.77 and 2.59",
    ),
    "b1_s8": Row("Table VI", {"block": "rep_inception_plain"}, (11.83, 2.62), (11.69, 2.55)),
    "b1_s9": Row(
        "Table VI", {"block": "rep_inception_flat"}, (3.02, 0.73), (2.85, 0.65),
        "3.02 before fusion is 3.00 here; the other three numbers agree",
    ),
}  # fmt: skip

# Table II: clips per second before and after fusion, on an NVIDIA RTX 3090 and on one thread of a Xeon Gold 6226R
THROUGHPUT: dict[str, dict[str, tuple[float, float]]] = {
    "audio_rep_inception_b0": {"cuda": (1399, 2245), "cpu": (11.80, 16.40)},
    "audio_rep_inception_b1_2d": {"cuda": (529, 666), "cpu": (0.91, 0.95)},
    "audio_rep_inception_b1": {"cuda": (700, 1019), "cpu": (6.10, 7.50)},
}


def printed(params: float, fvcore: float) -> dict[str, int]:
    return {"params": round(params * 1e6), "macs_fvcore": round(fvcore * 1e9)}


for name, row in ROWS.items():
    CATALOG.add(f"audio_rep_inception_{name}")(
        Entry(
            f"AudioRepInceptionNeXt, paper 001, {row.table}",
            **VGG_SOUND,
            spec=B1.changed(**row.changes),
            published={"train": printed(*row.before), "merged": printed(*row.after)},
            remark=row.remark,
        )
    )

CATALOG.add("audio_rep_inception_b1_epic")(
    Entry(
        "AudioRepInceptionNeXt on EPIC-SOUNDS, paper 001, Table III",
        **EPIC_SOUNDS,
        spec=B1,
        published={"merged": printed(11.55, 2.07)},
    )
)
# Its expansion and projection are one convolution when deployed: 11.83 million parameters become 2.97.
CATALOG.add("audio_inception")(
    Entry(
        "AudioInceptionNeXt, paper 000, Table 1",
        **VGG_SOUND,
        spec=B1.changed(block="inception"),
        published={"train": printed(11.83, 2.62)},
    )
)
CATALOG.add("audio_rep_inception_128k")(
    Entry(
        "AudioRepInceptionNeXt (paper 001) at challenge size",
        shape=(1, 256, 65),
        spec=B1.changed(width=20, **SMALL),
    )
)
CATALOG.add("audio_inception_128k")(
    Entry(
        "AudioInceptionNeXt (paper 000) at challenge size",
        shape=(1, 256, 65),
        spec=B1.changed(width=36, block="inception", **SMALL),
    )
)
