import librosa
import numpy as np
import pytest
import torch

from system.features import LogMel
from system.spec import FeatureSpec

SETTINGS = {
    "kt": FeatureSpec(),
    "dcase2024 baseline": FeatureSpec(
        sample_rate=32000, n_fft=4096, win_length=3072, hop_length=500, n_mels=256, log_floor=1e-5
    ),
    "16 kHz, limited band": FeatureSpec(
        sample_rate=16000, n_fft=512, win_length=400, hop_length=160, n_mels=40, f_min=50, f_max=7600
    ),
}


@pytest.mark.parametrize("spec", SETTINGS.values(), ids=SETTINGS.keys())
def test_equals_librosa(spec: FeatureSpec) -> None:
    rng = np.random.default_rng(3)
    loudness = np.array([[0.3], [0.01], [1e-4]])
    samples = (loudness * rng.standard_normal((3, spec.sample_rate))).astype(np.float32)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        win_length=spec.win_length,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.f_min,
        fmax=spec.f_max,
        pad_mode="reflect",
    )
    ours = LogMel(spec)(torch.from_numpy(samples)).numpy()
    assert ours.shape == (3, spec.n_mels, spec.frames(1.0))
    assert np.abs(ours - np.log(power + spec.log_floor)).max() < 1e-4


def test_silence_is_the_floor() -> None:
    spec = FeatureSpec(log_floor=1e-7)
    assert torch.allclose(LogMel(spec)(torch.zeros(1, 22050)), torch.tensor(1e-7).log())
