"""The sections `train`, `init` and `distill`: how weights are trained, where they start, who else teaches them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from system.config import Spec
from system.spec.bounds import LearningRate, Positive, Probability, Temperature

Share = Annotated[float, Field(gt=0, lt=1)]


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
