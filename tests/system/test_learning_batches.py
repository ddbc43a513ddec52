"""Orders and batches of an epoch, and what becomes the input of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from system.data.recordings import runs
from system.dataset import prepare
from system.errors import DataError
from system.learning.batches import EpochOrder, FeatureBatches, SampleBatches, statistics
from system.learning.inputs import training_data
from system.spec import AugmentSpec, DataSpec
from tests import tiny
from tests.system.test_data_devices import response_folder

OFF = {"time_masks": 0, "frequency_masks": 0}


def test_statistics_against_numpy() -> None:
    part = tiny.segments(5000, seed=7)  # more than one chunk
    mean, std = statistics(part)
    assert mean.shape == std.shape == (16,)
    assert np.allclose(mean, part.features.astype(np.float64).mean(axis=(0, 2)), atol=1e-5)
    assert np.allclose(std, part.features.astype(np.float64).std(axis=(0, 2)), atol=1e-5)


def test_a_silent_band_has_a_deviation_to_divide_by() -> None:
    part = tiny.segments(8, seed=7)
    part.features[:, 3] = -11.5
    mean, std = statistics(part)
    assert mean[3] == pytest.approx(-11.5)
    assert 0 < std[3] < 1e-3


def test_an_epoch_sees_every_clip_once_in_an_order_of_its_own() -> None:
    epochs = []
    for epoch in (0, 1, 0):
        order = EpochOrder(10, 4, seed=3, epoch=lambda epoch=epoch: epoch)  # type: ignore[misc]
        batches = list(order)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        epochs.append([index for batch in batches for index in batch])
    assert len(order) == 3
    assert all(sorted(indices) == list(range(10)) for indices in epochs)
    assert epochs[0] == epochs[2] != epochs[1]
    assert list(EpochOrder(10, 4, seed=4, epoch=lambda: 0)) != list(EpochOrder(10, 4, seed=3, epoch=lambda: 0))


@pytest.mark.gpu
def test_features_that_stay_on_a_gpu_are_the_same() -> None:
    part = tiny.segments(20, 1)
    here, there = FeatureBatches(part), FeatureBatches(part, device="cuda")
    assert isinstance(there.features, torch.Tensor)
    for one, other in zip(here.__getitems__([3, 1, 7]), there.__getitems__([3, 1, 7]), strict=True):
        assert torch.equal(one, other.cpu())


@pytest.mark.parametrize("size", [1, 3, 7, 9, 16])
@pytest.mark.parametrize("seed", [3, None])
def test_processes_share_every_batch(size: int, seed: int | None) -> None:
    """No row is left out, and none is twice but in a last batch that has fewer rows than there are processes."""
    alone = list(EpochOrder(size, 4, seed, lambda: 5))
    orders = [EpochOrder(size, 4, seed, lambda: 5, lambda rank=rank: (rank, 3)) for rank in range(3)]
    shares = [list(order) for order in orders]
    assert {len(share) for share in shares} == {len(alone)}
    for number, batch in enumerate(alone):
        means = [np.mean(share[number]) * order.weight(number) for order, share in zip(orders, shares, strict=True)]
        assert np.mean(means) == pytest.approx(np.mean(batch))
        together = [row for share in shares for row in share[number]]
        assert set(together) == set(batch)
        assert len(together) == max(len(batch), 3)
        assert all(share[number] for share in shares)
    if seed is None:
        assert [row for batch in alone for row in batch] == list(range(size))


def test_crops_depend_on_seed_epoch_and_batch_alone() -> None:
    data = tiny.with_recordings(tiny.data())
    assert data.recordings is not None

    def crops(seed: int, epoch: int, indices: list[int]) -> torch.Tensor:
        return SampleBatches(data.recordings, data.train, True, seed, lambda: epoch).__getitems__(indices)[0]

    first = crops(0, 0, [3, 1])
    assert torch.equal(first, crops(0, 0, [3, 1]))
    assert not torch.equal(first, crops(1, 0, [3, 1]))
    assert not torch.equal(first, crops(0, 1, [3, 1]))


RUN = ("begin", "place", "length", "order")  # what `runs` tells, fields of Recordings


@pytest.mark.parametrize("crop", [False, True])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_samples_that_stay_on_a_gpu_are_the_same(crop: bool, device: str) -> None:
    data = tiny.with_recordings(tiny.data())
    assert data.recordings is not None
    # neighbours in a recording lie apart among the segments, as where several devices recorded it
    numbers = np.random.default_rng(0).permutation(len(data.train)).tolist()
    recordings = replace(data.recordings, **dict(zip(RUN, runs([divmod(i, 3) for i in numbers]), strict=True)))
    segments = replace(data.train, label=np.array([i // 3 % 3 for i in numbers]))
    here, there = (SampleBatches(recordings, segments, crop, 0, lambda: 0) for _ in range(2))
    there.resident = torch.from_numpy(recordings.samples[recordings.row]).to(device)
    for indices in ([3, 1, 7], list(range(len(segments)))):
        assert torch.equal(here.__getitems__(indices)[0], there.__getitems__(indices)[0].cpu())


def test_features_without_augmentation_are_standardized_only() -> None:
    spec, data = tiny.experiment(augment=AugmentSpec(**OFF)), tiny.data()
    mean, std = statistics(data.train)
    batches, inputs = training_data(spec, data, mean, std, lambda: 0)
    assert isinstance(batches, FeatureBatches)
    x, target, _ = inputs(batches.__getitems__([5, 2]))
    expected = (data.train.features[[5, 2]] - mean[:, None]) / std[:, None]
    assert np.allclose(x[:, 0].numpy(), expected, atol=1e-6)
    assert target.argmax(dim=1).tolist() == data.train.label[[5, 2]].tolist()


def test_samples_give_the_features_of_the_cache(csv_folder: Callable[..., Path], cache: Path, tmp_path: Path) -> None:
    """Through the devices of the protocol, which are convolved on the way, as the cached features are."""
    root = csv_folder([(f"{i}.wav", "xy"[i % 2], 1 + i // 2 % 5) for i in range(30)], seconds=0.6)
    irs = response_folder(tmp_path / "irs", tiny.FEATURES.sample_rate)
    section = DataSpec(dataset="csv", root=str(root), segment_seconds=tiny.SECONDS, device_irs=str(irs))
    data = prepare(section, tiny.FEATURES, 0)
    assert data.recordings is not None
    assert {"a", "s1", "s2", "s3"} == set(data.train.device)
    # drawn with probability 0 is on, but never chosen: nothing is changed, and samples are read
    augment = AugmentSpec(**OFF, speed=(1.0, 1.0 + 1e-9))
    spec = tiny.experiment(data=section, augment=augment)
    mean, std = statistics(data.train)
    batches, inputs = training_data(spec, data, mean, std, lambda: 0)
    assert isinstance(batches, SampleBatches)
    every = list(range(len(data.train)))
    x, _, _ = inputs(batches.__getitems__(every))
    expected = (data.train.features[every] - mean[:, None]) / std[:, None]
    assert np.abs(x[:, 0].numpy() - expected).max() < 1e-3


def test_responses_of_the_test_are_refused(csv_folder: Callable[..., Path], cache: Path, tmp_path: Path) -> None:
    root = csv_folder([(f"{i}.wav", "xy"[i % 2], 1 + i // 2 % 5) for i in range(20)], seconds=0.4)
    irs = response_folder(tmp_path / "irs", tiny.FEATURES.sample_rate)
    section = DataSpec(dataset="csv", root=str(root), segment_seconds=tiny.SECONDS, device_irs=str(irs))
    data = prepare(section, tiny.FEATURES, 0)
    mean, std = statistics(data.train)

    def make(folder: Path) -> None:
        augment = AugmentSpec(impulse_responses=str(folder), impulse_response_p=1.0)
        spec = tiny.experiment(data=section, augment=augment)
        batches, inputs = training_data(spec, data, mean, std, lambda: 0)
        assert inputs.devices is not None
        assert len(inputs.devices.spectra) == 3 + 6  # those of the protocol, then all of their folds
        assert inputs(batches.__getitems__([0, 1, 2]))[0].isfinite().all()  # type: ignore[attr-defined]

    make(irs)
    with pytest.raises(DataError, match="only the test may know"):
        make(irs / "audio")  # the same files without the list that tells their folds


def test_crops_are_refused_where_labels_are_of_segments() -> None:
    data = tiny.with_recordings(tiny.data())
    changed = replace(data, train=replace(data.train, label=np.arange(len(data.train)) % 3))
    spec = tiny.experiment(augment=AugmentSpec(random_crop=True))
    with pytest.raises(DataError, match=r"augment\.random_crop"):
        training_data(spec, changed, *statistics(data.train), lambda: 0)
