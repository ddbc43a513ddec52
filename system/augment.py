"""Augmentation of standardized spectrograms, batched, on the device of the training loop."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from system.spec import AugmentSpec


class SpecAugment(nn.Module):
    """Random bands of frames and mel bands set to the mean, which is 0 (Park et al. 2019, Section 2).

    (B, 1, F, T) -> (B, 1, F, T); the identity in evaluation mode. Every sample has masks of its own.
    """

    def __init__(self, spec: AugmentSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        batch, _, bands, frames = x.shape
        keep_bands = keep_mask(batch, bands, self.spec.frequency_masks, self.spec.frequency_mask_bands, x.device)
        keep_frames = keep_mask(batch, frames, self.spec.time_masks, self.spec.time_mask_frames, x.device)
        return x * keep_bands[:, None, :, None] * keep_frames[:, None, None, :]


def keep_mask(batch: int, size: int, masks: int, widest: int, device: torch.device) -> Tensor:
    """(batch, size) of ones with `masks` random runs of zeros, each 0 to `widest` long."""
    width = torch.randint(0, widest + 1, (batch, masks, 1), device=device).clamp(max=size)
    start = (torch.rand(batch, masks, 1, device=device) * (size - width + 1)).long()
    position = torch.arange(size, device=device)
    masked = (position >= start) & (position < start + width)  # (batch, masks, size)
    return (~masked.any(dim=1)).float()
