"""A tiny experiment: 16 mel bands, 21 frames, width 4, and noise whose level tells the class."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from system.data.recordings import Recordings, runs
from system.dataset import PreparedData, Segments
from system.spec import AugmentSpec, DataSpec, ExperimentSpec, FeatureSpec, ModelSpec, StageSpec, TrainSpec

torch.set_num_threads(1)

CLASSES = ("airport", "bus", "park")
FEATURES = FeatureSpec(sample_rate=8000, n_fft=256, win_length=200, hop_length=80, n_mels=16)
SECONDS = 0.2  # 21 frames
MODEL = ModelSpec(
    width=4, width_multiple=2, stem_kernel=(3, 3), kernel_size=(3, 3), activation="relu", norm="batch",
    pooling="average", dropout=0.1, stages=(StageSpec(), StageSpec(stride=(2, 2), ratio=1.5)),
)  # fmt: skip


def experiment(**changes: Any) -> ExperimentSpec:
    """The tiny experiment, with sections or parts of `train` (epochs, learning_rate, ...) changed."""
    recipe = {key: changes.pop(key) for key in tuple(changes) if key in TrainSpec.model_fields}
    base: dict[str, Any] = {
        "data": DataSpec(segment_seconds=SECONDS),
        "features": FEATURES,
        "augment": AugmentSpec(frequency_mask_bands=2),
        "model": MODEL,
        "train": TrainSpec(**{"epochs": 2, "batch_size": 16, **recipe}),
    }
    return ExperimentSpec(**{**base, **changes})


def segments(count: int, seed: int, distance: float = 1.0) -> Segments:
    """`count` segments of noise, of a level for each class."""
    generator = np.random.default_rng(seed)
    label = np.arange(count, dtype=np.int64) % len(CLASSES)
    bands, frames = FEATURES.n_mels, FEATURES.frames(SECONDS)
    features = generator.normal(-4.0, 2.0, size=(count, bands, frames)).astype(np.float32)
    features += 2.0 * np.float32(distance) * (label - 1)[:, None, None]
    return Segments(
        features=features,
        label=label,
        filename=tuple(f"audio/{seed}-{i}.wav" for i in range(count)),
        segment=np.zeros(count, dtype=np.int64),
        device=("a",) * count,
        source=tuple(f"{seed}-{i // 4}" for i in range(count)),
    )


def data(train: int = 48, validation: int = 24, test: int = 24, distance: float = 1.0) -> PreparedData:
    return PreparedData(
        name="tiny",
        classes=CLASSES,
        device_groups={"a": "real"},
        train=segments(train, 1, distance=distance),
        validation=segments(validation, 2, distance=distance),
        test=segments(test, 3, distance=distance),
        checksum="0" * 64,
        skipped=0,
    )


def with_recordings(data: PreparedData, segments_each: int = 3) -> PreparedData:
    """The same with samples for the training part: noise at the level of its class, recordings of three segments."""
    count = len(data.train)
    recording = np.arange(count) // segments_each
    label = recording % len(CLASSES)
    noise = np.random.default_rng(9).standard_normal((count, round(SECONDS * FEATURES.sample_rate)))
    runs_of = runs(list(zip(recording.tolist(), (np.arange(count) % segments_each).tolist(), strict=True)))
    samples = (noise * 10.0 ** (label - 2)[:, None]).astype(np.float32)
    recordings = Recordings(samples, np.arange(count), *runs_of, np.zeros(count, np.int64))
    return replace(data, train=replace(data.train, label=label.astype(np.int64)), recordings=recordings)
