import librosa
import numpy as np
import pytest
import torch
from torchaudio.transforms import MelSpectrogram

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


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("n_mels", [1, 31, 32, 33, 80, 256, 300])
def test_bands_read_no_fewer_bins_than_the_whole_matrix(n_mels: int) -> None:
    """Of 1,025 bins; with 300 bands some of the lowest have none of their own."""
    spec = FeatureSpec(
        sample_rate=22050, n_fft=2048, win_length=1024, hop_length=441, n_mels=n_mels, f_min=30, f_max=9000
    )
    whole = MelSpectrogram(22050, 2048, 1024, 441, 30, 9000, n_mels=n_mels, norm="slaney", mel_scale="slaney")
    samples = torch.randn(3, 22050, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(LogMel(spec).mel(samples), whole(samples), rtol=1e-4, atol=1e-9)


def test_silence_is_the_floor() -> None:
    spec = FeatureSpec(log_floor=1e-7)
    assert torch.allclose(LogMel(spec)(torch.zeros(1, 22050)), torch.tensor(1e-7).log())
