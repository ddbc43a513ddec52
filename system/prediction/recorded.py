"""How a quantized network decides, as it was found when it was scored: the scores.json beside its integer file."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from system.checkpoint import Checkpoint
from system.errors import RunError
from system.files import read_json
from system.runs import first_run


def folder_of(path: Path, run: Path) -> Path:
    """Where the scores of an integer file are: beside it, or in the folder of `run` that it is a copy from."""
    if not (path.parent / "scores.json").is_file():
        for original in sorted((run / "quant").glob(f"*/*{path.suffix}")):
            if filecmp.cmp(original, path, shallow=False):
                return original.parent
    return path.parent


def temperature(folder: Path, checkpoint: Checkpoint) -> float:
    """That of the quantized network in `folder`; of the float one where none was fitted."""
    scores = _scores(folder, checkpoint)
    if "temperature" not in scores:
        return checkpoint.temperature
    with _told(folder, "temperature"):
        return float(scores["temperature"]["value"])


def with_decoding(folder: Path, checkpoint: Checkpoint) -> Checkpoint:
    """With thresholds and median window of the scores of the quantized network in `folder`, if it was scored."""
    scores = _scores(folder, checkpoint)
    if "thresholds" not in scores:
        return checkpoint
    with _told(folder, "thresholds"):
        thresholds = tuple(float(scores["thresholds"][name]) for name in checkpoint.classes)
    window = scores.get("median_window", 1)  # older scores know no medians
    return replace(checkpoint, thresholds=thresholds, median_window=window)


@contextmanager
def _told(folder: Path, key: str) -> Iterator[None]:
    """Raises RunError for scores that somebody has written otherwise."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{folder / 'scores.json'}: {key} cannot be read ({error!r}); quantize the run again") from None


def _scores(folder: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """scores.json of the quantized network in `folder`, empty where it has none: of no run, or not scored yet.

    A refit (system/refit.py) has those of its first training.
    """
    if checkpoint.spec.data.refit:
        folder = first_run(folder.resolve().parents[1], checkpoint.spec) / "quant" / folder.name
    path = folder / "scores.json"
    return read_json(path, "python quant/run.py qat") if path.is_file() else {}
