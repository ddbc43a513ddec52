"""What a package's `Classifier` is made of: its source, and a run's INT8 graph and front end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import quant.integer
from quant.graph import read_graph
from quant.program import program_of
from submission.adapt import converted
from submission.inference.integer_model import REAL
from submission.packing.systems import Part
from system.checkpoint import load_checkpoint
from system.errors import RunError
from system.features import LogMel

FILES = Path(__file__).with_name("files")
SOURCES = (Path(__file__).with_name("integer_model.py"), Path(quant.integer.__file__))


def sources(package: str) -> dict[str, bytes]:
    """File name -> source. `package`: where they import each other from, "." if installed, "" in a flat folder."""
    texts = {path.name: path.read_text(encoding="utf-8") for path in SOURCES}
    return {
        name: text.replace("from quant.integer import", f"from {package}integer import").encode()
        for name, text in texts.items()
    }


def packaged(part: Part, classes: Sequence[str]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """(about, tensors) of one run; `about` is a JSON value. Raises RunError for a run whose files do not agree."""
    run = part.run
    trained = load_checkpoint(run.checkpoint)
    if trained.classes != run.predictions.classes:
        raise RunError(f"{run.checkpoint} and {run.onnx.parent / 'predictions.csv'} have different classes")
    program = program_of(read_graph(run.onnx), REAL)
    front_end = LogMel(trained.spec.features)
    arrays = {**program.tensors, "features.mean": trained.mean, "features.std": trained.std}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    tensors["features.window"] = front_end.window
    tensors["features.filters"] = front_end.filters
    about = {
        "features": trained.spec.features.plain(),
        "segment_seconds": trained.spec.data.segment_seconds,
        "temperature": run.temperature,
        "classes": list(classes),
        "class_map": converted(np.eye(len(trained.classes)), trained.classes, part.mapping, classes).tolist(),
        "program": program.plain(),
    }
    return about, tensors
