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
from system.learning.teachers import Teachers

RESIDENT = 0.4  # share of a GPU's free memory that features may take


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
    """Whole batches of (features, label[, teachers' logits]) by indexing; no Python loop over clips.

    On a GPU with room for them all features stay in its memory: copying each batch there costs more than a small
    network's step.
    """

    def __init__(self, segments: Segments, teachers: Teachers | None = None, device: str = "cpu") -> None:
        self.features: np.ndarray | Tensor = segments.features
        self.teachers = teachers
        if device == "cuda" and segments.features.nbytes < RESIDENT * torch.cuda.mem_get_info()[0]:
            self.features = torch.from_numpy(np.array(segments.features)).to(device)
        self.label = torch.from_numpy(np.asarray(segments.label))

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        taught = () if self.teachers is None else (self.teachers.at(indices),)
        some = self.features[indices]
        return some if isinstance(some, Tensor) else torch.from_numpy(np.asarray(some)), self.label[indices], *taught


class SampleBatches(Dataset):
    """Whole batches of (samples, device, label[, teachers' logits]), cropped at random if `crop`.

    The offsets of a batch depend on the seed, the epoch and its first segment only. On a GPU with room for them all
    samples stay in its memory.
    """

    def __init__(
        self, recordings: Recordings, segments: Segments, crop: bool, seed: int, epoch: Callable[[], int],
        teachers: Teachers | None = None, device: str = "cpu",
    ) -> None:  # fmt: skip
        if crop:
            recordings.check_crops(segments.label, segments.filename)
        self.recordings, self.crop, self.seed, self.epoch, self.teachers = recordings, crop, seed, epoch, teachers
        size = len(recordings.row) * recordings.samples.shape[1] * recordings.samples.itemsize
        self.resident: Tensor | None = None  # (n, samples) of the training segments
        if device == "cuda" and size < RESIDENT * torch.cuda.mem_get_info()[0]:
            self.resident = torch.from_numpy(recordings.samples[recordings.row]).to(device)
        self.device = torch.from_numpy(recordings.device)
        self.label = torch.from_numpy(np.asarray(segments.label))

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, ...]:
        offset = where = None
        if self.crop:
            offset = self.recordings.offsets(indices, np.random.default_rng((self.seed, self.epoch(), indices[0])))
            where = offset / self.recordings.samples.shape[1]
        taught = () if self.teachers is None else (self.teachers.at(indices, where),)
        return self._samples(indices, offset), self.device[indices], self.label[indices], *taught

    def _samples(self, indices: list[int], offset: np.ndarray | None) -> Tensor:
        """(m, samples) of segments as they were cut, or at an `offset` (m,) of their runs, in samples."""
        if self.resident is None:
            read = self.recordings.read(indices) if offset is None else self.recordings.crop(indices, offset)
            return torch.from_numpy(read)
        if offset is None:
            return self.resident[indices]
        size = self.resident.shape[1]
        first, second, rest = (
            torch.from_numpy(part)[:, None].to(self.resident.device) for part in self.recordings.parts(indices, offset)
        )
        position = rest + torch.arange(size, device=self.resident.device)  # (m, samples) from the first one's begin
        index = torch.where(position < size, first * size, (second - 1) * size) + position
        return self.resident.view(-1)[index]


def alone() -> tuple[int, int]:
    return 0, 1


class EpochOrder(Sampler):
    """Batches in an order that depends on the seed and the epoch only, or without a seed in that of the rows.

    Of processes that train together each gets its share of every batch, so that steps are those of one process. All
    have the same number of batches; one whose share of the last would be empty gets a row of another's.
    `epoch` says which one runs: Lightning calls `set_epoch` of samplers, but never of batch samplers.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int | None, epoch: Callable[[], int],
        share: Callable[[], tuple[int, int]] = alone,
    ) -> None:  # fmt: skip
        """`share`: number of this process, and how many there are."""
        self.size, self.batch_size, self.seed, self.epoch, self.share = size, batch_size, seed, epoch, share

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(self.size)
        if self.seed is not None:
            order = np.random.default_rng((self.seed, self.epoch())).permutation(self.size)
        rank, processes = self.share()
        for start in range(0, self.size, self.batch_size):
            batch = order[start : start + self.batch_size].tolist()
            yield batch[rank::processes] or batch[:1]

    def __len__(self) -> int:
        return math.ceil(self.size / self.batch_size)

    def weight(self, index: int) -> float:
        """By which the mean over this process's share of a batch counts, so that the mean over all processes is that
        of the batch: how much of it the share is, against an even one. Another's row, in an empty one, is nothing."""
        rank, processes = self.share()
        rows = min(self.batch_size, self.size - index * self.batch_size)
        return len(range(rank, rows, processes)) * processes / rows
