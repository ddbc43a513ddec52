"""Folds become arrays: features of every segment, on the device the protocol gives it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from system.data import devices
from system.data.audio import AudioCache, cached_audio, stream_segments
from system.data.cache import build_once, cache_folder, digest, growing_array
from system.data.decoding import OnDamage, refuse, seconds_of
from system.data.devices import DeviceResponses
from system.data.folds import DATASETS, Clip, DatasetFolds, Event
from system.data.parts import Rows, check_heard, check_left, of_device, rows_of
from system.data.recordings import Recordings, recordings_of
from system.errors import DataError
from system.features import LogMel, check_bands, log_mel, segment_length
from system.progress import progress
from system.spec import DataSpec, FeatureSpec

CODE_VERSION = 2
"""Raised whenever other features come out of the same segments."""

BATCH = 128  # segments whose features are computed at once
PARTS = ("train", "validation", "test")
ROUNDING = 1e-6  # seconds that a product of a whole number and a length may be off by


@dataclass(frozen=True)
class Segments:
    """n labelled segments of one part (train, validation or test), ready for a network.

    `features` may be a memory map: index it with sorted or small index arrays.
    """

    features: np.ndarray  # (n, mel bands, frames) float32, natural-log mel power, not standardized
    label: np.ndarray  # (n,) int64, index into the classes; of events (n, classes) float32, 1 for each that sounds
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
    segment_seconds: float = 1.0
    events: Mapping[str, tuple[Event, ...]] | None = None  # file name -> what is annotated, where events are
    clip_seconds: Mapping[str, float] = field(default_factory=dict)  # file name -> length, of those it is scored on
    recordings: Recordings | None = None  # the training part as samples

    @property
    def task(self) -> str:
        """`scene`: one class per segment; `events`: several, or none."""
        return "scene" if self.events is None else "events"


def prepare(data: DataSpec, features: FeatureSpec, seed: int) -> PreparedData:
    """Load a data set's folds and the features of all its segments, from the cache if nothing changed.

    `seed` draws the validation part; with `data.refit` everything is in the training part and the others are empty.
    Raises DataError for anything wrong with the recordings or lists, ConfigError for an unknown data set, a segment
    too short for the features, or mel bands too narrow for them.
    """
    segment_length(data.segment_seconds, features)
    check_bands(features)
    folds, clips = _folds(data, seed)
    responses = load_devices(data, features.sample_rate)
    audio = cached_audio(clips, features.sample_rate, data.segment_seconds, data.silence_rms, data.skip_bad)
    drawn = devices.REFIT_TENTHS if data.refit else devices.TRAINING_TENTHS
    rows = {part: rows_of(getattr(folds, part), audio, part, responses, drawn) for part in PARTS}
    check_left(folds, rows)
    if data.device is not None:
        rows = {part: of_device(chosen, data.device, part) for part, chosen in rows.items()}
    check_heard(folds, audio.samples, rows["train"], data.silence_rms)
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
    events = {clip.filename: clip.events for clip in clips if clip.events is not None}
    parts = {
        part: _segments(
            stored[ends[i] : ends[i + 1]], rows[part], audio, folds.classes, data.segment_seconds, bool(events)
        )
        for i, part in enumerate(PARTS)
    }
    return PreparedData(
        name=folds.name,
        classes=folds.classes,
        device_groups=_device_groups(folds, responses),
        checksum=_checksum(folds, audio, responses),
        skipped=len(audio.skipped),
        segment_seconds=data.segment_seconds,
        events=events or None,
        clip_seconds={
            clip.filename: seconds_of(clip.path) for clip in (*folds.validation, *folds.test) if clip.events is not None
        },
        recordings=_recordings(rows["train"], audio, responses, drawn),
        **parts,
    )


def _folds(data: DataSpec, seed: int) -> tuple[DatasetFolds, list[Clip]]:
    """The parts, and every clip that is read."""
    folds = DATASETS[data.dataset](data, seed)
    folds = folds.everything() if data.refit else folds
    return folds, [*folds.train, *folds.validation, *folds.test]


def classes_of(data: DataSpec, seed: int) -> tuple[str, ...]:
    """The classes of a data set, from its lists: no recording is read. Raises DataError."""
    return _folds(data, seed)[0].classes


def paths_of(data: DataSpec, seed: int) -> dict[str, Path]:
    """Where each recording lies, by its name in the lists. Raises DataError."""
    return {clip.filename: clip.path for clip in _folds(data, seed)[1]}


def samples_of(
    data: DataSpec, sample_rate: int, seed: int, filename: Sequence[str], segment: np.ndarray
) -> tuple[AudioCache, np.ndarray]:
    """The recordings of a data set at any rate, and the row (n,) in its samples of each (file name, segment).

    Whether a segment is silent may depend on the rate; then those of all segments are read.
    """
    clips = _folds(data, seed)[1]
    for silence_rms in (data.silence_rms, 0.0):
        audio = cached_audio(clips, sample_rate, data.segment_seconds, silence_rms, data.skip_bad)
        names = (audio.filename[clip] for clip in audio.clip.tolist())
        row = {key: row for row, key in enumerate(zip(names, audio.segment.tolist(), strict=True))}
        keys = list(zip(filename, segment.tolist(), strict=True))
        if all(key in row for key in keys):
            return audio, np.array([row[key] for key in keys], np.int64)
    absent = next(key for key in keys if key not in row)
    raise DataError(f"{data.root}: segment {absent[1]} of {absent[0]} is not there at {sample_rate} Hz")


def load_devices(data: DataSpec, sample_rate: int) -> DeviceResponses | None:
    """The responses of the device protocol, if `data.device_irs` asks for it. Raises DataError."""
    return devices.load_responses(Path(data.device_irs).expanduser(), sample_rate) if data.device_irs else None


def stream_features(
    paths: Sequence[Path], features: FeatureSpec, segment_seconds: float = 1.0, batch: int = BATCH,
    damaged: OnDamage = refuse,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Features of any recordings in order, uncached: (rows (m,) int64, features (m, mel bands, frames)).

    `rows` are positions in `paths`; a recording longer than a segment gives several rows of one position.
    At most `batch` segments come at once. A damaged recording is left out if `damaged` does not raise. Raises DataError
    for a missing or damaged one, after all before it.
    """
    length = segment_length(segment_seconds, features)
    front_end = LogMel(features)
    waiting: list[np.ndarray] = []
    positions: list[int] = []
    damage: DataError | None = None
    try:
        for position, segments in stream_segments(paths, features.sample_rate, length, damaged):
            waiting.extend(segments)
            positions.extend([position] * len(segments))
            while len(waiting) >= batch:
                yield np.array(positions[:batch], np.int64), log_mel(front_end, np.stack(waiting[:batch]))
                del waiting[:batch], positions[:batch]
    except DataError as error:
        damage = error
    if waiting:
        yield np.array(positions, np.int64), log_mel(front_end, np.stack(waiting))
    if damage is not None:
        raise damage


