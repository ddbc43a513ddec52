"""Labels by the float network of a run: a line for each segment of a scene, or for each event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from system.checkpoint import Checkpoint
from system.data.audio import seconds_of
from system.dataset import stream_features
from system.evaluation import probabilities_of
from system.events import decode, event_probabilities


def predict(checkpoint: Checkpoint, files: Sequence[Path], device: str) -> None:
    """Print `file, class, probability` of each segment, or `file, onset, offset, class` of each event, in seconds.

    Raises DataError for a missing or damaged recording.
    """
    network, spec = checkpoint.network().to(device), checkpoint.spec
    active: dict[int, list[np.ndarray]] = {}  # recording -> (classes,) of bool for each of its segments
    with torch.inference_mode():
        for rows, features in stream_features(files, spec.features, spec.data.segment_seconds):
            logits = network(torch.from_numpy(checkpoint.standardize(features)).to(device)).cpu().numpy()
            if checkpoint.thresholds is not None:
                for row, p in zip(rows.tolist(), event_probabilities(logits), strict=True):
                    active.setdefault(row, []).append(p >= checkpoint.thresholds)
                continue
            for row, p in zip(rows, probabilities_of(logits, checkpoint.temperature), strict=True):
                print(f"{files[row]}\t{checkpoint.classes[p.argmax()]}\t{p.max():.4f}")
    for row, segments in active.items():
        numbers, end = np.arange(len(segments)), seconds_of(files[row])  # the last segment may be filled up by zeros
        for event in decode(np.array(segments), numbers, checkpoint.classes, spec.data.segment_seconds):
            print(f"{files[row]}\t{event.onset:g}\t{min(event.offset, end):g}\t{event.label}")
