"""The experiment as data: `ExperimentSpec` is the YAML file, section by section.

Every default is the KT report's setting (paper 002, Section 2.1) unless a comment says otherwise.
Axes are (frequency, time) throughout; kernel sizes and strides are given in that order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from system.config import Spec

Positive = Annotated[int, Field(ge=1)]
Pair = tuple[Positive, Positive]
Share = Annotated[float, Field(gt=0, lt=1)]


class DataSpec(Spec):
    """Which recordings, which of them are tested on, and how long a segment is."""

    dataset: str = "made"
    root: str | None = None
    fold: Positive = 1
    segment_seconds: Annotated[float, Field(gt=0)] = 1.0
    validation_share: Share = 0.2  # of the training fold, whole sources or locations
    silence_rms: Annotated[float, Field(ge=0)] = 1e-4  # segments of longer clips below this are padding
    device_irs: str | None = None  # folder of microphone impulse responses: the device protocol
    skip_bad: bool = False  # leave damaged recordings out, counted, instead of refusing them


class FeatureSpec(Spec):
    """The log-mel front end. Names are torchaudio's; lengths are in samples."""

    sample_rate: Positive = 22050
    n_fft: Positive = 1024
    win_length: Positive = 882  # 40 ms
    hop_length: Positive = 441  # 20 ms
    n_mels: Positive = 80
    f_min: Annotated[float, Field(ge=0)] = 0.0
    f_max: float | None = None  # None: half the sample rate
    log_floor: Annotated[float, Field(gt=0)] = 1e-5  # added to the mel power before the natural logarithm

    @model_validator(mode="after")
    def _windows_fit(self) -> FeatureSpec:
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length must be at most n_fft ({self.n_fft}), found win_length {self.win_length}")
        top = self.f_max if self.f_max is not None else self.sample_rate / 2
        if not self.f_min < top <= self.sample_rate / 2:
            raise ValueError(
                f"0 <= f_min < f_max <= sample_rate / 2 must hold, found {self.f_min:g}, {top:g} and "
                f"{self.sample_rate / 2:g}"
            )
        return self

    def frames(self, seconds: float) -> int:
        """Frames of a segment: centred windows, one more than whole hops."""
        return round(seconds * self.sample_rate) // self.hop_length + 1


class AugmentSpec(Spec):
    """SpecAugment (Park et al. 2019): masks of uniform width up to the given size, in training only."""

    time_masks: Annotated[int, Field(ge=0)] = 2
    time_mask_frames: Annotated[int, Field(ge=0)] = 2
    frequency_masks: Annotated[int, Field(ge=0)] = 2
    frequency_mask_bands: Annotated[int, Field(ge=0)] = 8


class StageSpec(Spec):
    """A run of blocks of one width; its stride acts on entry."""

    depth: Positive = 1
    stride: Pair = (1, 1)
    ratio: Annotated[float, Field(gt=0)] = 1.0  # width of this stage = ratio x ModelSpec.width, rounded


class ModelSpec(Spec):
    """A staged convolutional network: stem, stages of blocks, pooling, classifier.

    `width` is what the budget solves for; everything else is a choice.
    """

    width: Positive = 16
    width_multiple: Positive = 4
    stem: str = "conv"
    stem_kernel: Pair = (5, 5)
    stem_stride: Pair = (2, 1)
    block: str = "inverted"
    kernel_size: Pair = (5, 5)  # depthwise kernel of the inverted block
    branches: tuple[int, ...] = (3, 11, 21)  # parallel depthwise kernels of the re-parameterized block
    expansion: Annotated[float, Field(ge=0.25, le=16)] = 2.0
    shortcut: Literal["project", "identity"] = "project"  # 1x1 where the shape changes, or none there
    activation: str = "silu"
    activations_kept: tuple[str, ...] | None = None  # slots of the block that keep theirs; None: all
    norm: str = "resnorm"
    downsampling: Literal["pool", "strided", "separate"] = "separate"
    pooling: str = "attentive"
    head: str = "linear"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    stages: Annotated[tuple[StageSpec, ...], Field(min_length=1)] = (
        StageSpec(depth=2),
        StageSpec(depth=2, stride=(2, 2), ratio=2.0),
        StageSpec(depth=2, stride=(4, 2), ratio=3.0),
    )

    @field_validator("kernel_size")
    @classmethod
    def _odd_kernel(cls, value: Pair) -> Pair:
        if any(size % 2 == 0 for size in value):
            raise ValueError("both kernel sizes must be odd, so that a block keeps its map's size")
        return value

    @field_validator("branches")
    @classmethod
    def _odd_branches(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(set(value)) != len(value) or any(size < 1 or size % 2 == 0 for size in value):
            raise ValueError("branch kernels must be different odd numbers")
        return value

    def widths(self) -> tuple[int, ...]:
        """Channels of each stage, rounded to `width_multiple`."""
        return tuple(self.rounded(self.width * stage.ratio) for stage in self.stages)

    def rounded(self, channels: float) -> int:
        """The nearest multiple of `width_multiple`, never below 90 % of `channels` (MobileNet's rule)."""
        step = self.width_multiple
        near = max(step, int(channels + step / 2) // step * step)
        return near + step if near < 0.9 * channels else near


class TrainSpec(Spec):
    """The recipe: linear warm-up to `learning_rate`, then a cosine to zero."""

    epochs: Positive = 30
    batch_size: Positive = 32
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of SGD; AdamW's first beta
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None  # None: min(5, epochs / 6)

    def warmup(self) -> float:
        return min(5.0, self.epochs / 6) if self.warmup_epochs is None else self.warmup_epochs


class QuantSpec(Spec):
    """Quantization-aware training: SGD for ten epochs (paper 002, Section 3), after calibration."""

    epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    calibration_segments: Positive = 512
    opset: Annotated[int, Field(ge=13, le=20)] = 17

    def recipe(self) -> TrainSpec:
        """The training recipe of QAT: no warm-up, no weight decay."""
        return TrainSpec(
            epochs=max(1, self.epochs),
            batch_size=self.batch_size,
            optimizer="sgd",
            momentum=self.momentum,
            learning_rate=self.learning_rate,
            weight_decay=0.0,
            warmup_epochs=0.0,
        )


class ExperimentSpec(Spec):
    """One experiment, whole: what `system/configs/*.yaml` and a run's `config.yaml` hold."""

    data: DataSpec = DataSpec()
    features: FeatureSpec = FeatureSpec()
    augment: AugmentSpec = AugmentSpec()
    model: ModelSpec = ModelSpec()
    train: TrainSpec = TrainSpec()
    quant: QuantSpec = QuantSpec()
    budget: str | None = None
    view: Literal["strictest", "exact", "torchinfo"] = "strictest"  # how the budget's MACs are counted
    seed: Annotated[int, Field(ge=0)] = 0
    provenance: dict[str, Any] | None = None  # written into run folders: versions, commit, data checksum

    def input_shape(self) -> tuple[int, int, int]:
        """(channels, mel bands, frames) of one segment."""
        return (1, self.features.n_mels, self.features.frames(self.data.segment_seconds))
