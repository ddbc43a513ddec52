"""What every data set gives: clips, classes, and who is trained, validated and tested on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from system.registry import Registry
from system.spec import DataSpec


@dataclass(frozen=True)
class Clip:
    """One recording as a data set lists it."""

    filename: str  # as in the data set's own list, relative to its root
    path: Path
    label: str
    source: str  # recordings of one source (location, upload, speaker) stay on one side of a split
    device: str = "a"
    recorded: bool = True  # False: a simulated device


@dataclass(frozen=True)
class DatasetFolds:
    """A data set split for one experiment. Validation is a part of the training fold, by source."""

    name: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[Clip, ...]
    validation: tuple[Clip, ...]
    test: tuple[Clip, ...]


Loader = Callable[[DataSpec, int], DatasetFolds]
DATASETS: Registry[Loader] = Registry("data set")
"""name -> loader(data spec, seed)"""
