"""Augmentation of samples, (B, samples), batched and on the device of the batch, before the front end."""

from __future__ import annotations

import numpy as np
import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn


def speed(x: Tensor, slowest: float, fastest: float) -> Tensor:
    """Each clip lasts a uniform factor of its length; then it is cut or padded at random (paper 004, Section 5).

    Samples between two are interpolated linearly, where the paper takes the nearest; like there, nothing is filtered.
    """
    batch, length = x.shape
    factor = slowest + (fastest - slowest) * torch.rand(batch, 1, device=x.device)
    start = torch.rand(batch, 1, device=x.device) * (1 - factor) * length  # of the clip within its segment, or before
    source = (torch.arange(length, device=x.device) - start) / factor  # (B, samples)
    lower = source.floor().clamp(0, length - 2)
    index = lower.long()
    heard = torch.lerp(x.gather(1, index), x.gather(1, index + 1), source - lower)
    return heard.masked_fill((source < 0) | (source > length - 1), 0.0)


def random_device(device: Tensor, first: int, count: int, p: float) -> Tensor:
    """Recordings without a simulated device, 0 in `device` (B,), get with probability `p` one of `count` from `first`.

    The others keep theirs: no recording passes two.
    """
    drawn = torch.randint(first, first + count, device.shape, device=device.device)
    chosen = torch.rand(device.shape, device=device.device) < p
    return torch.where((device == 0) & chosen, drawn, device)


class Devices(nn.Module):
    """Recordings as simulated devices hear them: convolution with an impulse response, level and timing kept."""

    spectra: Tensor

    def __init__(self, responses: np.ndarray, before_peak: int, samples: int) -> None:
        """`responses` (devices, taps) of unit energy with the direct sound at `before_peak`; `samples` of a segment."""
        super().__init__()
        self.before_peak = before_peak
        self.size = next_fast_len(samples + responses.shape[1] - 1, real=True)
        self.register_buffer("spectra", torch.fft.rfft(torch.from_numpy(responses), self.size), persistent=False)

    def forward(self, x: Tensor, device: Tensor) -> Tensor:
        """(B, samples), (B,) number of a device from 1 on, or anything below for none -> (B, samples)"""
        through = device > 0
        dry = x[through]  # (n, samples)
        if not len(dry):
            return x
        wet = torch.fft.irfft(torch.fft.rfft(dry, self.size) * self.spectra[device[through] - 1], self.size)
        wet = wet[:, self.before_peak : self.before_peak + x.shape[1]]
        level, found = dry.square().mean(dim=1, keepdim=True), wet.square().mean(dim=1, keepdim=True)
        x = x.clone()
        x[through] = wet * torch.where(found > 0, level / found, 0.0).sqrt()
        return x
