"""Frozen embeddings of recordings, for captioning, retrieval and classifiers of other tasks (paper 004, Section 7).

They are written as one NumPy archive (.npz, nothing pickled) of n recordings cut into s segments, with the arrays

    filename         (n,)       as given
    clip             (n, D)     mean of the recording's rows of `segment`
    segment          (s, D)     the pooled vector that the classifier reads
    frame            (s, T, C)  the last feature map before pooling, averaged over frequency
    row              (s,)       the recording of each segment, an index into `filename`
    start            (s,)       seconds from the start of the recording to that of the segment
    segment_seconds  ()         which the T time steps divide evenly

Vectors are float32. A recording shorter than a segment is padded by zeros. For ConvNeXt-Tiny (paper 004) and ten
seconds D and C are 768 and T is 31: the sequence that the paper's captioning decoder reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from system.checkpoint import Checkpoint
from system.data.decoding import OnDamage, refuse
from system.dataset import BATCH, stream_features
from system.errors import ConfigError
from system.files import whole_file
from system.models.network import Network, complexity
from system.progress import progress

BATCH_BYTES = 2**29  # of the largest maps alive at once


def write_embeddings(
    path: Path, checkpoint: Checkpoint, recordings: Sequence[Path], device: str = "cpu", damaged: OnDamage = refuse
) -> str:
    """Embed recordings, write them to `path` and return a line that says what is there.

    A damaged recording is left out if `damaged` does not raise; they must not all be. Raises ConfigError if `path`
    cannot be an archive, DataError for a missing or damaged recording.
    """
    if path.suffix != ".npz" or path.is_dir():
        raise ConfigError(f"--embeddings {path}: expected a file name that ends in .npz")
    with whole_file(path) as part:  # made first: a folder that cannot be written to is no surprise at the end
        arrays = embed(checkpoint, recordings, device, damaged)
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # numpy 2.4 takes the keys for its own options
    shapes = ", ".join(f"{name} {'x'.join(map(str, arrays[name].shape))}" for name in ("clip", "segment", "frame"))
    return f"{path}: {len(arrays['filename'])} recordings; {shapes}"


def embed(
    checkpoint: Checkpoint, recordings: Sequence[Path], device: str = "cpu", damaged: OnDamage = refuse
) -> dict[str, np.ndarray]:
    """The arrays of the archive. Raises DataError."""
    if (module := checkpoint.spec.model.module) is not None:
        raise ConfigError(f"--embeddings: the layers of {module}, a foreign module, are not known")
    network = checkpoint.network().to(device)
    rows, segments, frames = [], [], []
    done = 0
    with progress("embedding", len(recordings), unit="recordings") as step, torch.inference_mode():
        for row, vector, sequence in _batches(checkpoint, network, recordings, device, damaged):
            rows.append(row)
            segments.append(vector)
            frames.append(sequence)
            step(int(row[-1]) - done)  # its last recording may go on in the next batch
            done = int(row[-1])
        step(len(recordings) - done)
    kept, row = np.unique(np.concatenate(rows), return_inverse=True)  # of damaged ones there is nothing
    segment = np.concatenate(segments)
    first = np.searchsorted(row, np.arange(len(kept)))  # segment of each recording; every one has at least one
    seconds = checkpoint.spec.data.segment_seconds
    return {
        "filename": np.array([str(recordings[index]) for index in kept]),
        "clip": np.add.reduceat(segment, first) / np.bincount(row)[:, None].astype(np.float32),
        "segment": segment,
        "frame": np.concatenate(frames),
        "row": row,
        "start": (np.arange(len(row)) - first[row]) * seconds,
        "segment_seconds": np.array(seconds),
    }


def _batches(
    checkpoint: Checkpoint, network: Network, recordings: Sequence[Path], device: str, damaged: OnDamage
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(index of the recording (b,), pooled vectors (b, D), sequences (b, T, C)), in order."""
    spec = checkpoint.spec
    largest = complexity(spec.model, spec.input_shape(), len(checkpoint.classes)).peak_activation_bytes()
    size = max(1, min(BATCH, BATCH_BYTES // (4 * largest)))  # float32 takes four bytes where INT8 takes one
    for row, features in stream_features(recordings, spec.features, spec.data.segment_seconds, size, damaged):
        x = torch.from_numpy(checkpoint.standardize(features)).to(device)
        x = network.features(x)  # (B, C, F', T')
        vector = network.head.embed(x).flatten(1)  # (B, D)
        sequence = x.mean(dim=2).transpose(1, 2)  # (B, T', C)
        yield row, vector.cpu().numpy(), sequence.contiguous().cpu().numpy()