def _compute(
    path: Path,
    parts: Sequence[Rows],
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
            append(log_mel(front_end, segments))
            step(stop - start)


def _segments(
    features: np.ndarray, rows: Rows, audio: AudioCache, classes: Sequence[str], seconds: float, several: bool
) -> Segments:
    number = {label: index for index, label in enumerate(classes)}
    return Segments(
        features=features,
        label=_sounding(rows.clip, audio.segment[rows.audio], number, seconds)
        if several
        else np.array([number[clip.label] for clip in rows.clip], np.int64),
        filename=tuple(clip.filename for clip in rows.clip),
        segment=audio.segment[rows.audio],
        device=rows.device,
        source=tuple(clip.source for clip in rows.clip),
    )


def _sounding(clips: Sequence[Clip], segment: np.ndarray, number: Mapping[str, int], seconds: float) -> np.ndarray:
    """(n, classes) float32: 1 where half of the segment, or half of the event, is within the other.

    So the segments that bear an event of at least a segment's length start and end at most half a segment from its
    onset and offset.
    """
    label = np.zeros((len(clips), len(number)), np.float32)
    for row, (clip, start) in enumerate(zip(clips, (segment * seconds).tolist(), strict=True)):
        for event in clip.events or ():
            shared = min(start + seconds, event.offset) - max(start, event.onset)
            if shared >= min(seconds, event.offset - event.onset) / 2 - ROUNDING:
                label[row, number[event.label]] = 1.0
    return label


def _recordings(rows: Rows, audio: AudioCache, responses: DeviceResponses | None, drawn: Sequence[str]) -> Recordings:
    """The training part as samples, with the devices it is heard through, and those it must not be."""
    if responses is None:
        device = np.array([0 if clip.recorded else -1 for clip in rows.clip], np.int64)
        return recordings_of(audio, rows.audio, rows.clip, device)
    heard = [name for name in responses.responses if name in drawn]
    number = {devices.AS_RECORDED: 0, **{name: index for index, name in enumerate(heard, start=1)}}
    return recordings_of(
        audio,
        rows.audio,
        rows.clip,
        np.array([number[name] for name in rows.device], np.int64),
        [responses.responses[name] for name in heard],
        [taps for name, taps in responses.responses.items() if name not in drawn],
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
    training, test = (
        sorted((clip.filename, clip.label, clip.device, *(clip.events or ())) for clip in part)
        for part in ((*folds.train, *folds.validation), folds.test)
    )
    return digest([audio.checksum, training, test, responses.checksum if responses else None])
