"""Augmentation of natural-log mel power, (B, F, T), batched and on the device of the batch; every clip draws its own.

Targets (B, classes) change where two clips are mixed; elsewhere they stay.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import Beta

EPSILON = 1e-6  # of a variance


def random_gain(x: Tensor, decibels: float, log_floor: float) -> Tensor:
    """Louder or softer by a uniform number of decibels up to `decibels` either way.

    Exact: of a power p, x = ln(p + log_floor) becomes ln(g p + log_floor), as if the samples had been scaled.
    """
    gain = 10 ** ((2 * torch.rand(len(x), 1, 1, device=x.device) - 1) * decibels / 10)
    return x + torch.log(gain + (1 - gain) * torch.exp(math.log(log_floor) - x))


def roll(x: Tensor, most: int) -> Tensor:
    """Circular shift by a uniform whole number of frames up to `most` either way (CP-JKU 2022; DCASE 2024 baseline).

    They roll samples; rolling frames is the same but for the windows across the seam.
    """
    frames = x.shape[2]
    shift = torch.randint(-most, most + 1, (len(x), 1), device=x.device)
    source = (torch.arange(frames, device=x.device) - shift) % frames  # (B, T)
    return x.gather(2, source[:, None].expand_as(x))


def time_warp(x: Tensor, most: int) -> Tensor:
    """A random frame moves by up to `most` frames, the ends stay (Park et al. 2019, Section 2; paper 001, IV-A).

    Between them time is stretched evenly, where the paper bends it by a spline; all bands are warped alike.
    """
    batch, _, frames = x.shape
    most = min(most, (frames - 3) // 2)
    if most < 1:
        return x
    end = frames - 1
    point = torch.randint(most + 1, end - most, (batch, 1), device=x.device)
    moved = point + (2 * torch.rand(batch, 1, device=x.device) - 1) * most
    time = torch.arange(frames, device=x.device, dtype=x.dtype)
    before = time * point / moved
    after = end - (end - time) * (end - point) / (end - moved)
    source = torch.where(time < moved, before, after).clamp(0, end)  # (B, T)
    lower = source.long().clamp(max=end - 1)
    left, right = (x.gather(2, index[:, None].expand_as(x)) for index in (lower, lower + 1))
    return torch.lerp(left, right, (source - lower)[:, None])


def freq_mixstyle(x: Tensor, p: float, alpha: float) -> Tensor:
    """With probability `p`, mean and deviation of each band are mixed with another clip's (Schmid et al. 2022).

    The weight is drawn from Beta(alpha, alpha). Each clip is drawn for itself, in CP-JKU's code whole batches are.
    """
    batch = len(x)
    mean = x.mean(dim=2, keepdim=True)  # (B, F, 1)
    centred = x - mean
    std = (centred.square().mean(dim=2, keepdim=True) + EPSILON).sqrt()  # x.var is ten times slower on a CPU
    other = torch.randperm(batch, device=x.device)
    weight = beta(alpha, batch, x.device)[:, None, None]
    mixed_mean, mixed_std = torch.lerp(mean[other], mean, weight), torch.lerp(std[other], std, weight)
    chosen = torch.rand(batch, 1, 1, device=x.device) < p
    return torch.where(chosen, centred * (mixed_std / std) + mixed_mean, x)


def mixup(x: Tensor, target: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Clips and targets mixed with those of another clip by one weight from Beta(alpha, alpha) (Zhang et al. 2018)."""
    other = torch.randperm(len(x), device=x.device)
    weight = beta(alpha, len(x), x.device)
    return torch.lerp(x[other], x, weight[:, None, None]), torch.lerp(target[other], target, weight[:, None])


def spec_augment(
    x: Tensor, fill: Tensor, frequency_masks: int, widest_band: int, time_masks: int, widest_time: int
) -> Tensor:
    """Random runs of mel bands and of frames become `fill` (F,), each band's mean (Park et al. 2019, Section 2)."""
    batch, bands, frames = x.shape
    keep_bands = keep_mask(batch, bands, frequency_masks, widest_band, x.device)
    keep_frames = keep_mask(batch, frames, time_masks, widest_time, x.device)
    return torch.where(keep_bands[:, :, None] & keep_frames[:, None, :], x, fill[:, None])


def keep_mask(batch: int, size: int, masks: int, widest: int, device: torch.device) -> Tensor:
    """(batch, size) of True with `masks` random runs of False, each 0 to `widest` long."""
    width = torch.randint(0, widest + 1, (batch, masks, 1), device=device).clamp(max=size)
    start = (torch.rand(batch, masks, 1, device=device) * (size - width + 1)).long()
    position = torch.arange(size, device=device)
    masked = (position >= start) & (position < start + width)  # (batch, masks, size)
    return ~masked.any(dim=1)


def beta(alpha: float, count: int, device: torch.device) -> Tensor:
    """(count,) draws from Beta(alpha, alpha)"""
    both = torch.full((count,), alpha, device=device)
    return Beta(both, both, validate_args=False).sample()  # the check would wait for a GPU
