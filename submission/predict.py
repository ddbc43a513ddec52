"""Evaluation recordings -> class probabilities, by the INT8 graph that is handed in. Streamed: any length of list."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from submission.run_parts import RunParts
from system.errors import RunError
from system.evaluation import probabilities_of
from system.progress import progress

BATCH = 64  # segments; small enough that feature maps stay in a processor's cache


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
    from onnxruntime import InferenceSession

    from system.checkpoint import load_checkpoint
    from system.dataset import stream_features

    checkpoint = load_checkpoint(run.checkpoint)
    if checkpoint.classes != run.predictions.classes:
        raise RunError(f"{run.checkpoint} and {run.onnx.parent / 'predictions.csv'} have different classes")
    spec = checkpoint.spec
    session = InferenceSession(str(run.onnx), providers=["CPUExecutionProvider"])
    batches = stream_features(paths, spec.features, spec.data.segment_seconds, BATCH)
    standardized = ((rows, checkpoint.standardize(features)) for rows, features in batches)
    with progress("predicting the evaluation list", len(paths), unit="recordings") as step:
        return accumulate(standardized, session, len(paths), len(checkpoint.classes), step)


def accumulate(
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    session: Session,
    recordings: int,
    classes: int,
    step: object = None,
) -> np.ndarray:
    """(recordings, classes) probabilities; segments of one recording are joined by the mean of their log probabilities.

    Each batch is (row of each segment's recording, (segments, 1, mel bands, frames) network input).
    """
    total = np.zeros((recordings, classes))
    count = np.zeros(recordings, dtype=np.int64)
    for rows, inputs in batches:
        logits = session.run(["logits"], {"features": inputs})[0]
        before = np.count_nonzero(count)
        np.add.at(total, rows, np.log(probabilities_of(logits)))
        np.add.at(count, rows, 1)
        if callable(step):
            step(np.count_nonzero(count) - before)
    if not count.all():
        raise RunError(f"{int((count == 0).sum())} of {recordings} recordings gave no segment to classify")
    return probabilities_of(total / count[:, None])
