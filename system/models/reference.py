"""Challenge baselines and what others entered in challenges, which ours are compared with.

Counts are of the authors' own classes, run by the official counter, where no report prints them.
"""

from __future__ import annotations

from typing import Any

from system.models import kt  # noqa: F401 (its first row is the DCASE 2022 baseline)
from system.models.audio_inception import VGG_SOUND, printed
from system.models.entry import CATALOG, Entry, model_spec
from system.spec import ModelSpec, StageSpec

CATALOG.add("dcase2022_baseline")(
    Entry(
        "DCASE 2022 and 2023 Task 1 baseline: train form as in Table 1 of KT, deployed as in the official README",
        shape=(1, 40, 51),
        spec=model_spec("kt_baseline"),
        published={
            "train": {"params": 46_118, "macs_torchinfo": 29_271_638},
            "deploy": {"macs_nessi_tflite": 29_234_920},
        },
        remark="the README's 46,512 parameters are bytes of the INT8 file, biases at four each; NeSsi counts its two "
        "poolings 3,200 lower",
    )
)

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

CP_MOBILE = DCASE2024_BASELINE.changed(
    block="cp_mobile",
    expansion=3.0,
    norm="grn",
    stages=(
        StageSpec(depth=1),
        StageSpec(depth=2, stride=(2, 2)),
        StageSpec(depth=2, stride=(2, 1), ratio=2.3),
        StageSpec(depth=1, ratio=5.29),
    ),
)
CATALOG.add("cp_mobile")(
    Entry(
        "CP-Mobile (Schmid et al., DCASE 2023), the class of the authors with its default settings",
        shape=(1, 256, 64),  # pre-emphasis costs one frame; with it the network would exceed 30 million MACs
        spec=CP_MOBILE,
        published={"train": {"params": 126_952, "macs_torchinfo": 28_893_268}},
    )
)

# Receptive-field regularization rho = 8: kernels 3x3 until the field is wide enough, 1x1 after.
CP_RESNET_C32 = ModelSpec(
    width=32,
    stem="conv",
    stem_kernel=(5, 5),
    stem_stride=(2, 2),
    stem_padding=(1, 1),
    block="basic",
    kernel_size=(3, 3),
    activation="relu",
    norm="batch",
    downsampling="pool",
    pooling="average",
    head="conv",
    dropout=0.0,
    stages=(
        StageSpec(stride=(2, 2), second_kernel=(1, 1)),
        StageSpec(stride=(2, 1)),
        StageSpec(stride=(2, 1), ratio=2.0, groups=2),
        StageSpec(ratio=2.875, second_kernel=(1, 1)),
    ),
)
CATALOG.add("cp_resnet_c32")(
    Entry(
        "CP-ResNet (Schmid et al., DCASE 2022), the class of the authors with the settings of their submissions",
        shape=(1, 256, 43),
        spec=CP_RESNET_C32,
        published={"train": {"params": 127_684, "macs_exact": 28_839_120}},
    )
)


def bc_resnet(tau: int) -> ModelSpec:
    """BC-ResNet-tau (Kim et al., Interspeech 2021, Table 1)."""
    width = 8 * tau
    return ModelSpec(
        width=width,
        width_multiple=4,
        stem="conv",
        stem_kernel=(5, 5),
        stem_stride=(2, 1),
        stem_ratio=2.0,
        block="broadcast",
        kernel_size=(3, 3),
        sub_bands=5,
        block_dropout=0.1,
        activation="relu",
        norm="batch",
        downsampling="strided",
        head="collapse",
        head_width=4 * width,
        dropout=0.0,
        stages=(
            StageSpec(depth=2),
            StageSpec(depth=2, stride=(2, 1), ratio=1.5, dilation=2),
            StageSpec(depth=4, stride=(2, 1), ratio=2.0, dilation=4),
            StageSpec(depth=4, ratio=2.5, dilation=8),
        ),
    )


SPEECH_COMMANDS: dict[str, Any] = {"shape": (1, 40, 101), "classes": 12}  # a second: 16 kHz, hop 10 ms
for tau, params in {1: 9_232, 2: 27_284, 3: 54_168, 6: 187_812, 8: 321_068}.items():
    CATALOG.add(f"bc_resnet_{tau}")(
        Entry(
            f"BC-ResNet-{tau} (Kim et al., Interspeech 2021), the class of the authors",
            **SPEECH_COMMANDS,
            spec=bc_resnet(tau),
            published={"train": {"params": params}},
        )
    )
    CATALOG.add(f"bc_resnet_{tau}_resnorm")(
        Entry(
            f"BC-ResNet-{tau} with residual normalization after each stage (Kim et al., DCASE 2021)",
            **SPEECH_COMMANDS,
            spec=bc_resnet(tau).changed(norm="resnorm"),
        )
    )
CATALOG.add("bc_resnet_8_vgg_sound")(
    Entry(
        "BC-ResNet-8, paper 001, Table II",
        **VGG_SOUND,
        spec=bc_resnet(8).changed(sub_bands=4),
        published={"train": printed(0.39, 1.45)},
        remark="the sub-bands are not published: five do not divide 128 mel bands, four do; fvcore counts a mean over "
        "frequency if it is a pooling module, and here it is not one",
    )
)
