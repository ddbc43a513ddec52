"""Augmentation of samples: speed against what it does to tones, devices against the protocol's own convolution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from system.augment.waveform import Devices, random_device, speed
from system.data.devices import DeviceResponses

RATE, LENGTH = 8000, 8000


def tones(hertz: float, count: int) -> torch.Tensor:
    return torch.sin(2 * torch.pi * hertz * torch.arange(LENGTH) / RATE).expand(count, LENGTH)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25, 1.5])
def test_a_longer_clip_is_lower_and_a_shorter_one_padded(factor: float) -> None:
    torch.manual_seed(0)
    y = speed(tones(400.0, 20), factor, factor)
    assert y.shape == (20, LENGTH)
    spectrum = torch.fft.rfft(y).abs()
    assert (spectrum.argmax(dim=1) - 400 / factor).abs().max() <= 1
    level = y.square().mean(dim=1)
    assert torch.allclose(level, torch.full_like(level, 0.5 * min(1.0, factor)), rtol=0.03)
    if factor < 1:
        heard = y != 0
        begin, end = heard.float().argmax(dim=1), LENGTH - 1 - heard.flip(1).float().argmax(dim=1)
        assert ((end - begin) - factor * LENGTH).abs().max() <= 4
        assert len(begin.unique()) > 10  # anywhere
        assert begin.max() < (1 - factor) * LENGTH + 2


def test_an_unchanged_speed_changes_nothing() -> None:
    x = torch.randn(3, LENGTH)
    assert torch.allclose(speed(x, 1.0, 1.0), x, atol=1e-6)


def test_every_clip_has_a_speed_of_its_own_within_the_range() -> None:
    torch.manual_seed(0)
    y = speed(tones(400.0, 300), 0.5, 1.5)
    hertz = torch.fft.rfft(y).abs().argmax(dim=1)
    assert hertz.min() >= 400 / 1.5 - 2
    assert hertz.max() <= 400 / 0.5 + 2
    assert (400 / hertz).mean().item() == pytest.approx(1.0, abs=0.05)
    assert len(hertz.unique()) > 100


@pytest.fixture
def protocol() -> DeviceResponses:
    generator = np.random.default_rng(0)
    decay = np.exp(-np.arange(516) / 60)
    responses = {name: (generator.standard_normal(516) * decay).astype(np.float32) for name in ("s1", "s2", "s3")}
    unit = {name: taps / np.sqrt(np.sum(taps**2)) for name, taps in responses.items()}
    return DeviceResponses(unit, 8, "")


def test_devices_are_those_of_the_protocol(protocol: DeviceResponses) -> None:
    samples = np.random.default_rng(1).standard_normal((7, LENGTH)).astype(np.float32) * 0.1
    samples[5] = 0  # silence stays silence
    devices = Devices(np.stack(list(protocol.responses.values())), protocol.before_peak, LENGTH)
    number = torch.tensor([0, 1, 2, 3, -1, 1, 3])
    heard = devices(torch.from_numpy(samples), number).numpy()
    for row, name in enumerate(("a", "s1", "s2", "s3", "a", "s1", "s3")):
        assert np.allclose(heard[row], protocol.apply(samples[row : row + 1], name)[0], atol=2e-6)
    assert np.array_equal(heard[[0, 4]], samples[[0, 4]])
    assert devices.state_dict() == {}  # nothing that a checkpoint must hold


def test_a_batch_without_devices_stays(protocol: DeviceResponses) -> None:
    devices = Devices(np.stack(list(protocol.responses.values())), protocol.before_peak, LENGTH)
    x = torch.randn(3, LENGTH)
    assert torch.equal(devices(x, torch.tensor([0, 0, -1])), x)


def test_only_recordings_without_a_device_get_one_at_random() -> None:
    torch.manual_seed(0)
    device = torch.tensor([0, 0, 0, 2, -1]).repeat(2000)
    drawn = random_device(device, first=4, count=3, p=0.6)
    assert torch.equal(drawn[device != 0], device[device != 0])
    mine = drawn[device == 0]
    assert set(mine.tolist()) == {0, 4, 5, 6}
    assert (mine > 0).float().mean().item() == pytest.approx(0.6, abs=0.03)
    assert (mine == 5).float().mean().item() == pytest.approx(0.2, abs=0.03)
