"""Synthetic scenes for `made`: ten textures that a mean spectrum cannot tell apart, and nine microphones.

How a scene is built (one second, mono):

    bed      Gaussian noise with the spectral tilt of the scene's family
    + voice  the scene's own events, `signal_db` above or below the bed (drawn per second)
    + guest  in half of the seconds the events of any scene, mostly weaker: a tram passes the park
    -> room  a smooth random equalizer, one per location
    -> level drawn per second -> device

The scenes of a family share bed, bands, mean level and so the long-term spectrum. They differ in time only:

    family    scenes                                              told apart by
    rides     bus, metro, tram                                    rate; bands pulsing together or in turn
    halls     airport, shopping_mall                              two-tone chime falling or rising
    squeals   park, metro_station                                 chirp rising (birds) or falling (brakes)
    streets   street_pedestrian, public_square, street_traffic    sharp attack, slow swell, dense short bursts

So a model that looks at the mean log-mel spectrum finds the family at best, while one that sees
20 ms frames can find the scene. Pairs that are each other's time reversal (halls, squeals, the first two
streets) have the very same mean by construction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 44100
SAMPLES = 44100  # one second

Range = tuple[float, float]


@dataclass(frozen=True)
class Voice:
    """The events of a scene: shaped pulses of noise or of a gliding tone, in one or more bands."""

    bands: tuple[Range, ...]  # Hz
    rate: Range  # events per second, drawn per second of sound
    attack: float  # seconds from silence to full level
    decay: float  # seconds back to silence
    turn: float = 0.0  # each band comes this share of a period after the one below: 0 together, 0.5 in turn
    jitter: float = 0.1  # standard deviation of an event's time, in periods
    glide: float = 0.0  # share of the band that a tone crosses upwards (negative: downwards); 0: noise
    steps: int = 0  # the glide goes in this many steps; 0: smoothly


@dataclass(frozen=True)
class Scene:
    """A texture: the bed's tilt belongs to the family, the voice to the scene."""

    family: str
    tilt: float  # dB per octave
    voice: Voice


_LOW_AND_MID = ((120.0, 420.0), (900.0, 2600.0))
_MID = ((400.0, 3200.0),)

SCENES: dict[str, Scene] = {
    "airport": Scene("halls", -4.0, Voice(((500.0, 1200.0),), (1.4, 2.2), 0.18, 0.18, glide=-1.0, steps=2)),
    "shopping_mall": Scene("halls", -4.0, Voice(((500.0, 1200.0),), (1.4, 2.2), 0.18, 0.18, glide=1.0, steps=2)),
    "park": Scene("squeals", -5.0, Voice(((1800.0, 4200.0),), (3.0, 5.0), 0.06, 0.06, glide=1.0, jitter=0.2)),
    "metro_station": Scene("squeals", -5.0, Voice(((1800.0, 4200.0),), (3.0, 5.0), 0.06, 0.06, glide=-1.0, jitter=0.2)),
    "street_pedestrian": Scene("streets", -5.0, Voice(_MID, (2.5, 4.0), 0.005, 0.16)),
    "public_square": Scene("streets", -5.0, Voice(_MID, (2.5, 4.0), 0.16, 0.005)),
    "street_traffic": Scene("streets", -5.0, Voice(_MID, (6.0, 9.0), 0.005, 0.07)),
    "bus": Scene("rides", -6.0, Voice(_LOW_AND_MID, (5.0, 7.0), 0.05, 0.05, jitter=0.03)),
    "metro": Scene("rides", -6.0, Voice(_LOW_AND_MID, (5.0, 7.0), 0.05, 0.05, turn=0.5, jitter=0.03)),
    "tram": Scene("rides", -6.0, Voice(_LOW_AND_MID, (10.0, 13.0), 0.025, 0.025, jitter=0.03)),
}

SIGNAL_DB: Range = (-12.0, 6.0)  # voice over bed: what makes the set easy or hard
GUEST_SHARE = 0.5  # of the seconds
GUEST_DB: Range = (-10.0, -1.0)  # guest over bed
ROOM_DB = 5.0  # standard deviation of a location's equalizer per octave point
LEVEL_DB: Range = (-42.0, -22.0)  # root mean square below full scale


@dataclass(frozen=True)
class Device:
    """A microphone: band limits, response in points an octave apart, own noise, and loudness compression."""

    band: Range  # Hz, second-order slopes beyond
    response: tuple[float, ...]  # dB at 62.5 Hz, 125 Hz, ... 16 kHz (nine points)
    noise_db: float  # own noise below full scale
    drive: float = 0.0  # 0: linear; else tanh(drive x) / drive after normalization


DEVICES: dict[str, Device] = {
    "a": Device((20, 20000), (0, 0, 0, 0, 0, 0, 0, 0, 0), -90),
    "b": Device((90, 15000), (-6, -2, 0, 0, 1, 3, 4, 0, -4), -72),
    "c": Device((140, 14000), (-9, -4, 0, 2, 0, -2, 2, 5, -2), -70),
    "s1": Device((150, 10000), (-8, -6, 2, 4, 0, -3, 3, 0, -8), -66, 0.8),
    "s2": Device((80, 12000), (2, 3, 0, -4, -2, 2, 5, 2, -6), -68, 0.5),
    "s3": Device((200, 8000), (-10, -8, -2, 0, 4, 3, -4, -6, -12), -64, 1.2),
    "s4": Device((180, 9000), (-9, -8, 4, 0, -4, 3, 6, -4, -10), -64, 1.0),
    "s5": Device((110, 7000), (3, 5, -3, -6, 2, 5, -2, -8, -14), -66, 0.8),
    "s6": Device((240, 11000), (-12, -10, -5, 5, 6, -2, -6, 4, -6), -62, 1.6),
}

