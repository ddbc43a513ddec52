"""Knowledge distillation: what teachers say of the training part, told once and kept in the cache.

A teacher is a run folder, a checkpoint (model.safetensors) or a file of logits, `{fold}` in its name the test fold;
several are an ensemble, averaged in log space (their log probabilities; of events, their log odds). One that is a run
hears each recording

- as it was recorded: no simulated device, no augmentation, so that a student learns from its own altered view what the
  teacher says of the plain one (as in CP-JKU's code of 2023, whose teachers' logits are files too);
- through its own front end and at its own sample rate, read from the files again;
- in windows of its own length: a longer window lies around the student's segment, within the recording, and is
  padded with silence where the recording is shorter; shorter ones cover the segment, overlapping where they must,
  and are averaged.

Where crops are random, it listens at `distill.offsets` equally spaced offsets per segment, and what it says of a crop
is interpolated between the two nearest: an approximation, exact at those offsets.

Files of logits (logit_files.py) know segments only: of a crop between two, the answer is interpolated between theirs.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from system.checkpoint import Checkpoint, load_checkpoint
from system.data.cache import build_once, cache_folder, digest
from system.data.recordings import runs
from system.dataset import PreparedData, Segments, samples_of
from system.errors import ConfigError, DataError
from system.features import LogMel
from system.learning.logit_files import FILES, read_logits
from system.learning.pretrained import check_fold, checkpoint_file
from system.progress import progress
from system.spec import ExperimentSpec

CODE_VERSION = 3
"""Raised whenever a teacher says something else of the same recordings."""

WINDOWS_AT_ONCE = 128
ROUNDING = 1e-3  # of a window: lengths are rounded to samples of either rate, and need no window more for that


@dataclass(frozen=True)
class Grid:
    """Where teachers listen: `steps` equally spaced offsets per segment of each run (system/data/recordings.py)."""

    steps: int
    order: np.ndarray  # (n,) int64: segments, run after run
    first: np.ndarray  # (n,) int64: row of the offset 0 of each segment's run
    place: np.ndarray  # (n,) int64 of each segment within its run
    begin: np.ndarray  # (rows,) int64: where the run of a row begins in `order`
    length: np.ndarray  # (rows,) int64 of its run, in segments
    step: np.ndarray  # (rows,) int64: its offset, in 1 / steps of a segment

    @classmethod
    def of(cls, data: PreparedData, steps: int) -> Grid:
        """For the training part; one without recordings has runs of one segment."""
        if (recordings := data.recordings) is not None:
            begin, place, length, order = recordings.begin, recordings.place, recordings.length, recordings.order
        else:
            begin, place, length, order = runs([(row, 0) for row in range(len(data.train))])
        starts, one = np.unique(begin, return_index=True)
        rows = (length[one] - 1) * steps + 1
        ends = np.cumsum(rows)
        return cls(
            steps,
            order,
            first=(ends - rows)[np.searchsorted(starts, begin)],
            place=place,
            begin=np.repeat(starts, rows),
            length=np.repeat(length[one], rows),
            step=np.arange(ends[-1]) - np.repeat(ends - rows, rows),
        )

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(n, C) of the segments -> (rows, C), interpolated between neighbours."""
        lower, rest = np.divmod(self.step, self.steps)
        upper = np.minimum(lower + 1, self.length - 1)
        weight = (rest / self.steps)[:, None].astype(np.float32)
        left, right = (values[self.order[self.begin + place]] for place in (lower, upper))
        return left + weight * (right - left)


@dataclass(frozen=True)
class Teachers:
    """An ensemble's logits over the grid of a training part."""

    grid: Grid
    logits: Tensor  # (rows, classes)

    def at(self, segments: Sequence[int], offset: np.ndarray | None = None) -> Tensor:
        """(m, classes) logits for the segments as they were cut, or at an `offset` (m,) of their runs, in segments."""
        chosen = np.asarray(segments)
        position = (self.grid.place[chosen] if offset is None else offset) * self.grid.steps
        lower = np.floor(position).astype(np.int64)
        upper = np.ceil(position).astype(np.int64)
        weight = torch.from_numpy((position - lower).astype(np.float32))[:, None]
        first = self.grid.first[chosen]
        return torch.lerp(self.logits[first + lower], self.logits[first + upper], weight)


def teachers_of(spec: ExperimentSpec, data: PreparedData, device: str = "cpu") -> Teachers | None:
    """The ensemble `spec.distill.teachers` on the training part, from the cache where it was asked before.

    Raises ConfigError, RunError or DataError for a teacher that cannot teach this data, or has heard its test fold.
    """
    if not spec.distill.teachers:
        return None
    grid = Grid.of(data, spec.distill.offsets if spec.augment.random_crop else 1)
    total: np.ndarray | float = 0.0
    for path in _paths(spec):
        if path.suffix in FILES:
            said = grid.spread(_from_file(path, data, data.train, "training segment"))
        else:
            said = _from_run(path, spec, data, grid, device)
        total = total + said / len(spec.distill.teachers)
    return Teachers(grid, _normalized(torch.from_numpy(np.asarray(total, np.float32)), data.task))


def check_other_seeds(spec: ExperimentSpec, data: PreparedData) -> None:
    """Refuse files of logits that lack what other seeds train on: what this one's validation part holds. DataError."""
    for path in _paths(spec):
        if path.suffix in FILES:
            _from_file(path, data, data.validation, "validation segment, as other seeds train on it")


def _paths(spec: ExperimentSpec) -> list[Path]:
    return [Path(name.replace("{fold}", str(spec.data.fold))).expanduser() for name in spec.distill.teachers]


