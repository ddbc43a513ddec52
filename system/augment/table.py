"""Every augmentation: when it is on, what it changes, how it is usually tried, and the order in which they act.

A new one is a field of AugmentSpec (system/spec/augment.py), 0 by default, and a row here: tests,
`benchmarks/ablation.py` and `benchmarks/augment_speed.py` run over the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from system.augment import spectrogram, waveform
from system.spec import AugmentSpec, ExperimentSpec

Stage = Literal["recording", "waveform", "spectrogram"]


class Batch(NamedTuple):
    """What augmentations change."""

    x: Tensor  # (B, samples), or (B, mel bands, frames) of natural-log mel power
    target: Tensor  # (B, classes), shares of 1
    device: Tensor | None = None  # (B,) of samples: 0 as recorded, else the number of a simulated device
    taught: Tensor | None = None  # (B, classes), the teachers' shares


class Around(NamedTuple):
    """What augmentations read besides."""

    spec: ExperimentSpec
    mean: Tensor  # (mel bands,) of the training part
    first_device: int = 0  # the numbers of the devices that are drawn at random
    devices: int = 0


class Augmentation(NamedTuple):
    on: Callable[[AugmentSpec], bool]
    stage: Stage  # `recording`: while samples are read, by system/data/recordings.py
    usual: Mapping[str, Any]  # fields of AugmentSpec by which it is on, as an ablation tries it
    apply: Callable[[Batch, Around], Batch] | None = None


def _speed(batch: Batch, around: Around) -> Batch:
    return batch._replace(x=waveform.speed(batch.x, *around.spec.augment.speed))


def _devices(batch: Batch, around: Around) -> Batch:
    assert batch.device is not None
    p = around.spec.augment.impulse_response_p
    return batch._replace(device=waveform.random_device(batch.device, around.first_device, around.devices, p))


def _gain(batch: Batch, around: Around) -> Batch:
    decibels, floor = around.spec.augment.gain_db, around.spec.features.log_floor
    return batch._replace(x=spectrogram.random_gain(batch.x, decibels, floor))


def _roll(batch: Batch, around: Around) -> Batch:
    features = around.spec.features
    most = round(around.spec.augment.roll_seconds * features.sample_rate / features.hop_length)
    return batch._replace(x=spectrogram.roll(batch.x, most))


def _time_warp(batch: Batch, around: Around) -> Batch:
    return batch._replace(x=spectrogram.time_warp(batch.x, around.spec.augment.time_warp_frames))


def _mixstyle(batch: Batch, around: Around) -> Batch:
    augment = around.spec.augment
    return batch._replace(x=spectrogram.freq_mixstyle(batch.x, augment.mixstyle_p, augment.mixstyle_alpha))


def _mixup(batch: Batch, around: Around) -> Batch:
    shares = batch.target if batch.taught is None else torch.cat([batch.target, batch.taught], dim=1)
    x, shares = spectrogram.mixup(batch.x, shares, around.spec.augment.mixup_alpha)
    target, *taught = shares.split(batch.target.shape[1], dim=1)
    return batch._replace(x=x, target=target, taught=taught[0] if taught else None)


def _spec_augment(batch: Batch, around: Around) -> Batch:
    augment = around.spec.augment
    masks = (augment.frequency_masks, augment.frequency_mask_bands, augment.time_masks, augment.time_mask_frames)
    return batch._replace(x=spectrogram.spec_augment(batch.x, around.mean, *masks))


AUGMENTATIONS = {  # in the order they act
    "random crops": Augmentation(lambda spec: spec.random_crop, "recording", {"random_crop": True}),
    "speed perturbation": Augmentation(
        lambda spec: spec.speed != (1.0, 1.0), "waveform", {"speed": [0.9, 1.1]}, _speed
    ),
    "device impulse responses": Augmentation(
        lambda spec: spec.impulse_responses is not None and spec.impulse_response_p > 0,
        "waveform",
        {"impulse_responses": "FOLDER"},  # whoever tries it names one
        _devices,
    ),
    "random gain": Augmentation(lambda spec: spec.gain_db > 0, "spectrogram", {"gain_db": 6.0}, _gain),
    "time rolling": Augmentation(lambda spec: spec.roll_seconds > 0, "spectrogram", {"roll_seconds": 0.1}, _roll),
    "time warping": Augmentation(
        lambda spec: spec.time_warp_frames > 0, "spectrogram", {"time_warp_frames": 5}, _time_warp
    ),
    "Freq-MixStyle": Augmentation(lambda spec: spec.mixstyle_p > 0, "spectrogram", {"mixstyle_p": 0.4}, _mixstyle),
    "mixup": Augmentation(lambda spec: spec.mixup_alpha > 0, "spectrogram", {"mixup_alpha": 0.3}, _mixup),
    "SpecAugment": Augmentation(
        lambda spec: spec.frequency_masks * spec.frequency_mask_bands + spec.time_masks * spec.time_mask_frames > 0,
        "spectrogram",
        {"time_masks": 2, "time_mask_frames": 2, "frequency_masks": 2, "frequency_mask_bands": 8},
        _spec_augment,
    ),
}
NOTHING = AugmentSpec(time_masks=0, frequency_masks=0)  # the defaults are the KT report's, which has SpecAugment


def names_of(spec: AugmentSpec) -> list[str]:
    """The augmentations that are on, in the order they act."""
    return [name for name, row in AUGMENTATIONS.items() if row.on(spec)]


def reads_samples(spec: AugmentSpec) -> bool:
    """Whether training needs samples: cached features cannot be cropped anew, sped up, or heard by another device."""
    return any(row.on(spec) and row.stage != "spectrogram" for row in AUGMENTATIONS.values())


def augmented(batch: Batch, stage: Stage, around: Around) -> Batch:
    """The batch after every augmentation of one stage that is on."""
    for row in AUGMENTATIONS.values():
        if row.stage == stage and row.apply is not None and row.on(around.spec.augment):
            batch = row.apply(batch, around)
    return batch
