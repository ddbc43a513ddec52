"""`made`: synthetic scenes written as wav files in the TAU 2022 Mobile layout, so that nothing must be downloaded.

What the files hold is `system/data/scenes.py`'s business; this module decides who records what, and writes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from system.data import scenes
from system.data.cache import build_once, cache_folder
from system.data.folds import DATASETS, DatasetFolds
from system.data.tau import LIST_COLUMNS, META_COLUMNS, check_fold, load_layout
from system.editions import SCENES
from system.errors import DataError
from system.files import write_csv
from system.progress import progress
from system.spec import DataSpec

VERSION = 1
"""Raised whenever other bytes come out; each version has its own folder."""

CITIES = ("barcelona", "helsinki", "lisbon", "london", "lyon", "milan", "paris", "prague", "stockholm", "vienna")
TRAINING_CITIES = CITIES[:8]  # the other two are only tested on
SEGMENT_SECONDS = 5  # consecutive files of one location that share a segment number
WRITERS = 2


@dataclass(frozen=True)
class Part:
    """How one part of the set is recorded, in every scene."""

    name: str
    locations: int
    files: int  # per location
    cities: tuple[str, ...]
    devices: tuple[str, ...]  # in turn


PARTS = (
    # Mostly the good microphone, as in TAU; the last three devices are never trained on.
    Part("train", 12, 10, TRAINING_CITIES, ("a", "b", "a", "c", "a", "s1", "a", "s2", "a", "s3", "a", "a")),
    Part("test", 6, 9, CITIES, ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")),
    Part("neither", 1, 6, CITIES, ("a", "b", "c", "s1", "s2", "s3")),
)


@dataclass(frozen=True)
class Recording:
    """One file to make."""

    part: str
    scene: str
    city: str
    location: int
    segment: int
    second: int
    device: str

    @property
    def filename(self) -> str:
        return f"audio/{self.scene}-{self.identifier}-{self.segment}-{self.second}-{self.device}.wav"

    @property
    def identifier(self) -> str:
        return f"{self.city}-{self.location}"


@DATASETS.add("made")
def load(data: DataSpec, seed: int) -> DatasetFolds:
    """synthetic scenes, made once (240 MB in the cache folder) in the TAU 2022 layout; no download

    Raises DataError.
    """
    if data.root is not None:
        raise DataError(f"data set 'made' takes no folder, found --data-root {data.root}; name its --dataset as well")
    check_fold(data, "data set 'made'")  # before it is made
    return load_layout("made", made_folder(), data, seed)


def made_folder() -> Path:
    """The folder of the set, written on first use (well under a minute); one process writes, others wait."""
    return build_once(cache_folder() / f"made-v{VERSION}", lambda folder: write_set(folder, recordings()))


def recordings(parts: Sequence[Part] = PARTS) -> list[Recording]:
    """Every file of the set: scenes x parts x locations x files. Locations are in one part only."""
    result = []
    location, segment = 1000, 10000
    for scene in SCENES:
        for part in parts:
            for place in range(part.locations):
                city = part.cities[(place + len(scene)) % len(part.cities)]
                for number in range(part.files):
                    device = part.devices[(place * part.files + number) % len(part.devices)]
                    where = (location, segment + number // SEGMENT_SECONDS, number % SEGMENT_SECONDS)
                    result.append(Recording(part.name, scene, city, *where, device))
                location += 1
                segment += part.files // SEGMENT_SECONDS + 1
    return result


def write_set(folder: Path, files: Sequence[Recording]) -> None:
    """Write wav files, meta.csv and evaluation_setup/ into an existing folder."""
    (folder / "audio").mkdir()
    with ThreadPoolExecutor(WRITERS) as pool, progress("making scenes", len(files), unit="files") as step:
        for _ in pool.map(lambda recording: _write_wav(folder, recording), files):
            step(1)
    meta = [(file.filename, file.scene, file.identifier, file.device) for file in files]
    write_csv(folder / "meta.csv", META_COLUMNS, meta, delimiter="\t")
    setup = folder / "evaluation_setup"
    train = [(file.filename, file.scene) for file in files if file.part == "train"]
    test = [(file.filename, file.scene) for file in files if file.part == "test"]
    write_csv(setup / "fold1_train.csv", LIST_COLUMNS, train, delimiter="\t")
    write_csv(setup / "fold1_evaluate.csv", LIST_COLUMNS, test, delimiter="\t")
    write_csv(setup / "fold1_test.csv", LIST_COLUMNS[:1], [(name,) for name, _ in test], delimiter="\t")


def _write_wav(folder: Path, recording: Recording) -> None:
    number = SCENES.index(recording.scene)
    room = scenes.room_response(np.random.default_rng([VERSION, number, recording.location]))
    rng = np.random.default_rng([VERSION, number, recording.location, recording.segment, recording.second])
    samples = scenes.second_of(recording.scene, room, recording.device, rng)
    # 16 bits of precision in a 24-bit file: the last bits of sin() and fft() differ between processors,
    # and must not reach the file.
    values = np.round(samples * 32767).astype(np.int32) << 16
    content = io.BytesIO()  # a full disk is then an ordinary OSError
    soundfile.write(content, values, scenes.SAMPLE_RATE, subtype="PCM_24", format="WAV")
    (folder / recording.filename).write_bytes(content.getvalue())
