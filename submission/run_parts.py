"""What a package takes from a run folder, read and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from system.budget import Budget
from system.config import load_yaml, parse
from system.editions import Edition
from system.errors import ConfigError, RunError
from system.evaluation import Predictions, score
from system.files import read_json
from system.registry import unknown
from system.spec import ExperimentSpec

QUANT_FILES = ("int8.onnx", "parity.json", "complexity.json", "scores.json", "predictions.csv")
COMPLEXITY_KEYS = (
    "params",
    "params_nonzero",
    "macs",
    "macs_exact",
    "macs_torchinfo",
    "macs_nessi_tflite",
    "weight_bytes",
    "total_bytes",
    "peak_activation_bytes",
)


@dataclass(frozen=True)
class RunParts:
    """One quantized run: its experiment, and its INT8 model's costs, scores and test predictions."""

    folder: Path
    backend: str
    spec: ExperimentSpec
    complexity: Mapping[str, Any]
    scores: Mapping[str, Any]
    predictions: Predictions
    tuned: bool  # the exported weights come from quantization-aware training, not from calibration alone

    @property
    def onnx(self) -> Path:
        return self.folder / "quant" / self.backend / "int8.onnx"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "best" / "model.safetensors"


def load_run(folder: Path, backend: str) -> RunParts:
    """Read what `python quant/run.py` left in a run. Raises RunError naming all that is missing and its maker."""
    if not folder.is_dir():
        raise RunError(f"run folder {folder} does not exist; python search/run.py (or system/run.py train) makes it")
    config = folder / "best" / "config.yaml"
    if not config.is_file():
        raise RunError(f"{config} does not exist; python search/run.py (or system/run.py train) writes it")
    quant = folder / "quant" / backend
    command = f"python quant/run.py qat --run {folder}" + ("" if backend == "brevitas" else f" --backend {backend}")
    missing = [name for name in QUANT_FILES if not (quant / name).is_file()]
    if missing:
        raise RunError(f"{quant} has no {', '.join(missing)}; {command} writes them")
    complexity = read_json(quant / "complexity.json", command)
    scores = read_json(quant / "scores.json", command)
    parity = read_json(quant / "parity.json", command)
    _check_numbers(quant / "complexity.json", complexity, COMPLEXITY_KEYS, command)
    _check_numbers(quant / "scores.json", scores, ("accuracy", "log_loss", "n"), command)
    for key in ("class_wise", "device_wise"):
        _check_numbers(quant / "scores.json", scores, (key,), command, kind=dict)
        for name, row in scores[key].items():
            _check_numbers(quant / "scores.json", row, ("accuracy", "log_loss"), command, f"{key}.{name}.")
    spec = parse(ExperimentSpec, load_yaml(config), str(config))
    return RunParts(
        folder=folder,
        backend=backend,
        spec=spec,
        complexity=complexity,
        scores=scores,
        predictions=Predictions.read_csv(quant / "predictions.csv"),
        tuned=_exported(parity, "trained" if spec.quant.epochs else "calibrated") == "trained",
    )


def _exported(parity: Any, otherwise: str) -> str:
    """Which weights were exported, `trained` or `calibrated`, as the quantizer recorded it."""
    recorded = parity.get("validation") if isinstance(parity, dict) else None
    return str(recorded.get("exported", otherwise)) if isinstance(recorded, dict) else otherwise


def _check_numbers(
    path: Path, value: Any, keys: Sequence[str], command: str, prefix: str = "", kind: Any = (int, float)
) -> None:
    wrong = [prefix + key for key in keys if not isinstance(value, dict) or not isinstance(value.get(key), kind)]
    if wrong:
        what = "a mapping" if kind is dict else "a number"
        raise RunError(f"{path}: expected {what} at {', '.join(wrong)}; {command} writes it anew")