_FREQUENCY = np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE)
_OCTAVES = np.log2(np.maximum(_FREQUENCY, 20.0) / 62.5)  # octaves above the first point of a response
_POINTS = np.arange(9)


def second_of(scene: str, room: np.ndarray, device: str, rng: np.random.Generator) -> np.ndarray:
    """One second of a scene at a location through a device: (samples,) float64 within [-1, 1].

    `room` is the location's equalizer from `room_response`.
    """
    described = SCENES[scene]
    bed = _unit(_shape(rng.standard_normal(SAMPLES), described.tilt * _OCTAVES))
    voice = _unit(_voice(described.voice, rng))
    signal = bed + voice * _gain(rng.uniform(*SIGNAL_DB))
    if rng.random() < GUEST_SHARE:
        guest = SCENES[str(rng.choice(sorted(SCENES)))]
        signal += _unit(_voice(guest.voice, rng)) * _gain(rng.uniform(*GUEST_DB))
    level = _gain(rng.uniform(*LEVEL_DB))
    return _through(DEVICES[device], _unit(_shape(signal, room)), level, rng)


def room_response(rng: np.random.Generator) -> np.ndarray:
    """A location's equalizer: (frequencies,) dB, smooth over octaves."""
    return np.interp(_OCTAVES, _POINTS, rng.normal(0.0, ROOM_DB, len(_POINTS)))


def _voice(voice: Voice, rng: np.random.Generator) -> np.ndarray:
    rate = rng.uniform(*voice.rate)
    start = rng.uniform(-1.0, 0.0)  # in periods: the second begins anywhere in the pattern
    count = int(np.ceil(rate)) + 2
    times = (start + np.arange(count) + rng.normal(0.0, voice.jitter, count)) / rate
    loudness = rng.uniform(0.6, 1.4, count)
    return sum(
        (
            _unit(_band(voice, band, times + number * voice.turn / rate, loudness, rng))
            for number, band in enumerate(voice.bands)
        ),
        np.zeros(SAMPLES),
    )


def _band(voice: Voice, band: Range, times: np.ndarray, loudness: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    attack, decay = max(1, round(voice.attack * SAMPLE_RATE)), max(1, round(voice.decay * SAMPLE_RATE))
    pulse = np.concatenate([np.arange(attack) / attack, 1 - np.arange(decay) / decay]) ** 2
    noise = None if voice.glide else _limit(rng.standard_normal(SAMPLES), band)
    out = np.zeros(SAMPLES + 2 * len(pulse))
    for time, gain in zip(times, loudness, strict=True):
        begin = len(pulse) + round(time * SAMPLE_RATE)
        if not 0 <= begin <= len(out) - len(pulse):
            continue
        event = gain * pulse * (1.0 if noise is not None else _tone(voice, band, len(pulse), rng))
        out[begin : begin + len(pulse)] += event
    heard = out[len(pulse) : len(pulse) + SAMPLES]
    return heard if noise is None else heard * noise


def _tone(voice: Voice, band: Range, length: int, rng: np.random.Generator) -> np.ndarray:
    """A tone that crosses `voice.glide` of the band, up or down, around a centre that varies."""
    position = np.linspace(0.0, 1.0, length)
    if voice.steps:
        position = np.minimum(np.floor(position * voice.steps), voice.steps - 1) / (voice.steps - 1)
    span = np.log2(band[1] / band[0])
    centre = np.log2(band[0] * band[1]) / 2 + rng.normal(0.0, 0.2)
    frequency = 2.0 ** (centre + span * voice.glide * (position - 0.5))
    return np.sin(2 * np.pi * np.cumsum(frequency) / SAMPLE_RATE + rng.uniform(0, 2 * np.pi))


def _through(device: Device, signal: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    edges = -10 * np.log10(1 + (device.band[0] / np.maximum(_FREQUENCY, 1.0)) ** 4) - 10 * np.log10(
        1 + (_FREQUENCY / device.band[1]) ** 4
    )
    heard = _shape(signal, np.interp(_OCTAVES, _POINTS, device.response) + edges)
    if device.drive:
        heard = np.tanh(device.drive * _unit(heard)) / device.drive
    heard = level * _unit(heard) + _gain(device.noise_db) * rng.standard_normal(SAMPLES)
    return np.clip(heard, -1.0, 1.0)


def _shape(signal: np.ndarray, response_db: np.ndarray) -> np.ndarray:
    return np.fft.irfft(np.fft.rfft(signal) * 10.0 ** (response_db / 20), SAMPLES)


def _limit(signal: np.ndarray, band: Range) -> np.ndarray:
    spectrum = np.fft.rfft(signal)
    spectrum[~((band[0] <= _FREQUENCY) & (band[1] >= _FREQUENCY))] = 0
    return np.fft.irfft(spectrum, SAMPLES)


def _unit(signal: np.ndarray) -> np.ndarray:
    return signal / max(np.sqrt(np.mean(signal**2)), 1e-9)


def _gain(db: float) -> float:
    return float(10.0 ** (db / 20))
