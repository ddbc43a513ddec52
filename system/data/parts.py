"""Which segments of the audio cache make a part (train, validation or test), and what each is heard through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from system.data import devices
from system.data.audio import AudioCache
from system.data.devices import DeviceResponses
from system.data.folds import Clip, DatasetFolds
from system.errors import DataError


@dataclass(frozen=True)
class Rows:
    """Which segment of the audio cache is heard through which device, in one part."""

    audio: np.ndarray  # (n,) int64, row of the audio cache
    clip: tuple[Clip, ...]
    device: tuple[str, ...]


def rows_of(
    clips: Sequence[Clip], audio: AudioCache, part: str, responses: DeviceResponses | None, drawn: Sequence[str]
) -> Rows:
    """The segments of a part in file order; in the test part once for every device of the protocol.

    `drawn`: the devices that a segment of any other part is heard through, each as often as it is meant to be.
    """
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
            heard = (devices.training_device(clip.filename, numbers[row], drawn),)
        chosen.extend((row, clip, device) for device in heard)
    return Rows(
        audio=np.array([row for row, _, _ in chosen], np.int64),
        clip=tuple(clip for _, clip, _ in chosen),
        device=tuple(device for _, _, device in chosen),
    )


def of_device(rows: Rows, device: str, part: str) -> Rows:
    """The segments heard through one device. Raises DataError if a part has none."""
    chosen = [row for row, name in enumerate(rows.device) if name == device]
    if rows.clip and not chosen:
        known = ", ".join(sorted(set(rows.device)))
        raise DataError(f"data.device: expected a device of the {part} part ({known}), found {device!r}")
    return Rows(rows.audio[chosen], tuple(rows.clip[row] for row in chosen), (device,) * len(chosen))


def check_left(folds: DatasetFolds, rows: dict[str, Rows]) -> None:
    """Leaving damaged recordings out must not empty a part or take a class out of the training part."""
    for part, chosen in rows.items():
        if getattr(folds, part) and not chosen.clip:
            raise DataError(f"{folds.root}: every recording of the {part} part is damaged")
    missing = sorted(set(folds.classes) - {label for clip in set(rows["train"].clip) for label in clip.labels})
    if missing:
        raise DataError(f"{folds.root}: every recording of class {missing[0]!r} in the training part is damaged")


def check_heard(folds: DatasetFolds, samples: np.ndarray, train: Rows, silence_rms: float) -> None:
    """A training part of silence cannot be standardized. Ends at the first sound, so with the first row as a rule."""
    for row in train.audio.tolist():
        level = np.sqrt(np.mean(np.square(samples[row], dtype=np.float64)))
        if level > 0 and level >= silence_rms:
            return
    raise DataError(
        f"{folds.root}: expected sound in the training part, found {len(train.clip)} segments of silence (root mean "
        f"squares of 0, or below a data.silence_rms of {silence_rms:g})"
    )
