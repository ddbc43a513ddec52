"""What a package takes from a run folder, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quant.graph import read_graph
from quant.graph_report import graph_report
from quant.portable import proof
from submission.event_rows import EventRows
from system.budget import Budget
from system.config import load_yaml, parse
from system.editions import Edition
from system.errors import RunError
from system.files import read_json
from system.runs import first_run
from system.scoring.predictions import Predictions
from system.spec import ExperimentSpec

MODEL_FILES = ("int8.onnx", "parity.json", "complexity.json")  # what quant/run.py leaves in quant/BACKEND
SCORE_FILES = ("scores.json", "predictions.csv")  # the same, but for a run that was trained on everything
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
    """One quantized run: its experiment, and its INT8 model's costs, scores and test predictions.

    Scores and predictions of a run that was trained on everything (system/refit.py) are those of its first training.
    """

    folder: Path
    backend: str
    spec: ExperimentSpec
    complexity: Mapping[str, Any]
    scores: Mapping[str, Any]
    predictions: Predictions | EventRows
    tuned: bool  # the exported weights come from quantization-aware training, not from calibration alone
    energy: Mapping[str, Any]  # of one segment where it was quantized (system/energy.py)
    portable: Mapping[str, Any] | None = None  # the proof of quant/portable.py

    @property
    def scenes(self) -> Predictions:
        """`predictions` of one class for each recording: editions have one task, see check_fits."""
        assert isinstance(self.predictions, Predictions)
        return self.predictions

    @property
    def onnx(self) -> Path:
        return self.folder / "quant" / self.backend / "int8.onnx"

    @property
    def checkpoint(self) -> Path:
        return self.folder / "best" / "model.safetensors"

    @property
    def temperature(self) -> float:
        """Of the softmax of the INT8 logits (system/scoring/temperature.py)."""
        return float(self.scores["temperature"]["value"]) if "temperature" in self.scores else 1.0


def load_run(folder: Path, backend: str) -> RunParts:
    """Read what `python quant/run.py` left in a run. Raises RunError naming all that is missing and its maker."""
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise RunError(
            f"{folder}: expected a run folder, found {found}; python search/run.py (or system/run.py train) makes one"
        )
    config = folder / "best" / "config.yaml"
    if not config.is_file():
        raise RunError(f"{config} does not exist; python search/run.py (or system/run.py train) writes it")
    spec = parse(ExperimentSpec, load_yaml(config), str(config))
    first = first_run(folder, spec)
    otherwise = "trained" if spec.quant.epochs else "calibrated"
    needed = (*MODEL_FILES, *SCORE_FILES) if first == folder else MODEL_FILES
    parity, complexity = _quantized(folder, backend, needed, ("parity.json", "complexity.json"))
    _check_numbers(folder, backend, "complexity.json", complexity, COMPLEXITY_KEYS)
    first_parity, scores = _quantized(first, backend, ("parity.json", *SCORE_FILES), ("parity.json", "scores.json"))
    _check_numbers(first, backend, "scores.json", scores, ("accuracy", "log_loss", "n"))
    for key in ("class_wise", "device_wise"):
        _check_numbers(first, backend, "scores.json", scores, (key,), kind=dict)
        for name, row in scores[key].items():
            _check_numbers(first, backend, "scores.json", row, ("accuracy", "log_loss"), f"{key}.{name}.")
    if "temperature" in scores:
        _check_numbers(first, backend, "scores.json", scores["temperature"], ("value",), "temperature.", above=0)
    exported, scored = _exported(parity, otherwise), _exported(first_parity, otherwise)
    if exported != scored:
        raise RunError(f"{folder} exports {exported} weights, but the scores in {first} are of {scored} ones")
    answers = first / "quant" / backend
    predictions = EventRows.read(answers) if of_events(scores) else Predictions.read_csv(answers / "predictions.csv")
    costs, portable = of_graph(folder / "quant" / backend / "int8.onnx", complexity, predictions.classes, spec,
                               _maker(folder, backend))  # fmt: skip
    return RunParts(
        folder=folder,
        backend=backend,
        spec=spec,
        complexity=costs,
        scores=scores,
        predictions=predictions,
        tuned=exported == "trained",
        energy=_energy(folder, backend, parity),
        portable=portable,
    )


def of_events(scores: Mapping[str, Any]) -> bool:
    """Whether scores.json is of sound events: several classes at once, or none."""
    return scores.get("task") == "events"


def _maker(folder: Path, backend: str) -> str:
    return f"python quant/run.py qat --run {folder}" + ("" if backend == "brevitas" else f" --backend {backend}")


def _quantized(folder: Path, backend: str, needed: Sequence[str], read: Sequence[str]) -> list[Any]:
    """The content of the files `read` of quant/BACKEND, which must hold all `needed`."""
    quant = folder / "quant" / backend
    if missing := [name for name in needed if not (quant / name).is_file()]:
        raise RunError(f"{quant} has no {', '.join(missing)}; {_maker(folder, backend)} writes them")
    found = [read_json(quant / name, _maker(folder, backend)) for name in read]
    if wrong := [name for name, content in zip(read, found, strict=True) if not isinstance(content, dict)]:
        raise RunError(f"{quant}: expected a JSON object in {', '.join(wrong)}; {_maker(folder, backend)} writes it")
    return found


def _exported(parity: Mapping[str, Any], otherwise: str) -> str:
    """Which weights were exported, `trained` or `calibrated`, as the quantizer recorded it."""
    recorded = parity.get("validation")
    return str(recorded.get("exported", otherwise)) if isinstance(recorded, dict) else otherwise


def _check_numbers(
    folder: Path,
    backend: str,
    name: str,
    value: Any,
    keys: Sequence[str],
    prefix: str = "",
    kind: Any = (int, float),
    above: float = -math.inf,
) -> None:
    def fits(found: Any) -> bool:
        return isinstance(found, kind) and (kind is dict or above < found < math.inf)  # no NaN, no infinity

    wrong = [prefix + key for key in keys if not isinstance(value, dict) or not fits(value.get(key))]
    if wrong:
        what = "a mapping" if kind is dict else "a number" if above == -math.inf else f"a number above {above}"
        path = folder / "quant" / backend / name
        raise RunError(f"{path}: expected {what} at {', '.join(wrong)}; {_maker(folder, backend)} writes it anew")


def _energy(folder: Path, backend: str, parity: Mapping[str, Any]) -> Mapping[str, Any]:
    """What parity.json says of the energy of one segment. Raises RunError for what system/energy.py never says."""
    if "energy" not in parity:
        return {"joules": None, "not_measured": "not recorded when the run was quantized"}
    told = parity["energy"]
    _check_numbers(folder, backend, "parity.json", parity, ("energy",), kind=dict)
    if told.get("joules") is None:
        why = str(told.get("not_measured", "no reason was recorded"))
        return {"joules": None, "joules_above_idle": None, "not_measured": why}
    keys = ("joules", "joules_above_idle", "runs")
    _check_numbers(folder, backend, "parity.json", told, keys, "energy.")
    counters = told.get("counters")
    read = [str(counter) for counter in counters] if isinstance(counters, list) else []
    return {**{key: told[key] for key in keys}, "counters": read}


def of_graph(
    onnx: Path, complexity: Mapping[str, Any], classes: Sequence[str], spec: ExperimentSpec, maker: str
) -> tuple[Mapping[str, Any], Mapping[str, Any] | None]:
    """Costs, under the keys of complexity.json, and the proof of quant/portable.py: the graph's own, read off it.

    Raises RunError for a graph that is damaged, or that another complexity.json or predictions.csv lies beside.
    """
    graph = read_graph(onnx)
    counted = graph_report(graph, spec, len(classes))
    wrong = [
        f"{key} {complexity[key]:,} instead of {counted[key]:,}"
        for key in COMPLEXITY_KEYS
        if key != "peak_activation_bytes" and complexity[key] != counted[key]  # whose rule was another in older runs
    ]
    if wrong:
        raise RunError(
            f"{onnx.with_name('complexity.json')} tells of another graph than {onnx.name}: {', '.join(wrong)}; "
            f"{maker} writes both anew"
        )
    outputs = graph.shapes[graph.model.graph.output[0].name][-1]
    if outputs != len(classes):
        raise RunError(
            f"{onnx} has {outputs} outputs, but predictions.csv {len(classes)} classes; {maker} writes both anew"
        )
    return counted, proof(graph)


def budget_of(edition: Edition, run: RunParts) -> Budget | None:
    """The limits the model is held to: the edition's, or for an own data set the run's. None: no limit."""
    if edition.limits is not None:
        return Budget.parse(edition.limits)
    if run.spec.budget is None or edition.classes is not None:
        return None
    return Budget.parse(run.spec.budget, run.spec.view)
