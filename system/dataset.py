"""Folds become arrays: features of every segment, on the device the protocol gives it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from system.data import devices
from system.data.audio import AudioCache, cached_audio, stream_segments
from system.data.cache import build_once, cache_folder, digest, growing_array
from system.data.devices import DeviceResponses
from system.data.folds import DATASETS, Clip, DatasetFolds
from system.errors import ConfigError, DataError
from system.features import LogMel
from system.progress import progress
from system.spec import DataSpec, FeatureSpec

CODE_VERSION = 1
"""Raised whenever other features come out of the same segments."""

BATCH = 128  # segments whose features are computed at once
PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Segments:
    """n labelled segments of one part (train, validation or test), ready for a network.

    `features` may be a memory map: index it with sorted or small index arrays.
    """

    features: np.ndarray  # (n, mel bands, frames) float32, natural-log mel power, not standardized
    label: np.ndarray  # (n,) int64, index into the classes
    filename: tuple[str, ...]
    segment: np.ndarray  # (n,) int64, index of the segment within its clip
    device: tuple[str, ...]
    source: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.filename)


@dataclass(frozen=True)
class PreparedData:
    """A data set as arrays."""

    name: str
    classes: tuple[str, ...]
    device_groups: dict[str, str]  # device -> real, seen or unseen
    train: Segments
    validation: Segments
    test: Segments
    checksum: str  # of the bytes of every recording and of the lists
    skipped: int  # damaged recordings left out under skip_bad


@dataclass(frozen=True)
class _Rows:
    """Which segment of the audio cache is heard through which device, in one part."""

    audio: np.ndarray  # (n,) int64, row of the audio cache
    clip: tuple[Clip, ...]
    device: tuple[str, ...]


def prepare(data: DataSpec, features: FeatureSpec, seed: int) -> PreparedData:
    """Load a data set's folds and the features of all its segments, from the cache if nothing changed.

    `seed` draws the validation part. Raises DataError for anything wrong with the recordings or lists,
    ConfigError for an unknown data set or a segment too short for the features.
    """
    _segment_length(data.segment_seconds, features)
    folds = DATASETS[data.dataset](data, seed)
    responses = load_devices(data, features.sample_rate)
    clips = [*folds.train, *folds.validation, *folds.test]
    audio = cached_audio(clips, features.sample_rate, data.segment_seconds, data.silence_rms, data.skip_bad)
    rows = {part: _rows(getattr(folds, part), audio, part, responses) for part in PARTS}
    _check_left(folds, rows)
    key = digest(
        [
            CODE_VERSION,
            audio.key,
            features.plain(),
            [devices.CODE_VERSION, responses.checksum] if responses else None,
            [[rows[part].audio.tolist(), rows[part].device if responses else None] for part in PARTS],
        ]
    )
    shape = (features.n_mels, features.frames(data.segment_seconds))
    folder = build_once(
        cache_folder() / "features" / key,
        lambda part: _compute(part / "features.npy", list(rows.values()), audio.samples, responses, features, shape),
    )
    stored = np.load(folder / "features.npy", mmap_mode="r")
    ends = np.cumsum([0, *(len(rows[part].clip) for part in PARTS)])
    parts = {
        part: _segments(stored[ends[i] : ends[i + 1]], rows[part], audio, folds.classes) for i, part in enumerate(PARTS)
    }
    return PreparedData(
        name=folds.name,
        classes=folds.classes,
        device_groups=_device_groups(folds, responses),
        checksum=_checksum(folds, audio, responses),
        skipped=len(audio.skipped),
        **parts,
    )


def load_devices(data: DataSpec, sample_rate: int) -> DeviceResponses | None:
    """The responses of the device protocol, if `data.device_irs` asks for it. Raises DataError."""
    return devices.load_responses(Path(data.device_irs).expanduser(), sample_rate) if data.device_irs else None


def stream_features(
    paths: Sequence[Path], features: FeatureSpec, segment_seconds: float = 1.0, batch: int = BATCH
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Features of any recordings in order, uncached: (rows (m,) int64, features (m, mel bands, frames)).

    `rows` are positions in `paths`; a recording longer than a segment gives several rows of one position.
    At most `batch` segments come at once. Raises DataError for a missing or damaged recording.
    """
    length = _segment_length(segment_seconds, features)
    front_end = LogMel(features)
    waiting: list[np.ndarray] = []
    positions: list[int] = []
    for position, segments in stream_segments(paths, features.sample_rate, length):
        waiting.extend(segments)
        positions.extend([position] * len(segments))
        while len(waiting) >= batch:
            yield np.array(positions[:batch], np.int64), _log_mel(front_end, np.stack(waiting[:batch]))
            del waiting[:batch], positions[:batch]
    if waiting:
        yield np.array(positions, np.int64), _log_mel(front_end, np.stack(waiting))


