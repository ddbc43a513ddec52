"""Augmentation of log-mel power: each against what it stands for, and every clip for itself."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from system.augment.spectrogram import (
    beta,
    freq_mixstyle,
    keep_mask,
    mixup,
    random_gain,
    roll,
    spec_augment,
    time_warp,
)
from system.features import LogMel
from tests import tiny

CPU = torch.device("cpu")
FLOOR = tiny.FEATURES.log_floor


def runs_of_zeros(row: np.ndarray) -> list[int]:
    padded = np.concatenate([[1], row, [1]])
    edges = np.diff(padded.astype(int))
    return (np.flatnonzero(edges == 1) - np.flatnonzero(edges == -1)).tolist()


@pytest.mark.parametrize(("size", "widest"), [(20, 5), (80, 8), (3, 8), (51, 2)])
def test_one_mask_is_one_run_of_any_width_up_to_the_widest_anywhere(size: int, widest: int) -> None:
    torch.manual_seed(0)
    keep = keep_mask(4000, size, 1, widest, CPU).numpy()
    runs = [runs_of_zeros(row) for row in keep]
    assert {len(run) for run in runs} == {0, 1}
    widths = np.array([sum(run) for run in runs])
    assert set(widths) == set(range(min(widest, size) + 1))
    if widest < size:  # uniform over 0 ... widest
        counts = np.bincount(widths) / len(widths)
        assert np.abs(counts - 1 / (widest + 1)).max() < 0.05
        assert not keep.min(axis=0).any()  # every position is masked in some sample


def test_two_masks_are_at_most_two_runs_and_never_wider_together() -> None:
    torch.manual_seed(0)
    keep = keep_mask(2000, 40, 2, 6, CPU).numpy()
    runs = [runs_of_zeros(row) for row in keep]
    assert {len(run) for run in runs} == {0, 1, 2}
    assert max(sum(run) for run in runs) == 12


@pytest.mark.parametrize(("masks", "widest"), [(0, 8), (2, 0)])
def test_no_masks_mask_nothing(masks: int, widest: int) -> None:
    assert keep_mask(50, 10, masks, widest, CPU).all()


def test_bands_and_frames_are_masked_on_their_own_axis() -> None:
    x, fill = torch.ones(64, 30, 12), torch.zeros(30)
    torch.manual_seed(0)
    bands_only = spec_augment(x, fill, 2, 8, 0, 0)
    assert (bands_only == bands_only[..., :1]).all()
    assert set(bands_only.unique().tolist()) == {0.0, 1.0}
    frames_only = spec_augment(x, fill, 0, 0, 2, 2)
    assert (frames_only == frames_only[:, :1]).all()
    assert frames_only.min() == 0.0
    assert (frames_only[:, 0] == 0).sum(dim=1).max() <= 4
    # every clip has masks of its own
    assert len({tuple(row.tolist()) for row in bands_only[:, :, 0]}) > 30


def test_masked_values_are_the_band_s_mean_and_the_others_untouched() -> None:
    torch.manual_seed(0)
    x, fill = torch.randn(16, 30, 12), torch.arange(30.0) + 100
    y = spec_augment(x, fill, 2, 8, 2, 2)
    masked = y == fill[:, None]
    assert ((y == x) ^ masked).all()
    assert 0.05 < masked.float().mean() < 0.6


def test_a_gain_is_the_samples_gain() -> None:
    """Of loud clips, and of clips below the floor of the logarithm."""
    samples = torch.randn(8, 1600) * torch.logspace(-6, 0, 8)[:, None]
    front_end = LogMel(tiny.FEATURES)
    torch.manual_seed(3)
    heard = random_gain(front_end(samples), 12.0, FLOOR)
    torch.manual_seed(3)
    decibels = (2 * torch.rand(8, 1) - 1) * 12.0
    assert decibels.abs().max() > 6
    assert torch.allclose(heard, front_end(samples * 10 ** (decibels / 20)), atol=2e-5)


def test_rolling_frames_is_rolling_samples_by_whole_hops_but_at_the_seam() -> None:
    x = torch.randn(200, 3, 21)
    torch.manual_seed(0)
    rolled = roll(x, 4)
    torch.manual_seed(0)
    shifts = torch.randint(-4, 5, (200, 1))[:, 0].tolist()
    assert set(shifts) == set(range(-4, 5))
    assert all(torch.equal(rolled[i], x[i].roll(shift, dims=1)) for i, shift in enumerate(shifts))

    samples, front_end, hop = torch.randn(1, 1600), LogMel(tiny.FEATURES), tiny.FEATURES.hop_length
    by_samples, by_frames = front_end(samples.roll(3 * hop, dims=1)), front_end(samples).roll(3, dims=2)
    assert torch.allclose(by_samples[:, :, 6:-2], by_frames[:, :, 6:-2], atol=1e-4)


def test_a_warp_moves_frames_by_at_most_its_reach_and_keeps_order_and_ends() -> None:
    frames, most = 51, 5
    ramp = torch.arange(float(frames)).expand(500, 4, frames)
    torch.manual_seed(0)
    warped = time_warp(ramp, most)  # of a ramp, the values are where each frame comes from
    assert torch.equal(warped[:, 0], warped[:, 3])  # all bands alike
    assert (warped.diff(dim=2) > 0).all()
    assert torch.allclose(warped[..., 0], torch.zeros(()), atol=1e-5)
    assert torch.allclose(warped[..., -1], torch.tensor(frames - 1.0), atol=1e-4)
    moved = (warped - ramp).abs().amax(dim=(1, 2))
    assert moved.max() < most + 1
    assert moved.max() > most - 1
    assert moved.mean() == pytest.approx(most / 2, abs=0.4)  # uniform up to it
    bends = warped[:, 0].diff(dim=1).diff(dim=1).abs() > 1e-3
    assert bends.any(dim=1).float().mean() > 0.9
    assert (bends.sum(dim=1) <= 2).all()  # one point only, which may lie between two frames


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 6])
def test_a_warp_of_few_frames_reaches_less_far(frames: int) -> None:
    x = torch.arange(float(frames)).expand(300, 2, frames)
    y = time_warp(x, 40)
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert (y.diff(dim=2) >= 0).all()
    assert (y - x).abs().amax() <= max(0, (frames - 3) // 2) + 1e-5


def test_mixstyle_mixes_the_bands_statistics_and_keeps_what_is_left() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 5, 300) * (1 + torch.rand(64, 5, 1)) + 10 * torch.randn(64, 5, 1)
    torch.manual_seed(1)
    y = freq_mixstyle(x, 1.0, 0.3)
    torch.manual_seed(1)
    other, weight = torch.randperm(64), beta(0.3, 64, CPU)[:, None]
    assert torch.allclose(y.mean(dim=2), weight * x.mean(dim=2) + (1 - weight) * x.mean(dim=2)[other], atol=1e-4)
    assert torch.allclose(y.std(dim=2), weight * x.std(dim=2) + (1 - weight) * x.std(dim=2)[other], atol=1e-4)

    def normed(a: torch.Tensor) -> torch.Tensor:
        return (a - a.mean(dim=2, keepdim=True)) / a.std(dim=2, keepdim=True)

    assert torch.allclose(normed(y), normed(x), atol=1e-3)


def test_mixstyle_leaves_the_others_alone() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 2, 8)
    y = freq_mixstyle(x, 0.4, 0.3)
    changed = (y != x).flatten(1).any(dim=1)
    assert changed.float().mean() == pytest.approx(0.4, abs=0.03)


def test_mixup_mixes_clips_and_targets_by_one_weight() -> None:
    torch.manual_seed(0)
    target = torch.eye(6).repeat(50, 1)
    x = target[:, :, None].repeat(1, 1, 3)  # what is heard is what the target says
    mixed, shares = mixup(x, target, 0.3)
    assert torch.allclose(mixed, shares[:, :, None].expand_as(mixed))
    assert torch.allclose(shares.sum(dim=1), torch.ones(300))
    assert (shares > 0).sum(dim=1).max() == 2
    assert len(shares.amax(dim=1).unique()) > 100  # a weight for each clip


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_weights_follow_the_beta_distribution(alpha: float) -> None:
    torch.manual_seed(0)
    weight = beta(alpha, 20000, CPU)
    assert weight.mean().item() == pytest.approx(0.5, abs=0.02)
    assert weight.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.05)


def test_several_labels_are_mixed_each_for_itself() -> None:
    target = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    torch.manual_seed(0)
    for _ in range(20):
        _, shares = mixup(torch.zeros(2, 1, 1), target, 1.0)
        assert torch.allclose(shares[:, 1:], target[:, 1:])
        assert ((shares[:, 0] >= 0) & (shares[:, 0] <= 1)).all()
    assert math.isfinite(shares.sum())
