"""ONNX Runtime's own format (.ort, a FlatBuffer), which its reduced builds for mobile devices read.

It is written after the optimizations that hold on every processor, level `extended`: those of level `all` fit the
layout to the machine that writes the file. A .ort file is not optimized again where it is loaded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime

from system.errors import RunError
from system.files import write_with
from system.prediction.onnx_file import open_session

SEGMENTS = 16
TOLERANCE = 1e-6  # of the largest output: the same integers, float softmax of another order of sums


def write_ort(source: Path, path: Path, inputs: np.ndarray) -> float:
    """Convert `source` (.onnx) to `path` (.ort); returns the largest difference of an output over `inputs`.

    Raises RunError if the file does not load or does not give the outputs of `source`.
    """
    expected = _outputs(source, inputs)
    difference = 0.0

    def save(part: Path) -> None:
        nonlocal difference
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(part)
        options.add_session_config_entry("session.save_model_format", "ORT")
        try:
            onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's exceptions share no public base
            raise RunError(f"{source} cannot be converted: {str(error).splitlines()[0]}") from None
        difference = float(np.abs(_outputs(part, inputs) - expected).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise RunError(f"{path}: expected the outputs of {source}, found a difference of {difference:.3g}")

    write_with(path, save)
    return difference


def _outputs(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = open_session(path)
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]
