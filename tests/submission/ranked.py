"""Systems to rank, made up in milliseconds: predictions on a small test fold in TAU's names, as runs and as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from system.editions import SCENES
from system.files import write_csv, write_json, write_yaml
from system.scoring.predictions import Predictions
from system.spec import ExperimentSpec

DEVICES = ("a", "s1", "s4")
CITIES = ("lyon", "paris", "vienna")  # system/data/made.py trains in the first two
COSTS = {"params": 1000, "macs": 50_000, "macs_exact": 40_000, "macs_nessi_tflite": 45_000, "total_bytes": 1200}


def fold(skill: float, seed: int = 0, locations: int = 12, seconds: int = 5) -> Predictions:
    """`locations` x `seconds` segments, recognized the better the larger `skill`; the truth is always the same."""
    truth = np.arange(locations).repeat(seconds) % len(SCENES)
    n = len(truth)
    logits = np.random.default_rng(seed).normal(size=(n, len(SCENES)))
    logits[np.arange(n), truth] += skill
    place = [(CITIES[i // seconds % 3], 100 + i // seconds) for i in range(n)]
    device = tuple(DEVICES[i % 3] for i in range(n))
    names = tuple(
        f"audio/{SCENES[truth[i]]}-{city}-{location}-7-{i % seconds}-{device[i]}.wav"
        for i, (city, location) in enumerate(place)
    )
    return Predictions(
        classes=SCENES,
        filename=names,
        segment=np.zeros(n, dtype=np.int64),
        device=device,
        label=tuple(SCENES[c] for c in truth),
        source=tuple(f"{city}-{location}" for city, location in place),
        probabilities=np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
    )


def part(predictions: Predictions, rows: slice) -> Predictions:
    """Some rows of predictions."""
    return replace(
        predictions,
        **{name: getattr(predictions, name)[rows] for name in ("filename", "segment", "device", "label", "source")},
        probabilities=predictions.probabilities[rows],
    )


def run(
    folder: Path, predictions: Predictions, backend: str | None = "brevitas", costs: Any = COSTS, **data: Any
) -> Path:
    """A run folder with an INT8 model and the float one it comes from, or with a float one alone (`backend` None)."""
    experiment = ExperimentSpec(**({"data": data} if data else {})).plain()
    write_yaml(folder / "best/config.yaml", experiment)
    for part in ("best", *([f"quant/{backend}"] if backend else [])):
        predictions.write_csv(folder / part / "predictions.csv")
        write_json(folder / part / "complexity.json", costs)
    return folder


def output(path: Path, predictions: Predictions, classes: tuple[str, ...] = SCENES, folder: bool = False) -> Path:
    """An output.csv as DCASE asks for it: tabs, base names unless `folder`, the class columns in any order."""
    order = [predictions.classes.index(name) for name in classes]
    rows = [
        (name if folder else name.rsplit("/", 1)[-1], label, *values)
        for name, label, values in zip(
            predictions.filename, predictions.predicted, predictions.probabilities[:, order].tolist(), strict=True
        )
    ]
    write_csv(path, ("filename", "scene_label", *classes), rows, delimiter="\t")
    return path