def budget_of(edition: Edition, run: RunParts) -> Budget | None:
    """The limits the model is held to: the edition's, or for an own data set the run's. None: no limit."""
    if edition.limits is not None:
        return Budget.parse(edition.limits)
    if run.spec.budget is None or edition.classes is not None:
        return None
    told = run.complexity.get("budget")
    view = told.get("view", "strictest") if isinstance(told, dict) else "strictest"
    return Budget.parse(run.spec.budget, view=view)


def check_fits(edition: Edition, run: RunParts) -> None:
    """Raise BudgetError with the excess of each quantity, RunError for a segment of another length."""
    seconds = run.spec.data.segment_seconds
    if edition.segment_seconds is not None and seconds != edition.segment_seconds:
        raise RunError(
            f"{run.folder} classifies segments of {seconds:g} s, edition {edition.key} asks for "
            f"{edition.segment_seconds:g} s: train with --set data.segment_seconds={edition.segment_seconds:g}"
        )
    budget = budget_of(edition, run)
    if budget is not None:
        budget.check(run.complexity, f"the INT8 model of {run.folder}")


def class_map(run_classes: Sequence[str], edition: Edition, path: Path | None) -> dict[str, str]:
    """Run class -> edition class: the same names, or those of a --label-map file.

    Raises ConfigError unless every class of the run is mapped and every class of the edition reached.
    """
    if edition.classes is None:
        if path is not None:
            raise ConfigError(f"edition {edition.key} keeps the run's own classes; leave --label-map out")
        return {name: name for name in run_classes}
    if path is None:
        if set(run_classes) != set(edition.classes):
            raise ConfigError(
                f"the run's classes ({', '.join(run_classes)}) are not the {len(edition.classes)} of edition "
                f"{edition.key} ({', '.join(edition.classes)}); give --label-map FILE, with run class: edition class"
            )
        return {name: name for name in run_classes}
    mapping = {str(key): value for key, value in load_yaml(path).items()}
    faults = [f"{name}: is not mapped" for name in run_classes if name not in mapping]
    faults += [unknown("class of the run", name, run_classes) for name in mapping if name not in run_classes]
    faults += [
        f"{name}: " + unknown("class of the edition", target, edition.classes)
        for name, target in mapping.items()
        if target not in edition.classes
    ]
    faults += [f"no class is mapped to {name}" for name in edition.classes if name not in mapping.values()]
    if faults:
        raise ConfigError(f"{path}: " + "; ".join(faults))
    return mapping


def converted(
    probabilities: np.ndarray, run_classes: Sequence[str], mapping: Mapping[str, str], classes: Sequence[str]
) -> np.ndarray:
    """(n, run classes) -> (n, edition classes): the probabilities of classes mapped to one are added."""
    matrix = np.zeros((len(run_classes), len(classes)))
    for row, name in enumerate(run_classes):
        matrix[row, list(classes).index(mapping[name])] = 1.0
    return np.asarray(probabilities, dtype=np.float64) @ matrix


def with_classes(run: RunParts, mapping: Mapping[str, str], classes: Sequence[str]) -> RunParts:
    """The run as if it had been trained on the edition's classes. Scores are computed anew where names change.

    Raises RunError if a class of the edition was not scored.
    """
    old = run.predictions
    if any(name != target for name, target in mapping.items()) or tuple(classes) != old.classes:
        predictions = replace(
            old,
            classes=tuple(classes),
            label=tuple(mapping[label] if label else "" for label in old.label),
            probabilities=converted(old.probabilities, old.classes, mapping, classes),
        )
        scores = score(predictions, str(run.scores.get("split", "test")), {}, run.spec.seed)
        run = replace(run, predictions=predictions, scores=scores)
    unscored = [name for name in classes if name not in run.scores["class_wise"]]
    if unscored:
        raise RunError(f"{run.folder}: scores.json has no result for the classes {', '.join(unscored)}")
    return run


def unknown_devices(devices: Sequence[str], run: RunParts) -> list[str]:
    """Devices of the edition that the run was not tested on."""
    return [name for name in devices if name not in run.scores["device_wise"]]
