"""Evaluation recordings -> class probabilities, by the INT8 graph that is handed in.

Streamed, so that a list may have any length; what is finished lies in the cache folder, so that an interrupted
prediction goes on where it was, and the same model never hears the same list twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from filelock import FileLock

from submission.adapt import joined
from submission.run_parts import RunParts
from system.data.cache import cache_folder, digest
from system.errors import DataError, RunError
from system.progress import progress
from system.scoring.predictions import probabilities_of

BATCH = 64  # segments; small enough that feature maps stay in a processor's cache
ALL_CORES = 0  # as ONNX Runtime counts threads
KEPT = 512  # recordings after which a prediction is kept


class Predict(Protocol):
    """Recordings -> (recordings, classes) probabilities in the order of the run's classes."""

    def __call__(self, paths: Sequence[Path], run: RunParts) -> np.ndarray: ...


class Session(Protocol):
    """The part of onnxruntime.InferenceSession that is used."""

    def run(self, output_names: Sequence[str], input_feed: dict[str, np.ndarray]) -> list[np.ndarray]: ...


def predict_recordings(paths: Sequence[Path], run: RunParts) -> np.ndarray:
    """Probabilities of each recording by `quant/BACKEND/int8.onnx`, with the front end the run was trained with.

    Raises DataError for a recording that cannot be read, RunError for a model that does not fit the run.
    """
    from quant.graph import session
    from system.checkpoint import load_checkpoint
    from system.dataset import stream_features

    checkpoint = load_checkpoint(run.checkpoint)
    if checkpoint.classes != run.predictions.classes:
        raise RunError(f"{run.checkpoint} and {run.onnx.parent / 'predictions.csv'} have different classes")
    spec = checkpoint.spec
    runtime = session(run.onnx, threads=ALL_CORES)

    def chunk(some: Sequence[Path]) -> np.ndarray:
        batches = stream_features(some, spec.features, spec.data.segment_seconds, BATCH)
        inputs = ((rows, checkpoint.standardize(features)) for rows, features in batches)
        return accumulate(inputs, runtime, len(some), run.temperature)

    what = [_checksum(run.onnx), _checksum(run.checkpoint), run.temperature, [_identity(path) for path in paths]]
    file = cache_folder() / "evaluation" / f"{digest(what)}.rows"
    return resumed(file, paths, len(checkpoint.classes), chunk)


def resumed(
    file: Path, paths: Sequence[Path], classes: int, chunk: Callable[[Sequence[Path]], np.ndarray], kept: int = KEPT
) -> np.ndarray:
    """`chunk` over all paths, `kept` at a time: (recordings, classes) float64. `file` holds the rows so far."""
    file.parent.mkdir(parents=True, exist_ok=True)
    width = classes * np.dtype(np.float64).itemsize
    with (
        _naming(file),
        FileLock(f"{file}.lock"),
        file.open("a+b") as rows,
        progress("predicting the evaluation list", len(paths), unit="recordings") as step,
    ):
        rows.seek(0)
        done = _whole(rows.read(), classes)
        rows.truncate(done * width)
        step(done)
        for start in range(done, len(paths), kept):
            some = paths[start : start + kept]
            rows.write(np.ascontiguousarray(chunk(some), dtype=np.float64).tobytes())
            rows.flush()
            step(len(some))
        rows.seek(0)
        return np.frombuffer(rows.read(), dtype=np.float64).reshape(-1, classes)


def _whole(content: bytes, classes: int) -> int:
    """How many rows were written before the first that was not: a kill may have cut it, a power cut left zeros."""
    whole = len(content) // (classes * np.dtype(np.float64).itemsize) * classes
    values = np.frombuffer(content, dtype=np.float64, count=whole).reshape(-1, classes)
    lost = ~(np.isfinite(values).all(axis=1) & values.any(axis=1))
    return int(lost.argmax()) if lost.any() else len(values)


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Let an error of writing, such as of a full disk, which knows no name, name the file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(file)
        raise


def _checksum(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


def _identity(path: Path) -> tuple[str, int, int]:
    """What tells a recording from a changed one without reading it. Raises DataError if it is missing."""
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path} is listed but cannot be found ({error.strerror})") from None
    return str(path.absolute()), status.st_size, status.st_mtime_ns


def accumulate(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], session: Session, recordings: int, temperature: float = 1.0
) -> np.ndarray:
    """(recordings, classes) probabilities; segments of one recording are joined by the mean of their log probabilities.

    Each batch is (row of each segment's recording, (segments, 1, mel bands, frames) network input). `temperature` is
    of the softmax of each segment.
    """
    rows, logs = [], []
    for some, inputs in batches:
        rows.append(some)
        logs.append(np.log(probabilities_of(session.run(["logits"], {"features": inputs})[0], temperature)))
    return joined(np.concatenate(rows), np.concatenate(logs), recordings)
