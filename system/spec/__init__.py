"""The experiment as data: `ExperimentSpec` is the YAML file, and each of its sections a module beside this one.

Every default is the KT report's setting (paper 002, Section 2.1) unless a comment says otherwise.
Axes are (frequency, time) throughout; kernel sizes and strides are given in that order.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from system.config import Spec
from system.spec.augment import AugmentSpec
from system.spec.bounds import Temperature
from system.spec.data import DataSpec
from system.spec.features import FeatureSpec
from system.spec.model import ModelSpec, StageSpec
from system.spec.quant import QuantSpec
from system.spec.train import DistillSpec, InitSpec, TrainSpec

__all__ = [
    "AugmentSpec",
    "DataSpec",
    "DistillSpec",
    "ExperimentSpec",
    "FeatureSpec",
    "InitSpec",
    "ModelSpec",
    "QuantSpec",
    "StageSpec",
    "TrainSpec",
]

LARGEST_SEED = 2**32 - 1  # of NumPy's older generators, by which scikit-learn splits


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

    def segment_samples(self) -> int:
        """Samples of one segment."""
        return round(self.data.segment_seconds * self.features.sample_rate)
