"""The section `model`: a network as data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from system.config import Spec
from system.spec.bounds import Positive


def _odd(value: tuple[int, int]) -> tuple[int, int]:
    if any(size % 2 == 0 for size in value):
        raise ValueError("both kernel sizes must be odd, so that a block keeps its map's size")
    return value


Pair = tuple[Positive, Positive]
# far beyond anything of use, so that a slip of the pen is refused in place of filling the memory or a float
MOST_CHANNELS = 8192
Channels = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
MOST_BLOCKS = 1000  # of all stages together
Blocks = Annotated[int, Field(ge=1, le=MOST_BLOCKS)]
Taps = Annotated[int, Field(ge=1, le=1001)]  # of a kernel along one axis: ten seconds of 10 ms
Kernel = tuple[Taps, Taps]
OddKernel = Annotated[Kernel, AfterValidator(_odd)]
Dilation = Annotated[int, Field(ge=1, le=100)]
Ratio = Annotated[float, Field(gt=0, le=1000)]
Padding = Annotated[int, Field(ge=0, le=100)]


class StageSpec(Spec):
    """A run of blocks of one width; its stride acts on entry."""

    depth: Blocks = 1
    stride: Pair = (1, 1)
    ratio: Ratio = 1.0  # width of this stage = ratio x ModelSpec.width, rounded
    # of the blocks that have such a convolution; None: the model's
    second_kernel: OddKernel | None = None
    groups: Positive | None = None
    dilation: Dilation | None = None


class ModelSpec(Spec):
    """A staged convolutional network: stem, stages of blocks, pooling, classifier.

    `width` is what the budget solves for; everything else is a choice.
    """

    module: str | None = None  # a network of the catalogue that the fields below cannot say, in their place: a teacher
    width: Channels = 16
    width_multiple: Channels = 4
    band_norm: bool = False  # BatchNorm of each mel band before the stem
    stem: str = "conv"
    stem_kernel: Kernel = (5, 5)
    stem_stride: Pair = (2, 1)
    stem_padding: tuple[Padding, Padding] | None = None  # None: half the kernel
    stem_ratio: Ratio = 1.0  # width of the stem = ratio x width of the first stage
    block: str = "inverted"
    kernel_size: OddKernel = (5, 5)  # of a block, over its map: depthwise where it has such a convolution
    second_kernel: OddKernel | None = None  # of the basic block's second convolution; None: kernel_size
    groups: Positive = 1  # of the basic block's convolutions
    dilation: Dilation = 1  # over time, of the broadcast block
    sub_bands: Positive = 5  # of the broadcast block's sub-spectral normalization
    block_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of whole channels, in the broadcast block
    branches: tuple[Taps, ...] = (3, 11, 21)  # parallel depthwise kernels of the re-parameterized block
    expansion: Annotated[float, Field(ge=0.25, le=16)] = 2.0
    shortcut: Literal["project", "identity"] = "project"  # 1x1 where the shape changes, or none there
    conv_bias: bool = False  # of the stem and plain convolutions, beside BatchNorm's own (DCASE 2022 baseline)
    activation: str = "silu"
    activations_kept: tuple[str, ...] | None = None  # slots of the block that keep theirs; None: all
    norm: str = "resnorm"
    norm_after: tuple[Literal["stem", "block", "stage"], ...] = ("stage",)  # where blocks do not hold it themselves
    layer_scale: Ratio | None = None  # start of the ConvNeXt block's last gain per channel
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0  # of the last block, rising from 0; in training only
    downsampling: Literal["pool", "strided", "separate"] = "separate"
    pooling: str = "attentive"
    pool_bands: Positive = 4  # neighbouring bands that the pooling `max` joins
    head: str = "linear"
    head_width: Channels = 100  # units of the heads `hidden` and `collapse`
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3  # before the classifier; in the head `conv` of whole channels
    stage_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # after each downsampling but a strided one (DCASE 2022)
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1)] = (
        StageSpec(depth=2),
        StageSpec(depth=2, stride=(2, 2), ratio=2.0),
        StageSpec(depth=2, stride=(4, 2), ratio=3.0),
    )

    @field_validator("branches")
    @classmethod
    def _odd_branches(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or any(size % 2 == 0 for size in value):
            raise ValueError("branch kernels must be different odd numbers")
        return value

    @field_validator("norm_after")
    @classmethod
    def _each_place_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError("each place must be named once, and at least one")
        return value

    @field_validator("stages")
    @classmethod
    def _not_too_deep(cls, value: tuple[StageSpec, ...]) -> tuple[StageSpec, ...]:
        if (blocks := sum(stage.depth for stage in value)) > MOST_BLOCKS:
            raise ValueError(f"together they must have at most {MOST_BLOCKS} blocks, their depths sum to {blocks}")
        return value

    @model_validator(mode="after")
    def _not_too_wide(self) -> ModelSpec:
        if (widest := max(self.stem_width(), *self.widths())) > MOST_CHANNELS:
            raise ValueError(f"stem and stages must have at most {MOST_CHANNELS} channels, width x ratio is {widest}")
        return self

    def in_stage(self, stage: StageSpec) -> ModelSpec:
        """The specification as one stage's blocks read it."""
        own = {key: getattr(stage, key) for key in ("second_kernel", "groups", "dilation")}
        changes = {key: value for key, value in own.items() if value is not None}
        return self.model_copy(update=changes) if changes else self

    def stem_width(self) -> int:
        return self.rounded(self.widths()[0] * self.stem_ratio)

    def widths(self) -> tuple[int, ...]:
        """Channels of each stage, rounded to `width_multiple`."""
        return tuple(self.rounded(self.width * stage.ratio) for stage in self.stages)

    def rounded(self, channels: float) -> int:
        """The nearest multiple of `width_multiple`, never below 90 % of `channels` (MobileNet's rule)."""
        step = self.width_multiple
        near = max(step, int(channels + step / 2) // step * step)
        return near + step if near < 0.9 * channels else near
