"""The log-mel front end: the only one, for training, quantization and submission alike."""

from __future__ import annotations

import warnings
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from system.errors import ConfigError
from system.spec import FeatureSpec

BANDS_AT_ONCE = 32  # neighbours, which read few of the bins: the whole matrix is nearly all zeros


class LogMel(nn.Module):
    """Waveform to log-mel spectrogram: ln(mel power + log_floor).

    Power spectra of centred, reflect-padded frames under a periodic Hann window; triangular filters on
    Slaney's mel scale, each of unit area: what librosa.feature.melspectrogram gives with pad_mode="reflect",
    so that published settings carry over. As torchaudio's MelSpectrogram, but for rounding, in about half the time
    (benchmarks/augment_speed.py).
    """

    window: Tensor  # (win_length,)
    filters: Tensor  # (bins, mel bands)

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        filters = mel_filters(spec)
        self.register_buffer("window", torch.hann_window(spec.win_length), persistent=False)
        self.register_buffer("filters", filters, persistent=False)
        self.spans = [_span(some) for some in filters.split(BANDS_AT_ONCE, dim=1)]

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) in [-1, 1] -> (batch, mel bands, frames)."""
        return self.mel(samples).add_(self.spec.log_floor).log_()

    def mel(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> (batch, mel bands, frames) of power."""
        spec = self.spec
        spectrum = torch.stft(
            samples, spec.n_fft, spec.hop_length, spec.win_length, self.window, pad_mode="reflect", return_complex=True
        ).transpose(1, 2)  # (B, T, bins)
        power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        bands = self.filters.split(BANDS_AT_ONCE, dim=1)
        heard = [power[..., low:high] @ some[low:high] for (low, high), some in zip(self.spans, bands, strict=True)]
        return torch.cat(heard, dim=2).transpose(1, 2)


def log_mel(front_end: LogMel, segments: np.ndarray) -> np.ndarray:
    """(n, samples) -> (n, mel bands, frames), of arrays."""
    with torch.inference_mode():
        return front_end(torch.from_numpy(np.ascontiguousarray(segments))).numpy()


def mel_filters(spec: FeatureSpec) -> Tensor:
    """(bins, mel bands)"""
    highest = spec.f_max if spec.f_max is not None else spec.sample_rate // 2
    return melscale_fbanks(
        spec.n_fft // 2 + 1, spec.f_min, highest, spec.n_mels, spec.sample_rate, norm="slaney", mel_scale="slaney"
    )


def check_bands(spec: FeatureSpec) -> None:
    """Raises ConfigError for a band so narrow that it reads no bin of the spectrum: all sounds are alike to it."""
    if deaf := _deaf(spec):
        raise ConfigError(
            f"features.n_mels: expected bands that each read the spectrum, found {deaf} of {spec.n_mels} that lie "
            f"between its {spec.n_fft // 2 + 1} bins; take fewer, or a longer features.n_fft"
        )


def segment_length(seconds: float, spec: FeatureSpec) -> int:
    """Samples of a segment. Raises ConfigError for one that is shorter than the padding of its frames."""
    length = round(seconds * spec.sample_rate)
    if length <= spec.n_fft // 2:
        raise ConfigError(
            f"data.segment_seconds: expected more than half a window of {spec.n_fft} samples at "
            f"{spec.sample_rate} Hz, found {seconds:g} s ({length} samples)"
        )
    return length


@lru_cache(maxsize=512)  # a search asks for each of its candidates
def _deaf(spec: FeatureSpec) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchaudio says it too, and goes on
        return int((~mel_filters(spec).any(dim=0)).sum())


def _span(filters: Tensor) -> tuple[int, int]:
    """The first bin that any of the filters (bins, bands) reads, and the one after the last."""
    read = filters.any(dim=1).nonzero().flatten().tolist()
    return (read[0], read[-1] + 1) if read else (0, 0)
