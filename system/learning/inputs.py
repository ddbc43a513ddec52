"""From a batch of the training data to what the network reads: augmented, standardized features and their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from system.augment.table import AUGMENTATIONS, Around, Batch, augmented, reads_samples
from system.augment.waveform import Devices
from system.data.devices import before_peak, load_training_responses
from system.data.recordings import Recordings
from system.dataset import PreparedData
from system.features import LogMel
from system.learning.batches import FeatureBatches, SampleBatches, standardized
from system.learning.objectives import TASKS
from system.learning.teachers import teachers_of
from system.spec import ExperimentSpec

CLIPS_AT_ONCE = 8
"""On a CPU: larger buffers go back to the system after each use, and fetching them again takes half of the time."""


class Learned(NamedTuple):
    """What a training step is made of."""

    x: Tensor  # (B, 1, F, T)
    target: Tensor  # (B, classes)
    taught: Tensor | None  # (B, classes), the teachers' shares at their temperature


class Inputs(nn.Module):
    """Augmentation and standardization; with `devices` and `front_end` it reads samples, else log-mel features."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, spec: ExperimentSpec, task: str, classes: int, mean: np.ndarray, std: np.ndarray,
        front_end: LogMel | None = None, devices: Devices | None = None, own_devices: int = 0,
    ) -> None:  # fmt: skip
        """`devices`: first the `own_devices` of the data set, then those that are drawn at random."""
        super().__init__()
        self.spec, self.task, self.classes, self.own_devices = spec, TASKS[task], classes, own_devices
        self.front_end, self.devices = front_end, devices
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))

    def forward(self, batch: Sequence[Tensor]) -> Learned:
        """(features (B, F, T), label) or (samples, device, label), and teachers' logits if there are any"""
        batch, logits = (batch[:-1], batch[-1]) if self.spec.distill.teachers else (batch, None)
        *data, label = batch
        drawn = 0 if self.devices is None else len(self.devices.spectra) - self.own_devices
        around = Around(self.spec, self.mean, self.own_devices + 1, drawn)
        taught = None if logits is None else self.task.shares(logits, self.spec.distill.temperature)
        seen = Batch(data[0], self.task.target(label, self.classes), *data[1:])._replace(taught=taught)
        if self.front_end is not None:
            seen = augmented(seen, "waveform", around)
            seen = seen._replace(x=self.heard(seen))
        seen = augmented(seen, "spectrogram", around)
        return Learned(self.standardized(seen.x), seen.target, seen.taught)

    def heard(self, batch: Batch) -> Tensor:
        """(B, samples) through its devices -> (B, F, T)"""
        assert self.front_end is not None
        assert batch.device is not None
        x = batch.x if self.devices is None else self.devices(batch.x, batch.device)
        at_once = CLIPS_AT_ONCE if x.device.type == "cpu" else len(x)
        return torch.cat([self.front_end(some) for some in x.split(at_once)])

    def standardized(self, features: Tensor) -> Tensor:
        return standardized(features, self.mean, self.std)


def training_data(
    spec: ExperimentSpec, data: PreparedData, mean: np.ndarray, std: np.ndarray, epoch: Callable[[], int],
    device: str = "cpu", alone: bool = True,
) -> tuple[Dataset, Inputs]:  # fmt: skip
    """The batches that the augmentations of `spec` need, and what makes inputs of them; `epoch` says which one runs.

    Teachers are asked on `device`, if they were not before; a process that trains `alone` keeps features there. Raises
    DataError for impulse responses that cannot be used, crops where labels are those of segments, and what
    `teachers_of` refuses.
    """
    teachers = teachers_of(spec, data, device)
    shared = (spec, data.task, len(data.classes), mean, std)
    if not reads_samples(spec.augment):
        return FeatureBatches(data.train, teachers, device if alone else "cpu"), Inputs(*shared)
    recordings = data.recordings
    if recordings is None:
        raise ValueError("augmentation of samples: the prepared data has features only")
    kept = device if alone else "cpu"
    batches = SampleBatches(recordings, data.train, spec.augment.random_crop, spec.seed, epoch, teachers, kept)
    devices = _devices(spec, recordings)
    return batches, Inputs(*shared, LogMel(spec.features), devices, len(recordings.responses))


def _devices(spec: ExperimentSpec, recordings: Recordings) -> Devices | None:
    rate, responses = spec.features.sample_rate, recordings.responses
    if AUGMENTATIONS["device impulse responses"].on(spec.augment):
        folder = Path(spec.augment.impulse_responses or "").expanduser()
        responses += load_training_responses(folder, rate, recordings.held_out)
    return Devices(np.stack(responses), before_peak(rate), recordings.samples.shape[1]) if responses else None
