"""Mixtures of the clips of a csv folder: a new csv folder with an events.csv, for sound-event classification.

Sources stay apart: the sources of a fold are dealt out to pools, a mixture takes its sounds from one pool, and the
pool is its `source_id`. So no recording is heard on both sides of a fold or of the validation split.
"""

from __future__ import annotations

import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
from pydantic import Field, field_validator

from system.config import Spec
from system.data.csv_folder import EVENT_COLUMNS, EVENTS, META, read_clips
from system.data.decoding import read_mono
from system.data.folds import Clip, Event
from system.errors import DataError
from system.files import whole_folder, write_csv, write_yaml
from system.progress import progress

FRAME_SECONDS = 0.02
FADE_SECONDS = 0.01
HIGHEST_PEAK = 0.99  # of full scale
SILENT_DB = -40.0  # below a clip's loudest frame: not part of the sound
FOLDS = 2**128  # a negative fold draws as the one this much higher: generators take no negative number
COPIED = ("LICENSE.txt", "ATTRIBUTION.txt")


class MixtureSpec(Spec):
    """What mixtures are made of. Levels are root mean squares in dB below full scale."""

    per_fold: Annotated[int, Field(ge=1)] = 40
    pools: Annotated[int, Field(ge=1)] = 8  # of each fold: as many sources as the mixtures of a fold count as
    seconds: Annotated[float, Field(ge=1, le=3600)] = 10.0
    most_events: Annotated[int, Field(ge=1)] = 4  # of a mixture, each of another class
    event_seconds: tuple[float, float] = (0.5, 3.0)  # longest excerpt, drawn uniformly; a shorter sound stays whole
    event_db: tuple[float, float] = (-30.0, -15.0)
    background_db: float = -50.0  # pink noise
    sample_rate: Annotated[int, Field(ge=1000, le=655_350)] = 32000  # the most that FLAC can tell
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("event_seconds", "event_db")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] > value[1]:
            raise ValueError("the first number must not be above the second")
        return value

    @field_validator("event_seconds")
    @classmethod
    def _not_too_short(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] < FRAME_SECONDS:
            raise ValueError(f"an excerpt must be at least {FRAME_SECONDS:g} s long")
        return value


@dataclass(frozen=True)
class Sound:
    """An event of a mixture, with what it is made of."""

    event: Event
    clip: str
    level_db: float


def make_mixtures(root: Path, out: Path, spec: MixtureSpec) -> None:
    """Write `out`, a csv folder of `spec.per_fold` mixtures for each fold of the csv folder `root`.

    The same files for the same folder and specification. Raises DataError if `out` exists, if the clips have several
    classes themselves, or if a fold has fewer sources than pools.
    """
    if out.exists():
        raise DataError(f"{out} exists already; give a folder that does not")
    listed = read_clips(root)
    if any(clip.events is not None for clip, _ in listed):
        raise DataError(f"{root}: expected clips of one class each to mix, found clips of several")
    folds = sorted({fold for _, fold in listed})
    meta, events = [], []
    with whole_folder(out) as part, progress("mixing", len(folds) * spec.per_fold, unit="mixtures") as step:
        (part / "audio").mkdir()
        for fold in folds:
            pools = deal([clip for clip, other in listed if other == fold], spec, fold, root)
            for number in range(spec.per_fold):
                pool = number % spec.pools
                name = f"audio/fold{fold}-pool{pool}-{number:04d}.flac"
                samples, sounds = mix(pools[pool], spec, np.random.default_rng((spec.seed, fold % FOLDS, number)))
                soundfile.write(part / name, samples, spec.sample_rate, subtype="PCM_16")
                meta.append((name, fold, f"fold{fold}-pool{pool}"))
                events += [(name, *sound.event, sound.clip, round(sound.level_db, 1)) for sound in sounds]
                step(1)
        write_csv(part / META, ("filename", "fold", "source_id"), meta)
        write_csv(part / EVENTS, (*EVENT_COLUMNS, "clip", "level_db"), events)
        write_yaml(part / "mixtures.yaml", {"clips_from": root.name, **spec.plain()})
        for name in COPIED:
            if (root / name).is_file():
                shutil.copyfile(root / name, part / name)


