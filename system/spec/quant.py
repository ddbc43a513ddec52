"""The section `quant`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field

from system.config import Spec
from system.spec.bounds import LearningRate, Positive, Probability, Temperature
from system.spec.train import TrainSpec


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
