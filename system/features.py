"""The log-mel front end: the only one, for training, quantization and submission alike."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from system.spec import FeatureSpec


class LogMel(nn.Module):
    """Waveform to log-mel spectrogram: ln(mel power + log_floor).

    Power spectra of centred, reflect-padded frames under a periodic Hann window; triangular filters on
    Slaney's mel scale, each of unit area: what librosa.feature.melspectrogram gives with pad_mode="reflect",
    so that published settings carry over.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        self.mel = MelSpectrogram(
            sample_rate=spec.sample_rate,
            n_fft=spec.n_fft,
            win_length=spec.win_length,
            hop_length=spec.hop_length,
            f_min=spec.f_min,
            f_max=spec.f_max,
            n_mels=spec.n_mels,
            power=2.0,
            center=True,
            pad_mode="reflect",
            norm="slaney",
            mel_scale="slaney",
            window_fn=torch.hann_window,
        )

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples) in [-1, 1] -> (batch, mel bands, frames)."""
        return torch.log(self.mel(samples) + self.spec.log_floor)
