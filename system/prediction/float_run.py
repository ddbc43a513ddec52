"""Labels by the float network of a run: a line for each segment of a scene, or for each event."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
import torch

from system.checkpoint import Checkpoint
from system.data.decoding import OnDamage, refuse, seconds_of
from system.dataset import stream_features
from system.errors import DataError
from system.prediction.label_lines import as_field, labelling
from system.scoring.events import decode, event_probabilities, over_time
from system.scoring.predictions import probabilities_of


def predict(checkpoint: Checkpoint, files: Sequence[Path], device: str, damaged: OnDamage = refuse) -> None:
    """Print `file, class, probability` of each segment, or `file, onset, offset, class` of each event, in seconds.

    The lines of a recording come when it is labelled. A damaged one is left out if `damaged` does not raise. Raises
    DataError for a missing or damaged one, after the lines of those before it.
    """
    damage: list[DataError] = []  # told at last, for only then is it known that the recording before it is complete

    def until_damaged() -> Iterator[tuple[int, np.ndarray]]:
        try:
            yield from _probabilities(checkpoint, files, device, damaged)
        except DataError as error:
            damage.append(error)

    with labelling(len(files)) as step:
        for row, found in groupby(until_damaged(), key=itemgetter(0)):
            of_segments = np.array([p for _, p in found])
            for text in _lines(checkpoint, files[row], of_segments):
                print(f"{as_field(files[row])}\t{text}")
            step(1)
        if damage:
            raise damage[0]


def _probabilities(
    checkpoint: Checkpoint, files: Sequence[Path], device: str, damaged: OnDamage
) -> Iterator[tuple[int, np.ndarray]]:
    """(index of the recording, (classes,) probabilities) of each segment, in order."""
    network, spec = checkpoint.network().to(device), checkpoint.spec
    for rows, features in stream_features(files, spec.features, spec.data.segment_seconds, damaged=damaged):
        with torch.inference_mode():
            logits = network(torch.from_numpy(checkpoint.standardize(features)).to(device)).cpu().numpy()
        scene = checkpoint.thresholds is None
        found = probabilities_of(logits, checkpoint.temperature) if scene else event_probabilities(logits)
        yield from zip(rows.tolist(), found, strict=True)


def _lines(checkpoint: Checkpoint, path: Path, probabilities: np.ndarray) -> Iterator[str]:
    """What there is to say of one recording, by the (segments, classes) probabilities."""
    if checkpoint.thresholds is None:
        yield from (f"{checkpoint.classes[p.argmax()]}\t{p.max():.4f}" for p in probabilities)
        return
    active = over_time(probabilities, checkpoint.median_window) >= checkpoint.thresholds
    end = seconds_of(path)  # the last segment may be filled up by zeros
    for event in decode(active, np.arange(len(active)), checkpoint.classes, checkpoint.spec.data.segment_seconds):
        yield f"{event.onset:g}\t{min(event.offset, end):g}\t{event.label}"
