"""Training data as batches: features from the cache or samples, in an order of each epoch's own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from system.data.recordings import Recordings
from system.dataset import Segments


def statistics(segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each mel band over a part: two arrays of (mel bands,)."""
    total = np.zeros(segments.features.shape[1])
    square = np.zeros_like(total)
    for start in range(0, len(segments), 4096):
        chunk = np.asarray(segments.features[start : start + 4096], dtype=np.float64)
        total += chunk.sum(axis=(0, 2))
        square += (chunk * chunk).sum(axis=(0, 2))
    count = len(segments) * segments.features.shape[2]
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean * mean, 1e-8))
    return mean.astype(np.float32), std.astype(np.float32)


def standardized(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, F, T) log-mel -> (B, 1, F, T)"""
    return ((features - mean[:, None]) / std[:, None]).unsqueeze(1)


class FeatureBatches(Dataset):
    """Whole batches of (features, label) by one indexing operation; no Python loop over clips."""

    def __init__(self, segments: Segments) -> None:
        self.features = segments.features
        self.label = torch.from_numpy(np.asarray(segments.label))

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        return torch.from_numpy(np.asarray(self.features[indices])), self.label[indices]


class SampleBatches(Dataset):
    """Whole batches of (samples, device, label), cropped at random if `crop`.

    The offsets of a batch depend on the seed, the epoch and its first segment only.
    """

    def __init__(
        self, recordings: Recordings, segments: Segments, crop: bool, seed: int, epoch: Callable[[], int]
    ) -> None:
        if crop:
            recordings.check_crops(segments.label, segments.filename)
        self.recordings, self.crop, self.seed, self.epoch = recordings, crop, seed, epoch
        self.device = torch.from_numpy(recordings.device)
        self.label = torch.from_numpy(np.asarray(segments.label))

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        if self.crop:
            generator = np.random.default_rng((self.seed, self.epoch(), indices[0]))
            samples = self.recordings.crop(indices, generator)
        else:
            samples = self.recordings.read(indices)
        return torch.from_numpy(samples), self.device[indices], self.label[indices]


class EpochOrder(Sampler):
    """Batches in an order that depends on the seed and the epoch only.

    `epoch` says which one runs: Lightning calls `set_epoch` of samplers, but never of batch samplers.
    """

    def __init__(self, size: int, batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch())).permutation(self.size)
        for start in range(0, self.size, self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return math.ceil(self.size / self.batch_size)