def _from_run(path: Path, spec: ExperimentSpec, data: PreparedData, grid: Grid, device: str) -> np.ndarray:
    """(rows, classes) logits of a run, its classes in the order of the data."""
    file = checkpoint_file(path)
    teacher = load_checkpoint(file)
    check_fold("distill.teachers", path, teacher.spec.data, spec.data)
    if (teacher.thresholds is None) != (data.task == "scene"):
        raise ConfigError(f"distill.teachers: {path} was trained for another task; expected one for {data.task}")
    columns = _columns(path, teacher.classes, data.classes)
    train = data.train
    rate = teacher.spec.features.sample_rate
    audio, row = samples_of(spec.data, rate, spec.seed, train.filename, train.segment)
    content = hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    heard = digest([list(train.filename), train.segment.tolist(), grid.order.tolist(), grid.begin.tolist()])
    key = digest([CODE_VERSION, content, audio.checksum, spec.data.segment_seconds, grid.steps, heard])

    def build(folder: Path) -> None:
        np.save(folder / "logits.npy", _listen(teacher, audio.samples, row, grid, data.task, device, path))

    folder = build_once(cache_folder() / "teachers" / key, build)
    return np.load(folder / "logits.npy")[:, columns]


def _columns(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> list[int]:
    if sorted(theirs) != sorted(ours):
        raise ConfigError(
            f"distill.teachers: {path} knows the classes {', '.join(theirs)}; expected {', '.join(ours)}, in any order"
        )
    return [list(theirs).index(name) for name in ours]


@torch.inference_mode()
def _listen(
    teacher: Checkpoint, samples: np.ndarray, row: np.ndarray, grid: Grid, task: str, device: str, path: Path
) -> np.ndarray:
    """(rows, classes) normalized logits, in the teacher's order of classes; `row` (n,) of each segment in `samples`."""
    features = teacher.spec.features
    size, window = samples.shape[1], teacher.spec.segment_samples()
    front_end, network = LogMel(features).to(device), teacher.network().to(device)
    total = torch.zeros(len(grid.step), len(teacher.classes))
    count = torch.zeros(len(grid.step), 1)
    waiting: list[tuple[int, np.ndarray]] = []

    def answer() -> None:
        log_mel = front_end(torch.from_numpy(np.stack([wave for _, wave in waiting])).to(device)).cpu().numpy()
        logits = network(torch.from_numpy(teacher.standardize(log_mel)).to(device)).float().cpu()
        rows = torch.tensor([number for number, _ in waiting])
        total.index_add_(0, rows, _normalized(logits, task))
        count.index_add_(0, rows, torch.ones(len(rows), 1))
        waiting.clear()

    with progress(f"listening to {path}", len(grid.step), unit="segments") as step:
        for number, wave in _waves(samples, row, grid):
            at = round(int(grid.step[number]) / grid.steps * size)
            waiting.extend((number, piece) for piece in windows(wave, at, size, window))
            if len(waiting) >= WINDOWS_AT_ONCE:
                answer()
            step(1)
        if waiting:
            answer()
    return (total / count).numpy()


def _waves(samples: np.ndarray, row: np.ndarray, grid: Grid) -> Iterator[tuple[int, np.ndarray]]:
    """Each row of the grid with the samples of its whole run."""
    begun, wave = -1, np.empty(0, np.float32)
    for number, (begin, length) in enumerate(zip(grid.begin.tolist(), grid.length.tolist(), strict=True)):
        if begin != begun:
            begun, wave = begin, np.concatenate([samples[row[i]] for i in grid.order[begin : begin + length]])
        yield number, wave


def windows(wave: np.ndarray, at: int, size: int, window: int) -> list[np.ndarray]:
    """The pieces of `window` samples by which a teacher hears the `size` samples of `wave` from `at` on."""
    if window < size:
        pieces = math.ceil(size / window - ROUNDING)
        starts = [at + round(k * (size - window) / max(1, pieces - 1)) for k in range(pieces)]
    else:
        around = at + (size - window) // 2
        starts = [max(0, min(around, len(wave) - window))]
    found = [wave[start : start + window] for start in starts]
    return [np.pad(piece, (0, window - len(piece))) for piece in found]


def _normalized(logits: Tensor, task: str) -> Tensor:
    """The same probabilities as logits that can be averaged over teachers and windows."""
    return F.log_softmax(logits, dim=1) if task == "scene" else logits


def _from_file(path: Path, data: PreparedData, part: Segments, what: str) -> np.ndarray:
    """(n, classes) logits of a part of the data. Raises DataError for a file that lacks one, a `what`, or is none."""
    read = read_logits(path)
    columns = _columns(path, read.classes, data.classes)
    said = _normalized(torch.from_numpy(np.asarray(read.logits, np.float32)), data.task).numpy()[:, columns]
    sums: dict[tuple[str, int | None], tuple[np.ndarray, int]] = {}
    numbers: Sequence[int | None] = [None] * len(read.filename) if read.segment is None else read.segment
    for name, number, values in zip(read.filename, numbers, said, strict=True):
        before, times = sums.get((name, number), (np.zeros_like(values), 0))
        sums[name, number] = (before + values, times + 1)
    found = np.empty((len(part), len(columns)), np.float32)
    for index, (name, number) in enumerate(zip(part.filename, part.segment.tolist(), strict=True)):
        key = (name, None if read.segment is None else number)
        if key not in sums:
            where = name if read.segment is None else f"segment {number} of {name}"
            raise DataError(f"{path}: expected logits of every {what}; found none of {where}")
        found[index] = sums[key][0] / sums[key][1]
    return found