def _segment_length(seconds: float, features: FeatureSpec) -> int:
    length = round(seconds * features.sample_rate)
    if length <= features.n_fft // 2:
        raise ConfigError(
            f"data.segment_seconds: expected more than half a window of {features.n_fft} samples at "
            f"{features.sample_rate} Hz, found {seconds:g} s ({length} samples)"
        )
    return length


def _log_mel(front_end: LogMel, segments: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return front_end(torch.from_numpy(np.ascontiguousarray(segments))).numpy()


def _rows(clips: Sequence[Clip], audio: AudioCache, part: str, responses: DeviceResponses | None) -> _Rows:
    """The segments of a part in file order; in the test part once for every device of the protocol."""
    clip_of = {clip.filename: clip for clip in clips}
    mine = [clip_of.get(filename) for filename in audio.filename]
    kept = [(row, mine[clip]) for row, clip in enumerate(audio.clip.tolist()) if mine[clip] is not None]
    numbers = audio.segment.tolist()
    chosen: list[tuple[int, Clip, str]] = []
    for row, clip in kept:
        assert clip is not None
        if responses is None:
            heard: tuple[str, ...] = (clip.device,)
        elif part == "test":
            heard = (devices.AS_RECORDED, *devices.SEEN, *devices.UNSEEN)
        else:
            heard = (devices.training_device(clip.filename, numbers[row]),)
        chosen.extend((row, clip, device) for device in heard)
    return _Rows(
        audio=np.array([row for row, _, _ in chosen], np.int64),
        clip=tuple(clip for _, clip, _ in chosen),
        device=tuple(device for _, _, device in chosen),
    )


def _check_left(folds: DatasetFolds, rows: dict[str, _Rows]) -> None:
    """Leaving damaged recordings out must not empty a part or take a class out of the training part."""
    for part, chosen in rows.items():
        if not chosen.clip:
            raise DataError(f"{folds.root}: every recording of the {part} part is damaged")
    missing = sorted(set(folds.classes) - {clip.label for clip in rows["train"].clip})
    if missing:
        raise DataError(f"{folds.root}: every recording of class {missing[0]!r} in the training part is damaged")


def _compute(
    path: Path,
    parts: Sequence[_Rows],
    samples: np.ndarray,
    responses: DeviceResponses | None,
    features: FeatureSpec,
    shape: tuple[int, int],
) -> None:
    audio = np.concatenate([part.audio for part in parts])
    device = [device for part in parts for device in part.device]
    front_end = LogMel(features)
    with growing_array(path, shape) as append, progress("computing features", len(audio), unit="segments") as step:
        for start in range(0, len(audio), BATCH):
            stop = min(start + BATCH, len(audio))
            segments = np.array(samples[audio[start:stop]])
            if responses is not None:
                by_device = defaultdict(list)
                for position, name in enumerate(device[start:stop]):
                    by_device[name].append(position)
                for name, positions in by_device.items():
                    segments[positions] = responses.apply(segments[positions], name)
            append(_log_mel(front_end, segments))
            step(stop - start)


def _segments(features: np.ndarray, rows: _Rows, audio: AudioCache, classes: Sequence[str]) -> Segments:
    number = {label: index for index, label in enumerate(classes)}
    return Segments(
        features=features,
        label=np.array([number[clip.label] for clip in rows.clip], np.int64),
        filename=tuple(clip.filename for clip in rows.clip),
        segment=audio.segment[rows.audio],
        device=rows.device,
        source=tuple(clip.source for clip in rows.clip),
    )


def _device_groups(folds: DatasetFolds, responses: DeviceResponses | None) -> dict[str, str]:
    """Devices of the training fold are real or (simulated) seen; those of the test fold alone are unseen."""
    if responses is not None:
        seen, unseen = dict.fromkeys(devices.SEEN, "seen"), dict.fromkeys(devices.UNSEEN, "unseen")
        return {devices.AS_RECORDED: "real", **seen, **unseen}
    trained = {clip.device for clip in (*folds.train, *folds.validation)}
    groups = {}
    for clip in (*folds.train, *folds.validation, *folds.test):
        known = "real" if clip.recorded else "seen"
        groups[clip.device] = known if clip.device in trained else "unseen"
    return dict(sorted(groups.items()))


def _checksum(folds: DatasetFolds, audio: AudioCache, responses: DeviceResponses | None) -> str:
    """Stands for the recordings' bytes, their labels and the training and test fold; not for the seed."""
    training = sorted((clip.filename, clip.label, clip.device) for clip in (*folds.train, *folds.validation))
    test = sorted((clip.filename, clip.label, clip.device) for clip in folds.test)
    return digest([audio.checksum, training, test, responses.checksum if responses else None])
