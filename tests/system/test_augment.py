"""SpecAugment: how many masks, how wide, where, and never at evaluation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from system.augment import SpecAugment, keep_mask
from system.spec import AugmentSpec

CPU = torch.device("cpu")


def runs_of_zeros(row: np.ndarray) -> list[int]:
    padded = np.concatenate([[1], row, [1]])
    edges = np.diff(padded)
    return (np.flatnonzero(edges == 1) - np.flatnonzero(edges == -1)).tolist()


@pytest.mark.parametrize(("size", "widest"), [(20, 5), (80, 8), (3, 8), (51, 2)])
def test_one_mask_is_one_run_of_any_width_up_to_the_widest_anywhere(size: int, widest: int) -> None:
    torch.manual_seed(0)
    keep = keep_mask(4000, size, 1, widest, CPU).numpy()
    assert set(np.unique(keep)) == {0.0, 1.0}
    runs = [runs_of_zeros(row) for row in keep]
    assert {len(run) for run in runs} == {0, 1}
    widths = np.array([sum(run) for run in runs])
    assert set(widths) == set(range(min(widest, size) + 1))
    if widest < size:  # uniform over 0 ... widest
        counts = np.bincount(widths) / len(widths)
        assert np.abs(counts - 1 / (widest + 1)).max() < 0.05
        assert keep.min(axis=0).max() == 0.0  # every position is masked in some sample


def test_two_masks_are_at_most_two_runs_and_never_wider_together() -> None:
    torch.manual_seed(0)
    keep = keep_mask(2000, 40, 2, 6, CPU).numpy()
    runs = [runs_of_zeros(row) for row in keep]
    assert {len(run) for run in runs} == {0, 1, 2}
    assert max(sum(run) for run in runs) == 12


@pytest.mark.parametrize(("masks", "widest"), [(0, 8), (2, 0)])
def test_no_masks_mask_nothing(masks: int, widest: int) -> None:
    assert keep_mask(50, 10, masks, widest, CPU).min() == 1.0


def test_bands_and_frames_are_masked_on_their_own_axis() -> None:
    x = torch.ones(64, 1, 30, 12)
    torch.manual_seed(0)
    bands_only = SpecAugment(AugmentSpec(time_masks=0, frequency_masks=2, frequency_mask_bands=8)).train()(x)
    assert (bands_only == bands_only[..., :1]).all()
    assert set(bands_only.unique().tolist()) == {0.0, 1.0}
    frames_only = SpecAugment(AugmentSpec(time_masks=2, time_mask_frames=2, frequency_masks=0)).train()(x)
    assert (frames_only == frames_only[:, :, :1]).all()
    assert frames_only.min() == 0.0
    assert (frames_only[:, 0, 0] == 0).sum(dim=1).max() <= 4
    # every sample has masks of its own
    assert len({tuple(row.tolist()) for row in bands_only[:, 0, :, 0]}) > 30


def test_masked_values_are_the_mean_and_the_others_untouched() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 1, 30, 12)
    y = SpecAugment(AugmentSpec()).train()(x)
    assert ((y == x) | (y == 0)).all()
    assert (y == 0).any()
    assert (y == x).any()


def test_evaluation_is_the_identity() -> None:
    x = torch.randn(4, 1, 30, 12)
    assert SpecAugment(AugmentSpec()).eval()(x) is x


def test_the_defaults_are_the_report_s() -> None:
    spec = AugmentSpec()
    assert (spec.time_masks, spec.time_mask_frames, spec.frequency_masks, spec.frequency_mask_bands) == (2, 2, 2, 8)


def test_the_same_seed_masks_alike() -> None:
    x = torch.ones(8, 1, 30, 12)
    augment = SpecAugment(AugmentSpec()).train()
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(x))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