def deal(clips: Sequence[Clip], spec: MixtureSpec, fold: int, root: Path) -> list[list[Clip]]:
    """The clips of a fold in `spec.pools` pools, whole sources each, every class spread as evenly as that allows."""
    of_source: dict[str, list[Clip]] = defaultdict(list)
    for clip in sorted(clips, key=lambda clip: clip.filename):
        of_source[clip.source].append(clip)
    if len(of_source) < spec.pools:
        raise DataError(
            f"{root}, fold {fold}: expected at least {spec.pools} sources, one for each pool, found {len(of_source)}; "
            f"ask for fewer by --set pools={len(of_source)}"
        )
    order = np.random.default_rng((spec.seed, fold % FOLDS)).permutation(len(of_source))
    sources = sorted((list(of_source.values())[i] for i in order), key=len, reverse=True)
    pools: list[list[Clip]] = [[] for _ in range(spec.pools)]
    for source in sources:
        labels = {clip.label for clip in source}
        counts = [Counter(clip.label for clip in pool) for pool in pools]
        least = min(range(spec.pools), key=lambda i: (sum(counts[i][label] for label in labels), len(pools[i])))
        pools[least] += source
    return pools  # none is empty: nothing comes before an empty pool


def mix(pool: Sequence[Clip], spec: MixtureSpec, generator: np.random.Generator) -> tuple[np.ndarray, list[Sound]]:
    """One mixture: (samples,) float32 at `spec.sample_rate`, and its sounds in order of onset.

    One that would clip is made quieter as a whole; the levels told are those that are in it.
    """
    length = round(spec.seconds * spec.sample_rate)
    samples = _scaled(_pink_noise(length, generator), spec.background_db)
    labels = sorted({clip.label for clip in pool})
    count = int(generator.integers(1, min(spec.most_events, len(labels)) + 1))
    sounds = []
    for label in generator.choice(labels, count, replace=False).tolist():
        candidates = [clip for clip in pool if clip.label == label]
        clip = candidates[int(generator.integers(len(candidates)))]
        longest = min(float(generator.uniform(*spec.event_seconds)), spec.seconds)
        sound = excerpt(read_mono(clip.path, spec.sample_rate)[0], longest, spec.sample_rate, generator)
        level = float(generator.uniform(*spec.event_db))
        start = int(generator.integers(length - len(sound) + 1))
        samples[start : start + len(sound)] += _scaled(sound, level)
        onset, offset = (round(edge / spec.sample_rate, 4) for edge in (start, start + len(sound)))
        sounds.append(Sound(Event(onset, offset, label), clip.filename, level))
    scale = max(1.0, float(np.abs(samples).max()) / HIGHEST_PEAK)
    told = [replace(sound, level_db=sound.level_db - 20 * math.log10(scale)) for sound in sounds]
    return (samples / scale).astype(np.float32), sorted(told, key=lambda sound: sound.event)


def excerpt(samples: np.ndarray, longest: float, sample_rate: int, generator: np.random.Generator) -> np.ndarray:
    """At most `longest` seconds of a clip that start and end with sound, faded at both ends."""
    frame = round(FRAME_SECONDS * sample_rate)
    frames = samples[: max(1, len(samples) // frame) * frame]
    frames = frames.reshape(-1, frame) if len(samples) >= frame else samples[None]
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (SILENT_DB / 10))
    count = max(1, int(longest * sample_rate) // frame)
    latest = loud[loud <= max(loud[0], loud[-1] + 1 - count)]  # starts that leave room for the whole excerpt
    start = int(latest[int(generator.integers(len(latest)))])
    stop = int(loud[loud < start + count][-1]) + 1
    sound = frames[start:stop].reshape(-1).copy()
    fade = min(round(FADE_SECONDS * sample_rate), len(sound) // 2)
    ramp = np.linspace(0, 1, fade, dtype=np.float32)
    sound[:fade] *= ramp
    sound[len(sound) - fade :] *= ramp[::-1]
    return sound


def _pink_noise(length: int, generator: np.random.Generator) -> np.ndarray:
    """(samples,) noise whose power falls by 3 dB per octave."""
    spectrum = np.fft.rfft(generator.standard_normal(length))
    return np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), length)


def _scaled(samples: np.ndarray, level_db: float) -> np.ndarray:
    """The samples at a root mean square of `level_db` dB below full scale; silence stays silence."""
    rms = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
    return samples * (10 ** (level_db / 20) / rms) if rms > 0 else samples
