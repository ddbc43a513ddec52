"""The experiment as data: `ExperimentSpec` is the YAML file, section by section.

Every default is the KT report's setting (paper 002, Section 2.1) unless a comment says otherwise.
Axes are (frequency, time) throughout; kernel sizes and strides are given in that order.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from system.config import Spec

Positive = Annotated[int, Field(ge=1)]
Pair = tuple[Positive, Positive]
LARGEST_SEED = 2**32 - 1  # of NumPy's older generators, by which scikit-learn splits


def _odd(value: tuple[int, int]) -> tuple[int, int]:
    if any(size % 2 == 0 for size in value):
        raise ValueError("both kernel sizes must be odd, so that a block keeps its map's size")
    return value


Share = Annotated[float, Field(gt=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Speed = Annotated[float, Field(ge=0.25, le=4)]

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
Masks = Annotated[int, Field(ge=0, le=1000)]
Longest = Annotated[int, Field(ge=0, le=1_000_000)]  # frames or bands
LearningRate = Annotated[float, Field(gt=0, le=1e30)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]


class DataSpec(Spec):
    """Which recordings, which of them are tested on, and how long a segment is."""

    dataset: str = "made"
    root: str | None = None
    fold: int = 1  # as the data set numbers them, from 0 too
    train_list: str | None = None  # of tau2022, in place of its own: a subset such as split25.csv of DCASE 2024
    segment_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.0
    # of the training fold, by source; 0: none. It is one of n parts, n the whole number nearest to 1 / share: 0.3 gives
    # a third and 0.4 a half; a class of fewer than n clips, if it is the largest, makes n smaller
    validation_share: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    silence_rms: Annotated[float, Field(ge=0)] = 1e-4  # segments of longer clips below this are padding
    device: str | None = None  # every part is of this device alone
    device_irs: str | None = None  # folder of microphone impulse responses: the device protocol
    skip_bad: bool = False  # leave damaged recordings out, counted, instead of refusing them
    refit: Literal["all"] | None = None  # all: trained on everything (system/refit.py); nothing is left to score


class FeatureSpec(Spec):
    """The log-mel front end. Names are torchaudio's; lengths are in samples."""

    sample_rate: Annotated[int, Field(ge=1, le=1_000_000)] = 22050
    n_fft: Annotated[int, Field(ge=1, le=2**17)] = 1024
    win_length: Positive = 882  # 40 ms
    hop_length: Positive = 441  # 20 ms
    n_mels: Annotated[int, Field(ge=1, le=4096)] = 80
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
    """What training does to its batches at random; an augmentation is off where its size or probability is 0.

    The defaults are the KT report's: SpecAugment (Park et al. 2019) alone. `system/augment` says what each one does.
    """

    time_masks: Masks = 2
    time_mask_frames: Longest = 2  # largest width; each is uniform
    frequency_masks: Masks = 2
    frequency_mask_bands: Longest = 8
    time_warp_frames: Longest = 0  # a frame moves by up to so many
    roll_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0  # to either side
    gain_db: Annotated[float, Field(ge=0)] = 0.0  # up or down
    mixup_alpha: Annotated[float, Field(ge=0, le=1000)] = 0.0  # of the Beta distribution of the weight
    mixstyle_p: Probability = 0.0  # Freq-MixStyle
    mixstyle_alpha: Annotated[float, Field(gt=0, le=1000)] = 0.3
    speed: tuple[Speed, Speed] = (1.0, 1.0)  # range of the length after / the length before
    random_crop: bool = False  # segments at any offset of the recordings they are cut from
    impulse_responses: str | None = None  # folder of recording devices to simulate
    impulse_response_p: Probability = 0.5

    @field_validator("speed")
    @classmethod
    def _range(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the slowest comes first")
        return value


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


class TrainSpec(Spec):
    """The recipe: optimizer, schedule of its learning rate, regularization. Named ones: `system/recipes.py`."""

    epochs: Positive = 30
    batch_size: Positive = 32
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of SGD; Adam's first beta
    learning_rate: LearningRate = 3e-3  # the highest of the schedule
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    decay_vectors: bool = True  # weight decay also of biases and of the gains of norms
    schedule: Literal["cosine", "one_cycle", "step", "plateau"] = "cosine"
    # None: min(5, epochs / 6), of one_cycle 0.3 x epochs; never more than half of the training
    warmup_epochs: Annotated[float, Field(ge=0)] | None = None
    milestones: tuple[Share, ...] = ()  # of step and plateau, in shares of the training
    milestone_factor: Annotated[float, Field(gt=0, lt=1)] = 0.1  # of the learning rate, at each milestone or the last
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average: Literal["none", "ema", "swa"] = "none"  # weights that are kept: the last, or a mean of those before them
    ema_decay: Share = 0.999  # per step
    swa_start: Share = 0.75  # share of the training after which each epoch's weights count
    frozen_norms: Literal["none", "all", "all_but_stem"] = "none"  # BatchNorm that keeps statistics and parameters

    @model_validator(mode="after")
    def _milestones_fit(self) -> TrainSpec:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones must rise, found {list(self.milestones)}")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule step needs milestones, such as [0.6, 0.8]")
        if self.schedule == "plateau" and len(self.milestones) != 2:
            raise ValueError("schedule plateau needs two milestones: where the learning rate begins and ends to fall")
        return self

    def warmup(self) -> float:
        """Epochs until the learning rate is at its highest."""
        usual = 0.3 * self.epochs if self.schedule == "one_cycle" else min(5.0, self.epochs / 6)
        return usual if self.warmup_epochs is None else min(self.warmup_epochs, self.epochs / 2)


class InitSpec(Spec):
    """Where a training starts: from fresh weights, or from those of another run, of other data or classes."""

    run: str | None = None  # a run folder or a model.safetensors (system/learning/pretrained.py)
    frozen: tuple[str, ...] = ()  # parts of the network that keep weights and statistics, such as stem or stages.0

    @model_validator(mode="after")
    def _weights_to_keep(self) -> InitSpec:
        if self.frozen and self.run is None:
            raise ValueError("frozen keeps the weights of another run: give it as run")
        return self


class DistillSpec(Spec):
    """Knowledge distillation (Hinton et al. 2015): the loss is (1 - weight) x that of the labels
    + weight x temperature^2 x the divergence from the teachers (system/learning/teachers.py).

    Temperature and weight are those of CP-JKU's code of 2023.
    """

    teachers: tuple[str, ...] = ()  # run folders, checkpoints, or files of logits: together an ensemble
    temperature: Temperature = 2.0
    weight: Probability = 0.98
    offsets: Positive = 4  # per segment, at which teachers listen where crops are random; between them interpolated


class QuantSpec(Spec):
    """Quantization-aware training: SGD for ten epochs (paper 002, Section 3), after calibration."""

    epochs: Annotated[int, Field(ge=0)] = 10
    batch_size: Positive = 32
    learning_rate: LearningRate = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    distill_weight: Probability = 0.0  # of the float model's answers in the loss, against all that training learns from
    distill_temperature: Temperature = 1.0
    # share of the training at whose end the ranges of activations, and statistics of norms, stay as they are
    frozen_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    calibration_segments: Positive = 512
    portable: bool = True  # the same integers on x86 without VNNI (quant/portable.py), for up to a bit of some weights
    weight_bits: Literal[4, 8] = 8
    layer_bits: dict[str, Literal[4, 8]] = Field(default_factory=dict)  # pattern of layer names -> bits; the first wins
    learned_scales: bool = False  # of weights, trained with them; else as large as the largest weight needs
    equalize: bool = False  # channels between convolutions (quant/equalize.py)
    correct_bias: bool = False  # after calibration (quant/bias_correction.py)
    opset: Annotated[int, Field(ge=13, le=20)] = 17

    def bits_of(self, layer: str) -> int:
        """Of each weight of a layer, by the layer's name."""
        fitting = (bits for pattern, bits in self.layer_bits.items() if fnmatchcase(layer, pattern))
        return next(fitting, self.weight_bits)

    def recipe(self, label_smoothing: float = 0.0) -> TrainSpec:
        """The training recipe of QAT: no warm-up, no weight decay."""
        return TrainSpec(
            label_smoothing=label_smoothing,
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
    init: InitSpec = InitSpec()
    distill: DistillSpec = DistillSpec()
    quant: QuantSpec = QuantSpec()
    budget: str | None = None
    view: Literal["strictest", "exact", "torchinfo"] = "strictest"  # how the budget's MACs are counted
    temperature: Temperature | None = None  # of the softmax; None: fitted on validation
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    provenance: dict[str, Any] | None = None  # written into run folders: versions, commit, data checksum

    def input_shape(self) -> tuple[int, int, int]:
        """(channels, mel bands, frames) of one segment."""
        return (1, self.features.n_mels, self.features.frames(self.data.segment_seconds))
