"""Who is ranked: run folders, foreign files, and systems made of several of either."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from submission.board.tables import Answers, Key, Truth, answers_of, read_answers, read_truth
from system.config import load_yaml
from system.editions import EDITIONS
from system.errors import ConfigError, RunError
from system.files import read_json
from system.progress import progress
from system.registry import unknown
from system.runs import first_run, load_experiment
from system.scoring.predictions import Predictions
from system.spec import DataSpec

SPLITS = "|".join(dict.fromkeys(split for edition in EDITIONS.values() for split in edition.splits))
ARGUMENT = re.compile(rf"(?P<name>[^:=/]+):(?:(?P<split>{SPLITS})=)?(?P<path>.+)")
SPLIT_FILE = re.compile(rf"(?P<name>.+)\.output\.(?P<split>{SPLITS})\.csv")  # one of the outputs of one system
COSTS = {  # what a rule may ask for -> key of complexity.json, of an INT8 model
    "params": "params",
    "macs": "macs",
    "total_bytes": "total_bytes",
    "model_size_tflite_bytes": "total_bytes",
    "macs_tflite": "macs_nessi_tflite",
}
FLOAT_COSTS = {"params": "params", "macs": "macs", "macs_inference": "macs_exact"}
FLOAT_BYTES = 4
PREDICTIONS = "predictions.csv"
EVENTS = "events.csv"  # what only a model of sound events writes beside its predictions


@dataclass(frozen=True)
class Model:
    """One model's answers and costs."""

    form: str  # float, INT8 and the backend, or foreign
    answers: Answers
    costs: Mapping[str, float]
    data: tuple[DataSpec, ...] = ()  # of the run; several where folds are pooled
    float_answers: Answers | None = None  # of the same run


@dataclass(frozen=True)
class System:
    """One line of the board: a model, or one for each split of an edition (split -> model; "" for a single one)."""

    name: str
    models: Mapping[str, Model]

    @property
    def form(self) -> str:
        return ", ".join(dict.fromkeys(model.form for model in self.models.values()))

    @property
    def costs(self) -> dict[str, float]:
        """The largest of its models."""
        return _largest_costs(list(self.models.values()))


@dataclass(frozen=True)
class Item:
    """One argument of the command: `PATH`, `NAME:PATH` or `NAME:SPLIT=PATH`."""

    name: str | None
    split: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> Item:
        named = None if Path(text).exists() else ARGUMENT.fullmatch(text)
        if named:
            return cls(named["name"], named["split"] or "", Path(named["path"]))
        path = Path(text)
        split = SPLIT_FILE.fullmatch(path.name)
        return cls(str(path.parent / split["name"]), split["split"], path) if split else cls(None, "", path)


def load_systems(
    items: Sequence[Item], backend: str | None = None, reference: Path | None = None, partial: bool = False
) -> list[System]:
    """Read every run and file. Files of one NAME and SPLIT are pooled: the folds of one data set.

    A run is shown by each of its INT8 models (or that of `backend`), or by its float model if it has none.
    `reference` tells the true labels of foreign files; without it the runs do. Raises TinySceneError.
    """
    runs = [item for item in items if item.path.is_dir()]
    files = [item for item in items if not item.path.is_dir()]
    for item in files:
        if not item.path.exists():
            raise RunError(f"{item.path} does not exist; expected a run folder, predictions.csv or output.csv")
    models: dict[Item, list[Model]] = {}
    with progress("reading predictions", len(items), unit="systems") as step:
        for item in runs:
            models[item] = load_run(item.path, backend)
            step(1)
        truths = [read_truth(reference)] if reference else _truths(models)
        for item in files:
            models[item] = [Model("foreign", read_answers(item.path, truths, partial), {})]
            step(1)
    systems: dict[str, dict[str, list[Model]]] = {}
    for item in items:
        for model in models[item]:
            name = item.name or f"{item.path}" + (f" ({model.form})" if len(models[item]) > 1 else "")
            systems.setdefault(name, {}).setdefault(item.split, []).append(model)
    return [
        System(name, {split: _pooled(f"{name} {split}".strip(), several) for split, several in splits.items()})
        for name, splits in systems.items()
    ]


def _truths(models: Mapping[Item, Sequence[Model]]) -> list[Truth]:
    """The different test folds of the runs."""
    truths: list[Truth] = []
    for item, several in models.items():
        answers = several[0].answers
        if not any(truth.label == answers.label and truth.fits(answers.classes) for truth in truths):
            truths.append(Truth(str(item.path), answers.classes, answers.label))
    return truths


def _pooled(name: str, models: Sequence[Model]) -> Model:
    """The models of several folds as one: their answers together, the largest of their costs. Raises ConfigError."""
    if len(models) == 1:
        return models[0]
    answers = _joined(name, [model.answers for model in models])
    before = [model.float_answers for model in models if model.float_answers is not None]
    return Model(
        form=", ".join(dict.fromkeys(model.form for model in models)),
        answers=answers,
        costs=_largest_costs(models),
        data=tuple(spec for model in models for spec in model.data),
        float_answers=_joined(name, before) if len(before) == len(models) else None,
    )


def _largest_costs(models: Sequence[Model]) -> dict[str, float]:
    """Only what every model tells."""
    told = [key for key in models[0].costs if all(key in model.costs for model in models)]
    return {key: max(model.costs[key] for model in models) for key in told}


def _joined(name: str, several: Sequence[Answers]) -> Answers:
    classes = several[0].classes
    label: dict[Key, str] = {}
    row: dict[Key, int] = {}
    for answers in several:
        if set(answers.classes) != set(classes):
            raise ConfigError(f"{name}: its runs and files do not have the same classes")
        shared = label.keys() & answers.label.keys()
        if shared:
            raise ConfigError(
                f"{name}: {len(shared):,} segments such as {min(shared)[0]} are answered twice; its runs and files "
                "must be of different folds (give --backend where a run has several INT8 models)"
            )
        row.update({key: len(label) + number for key, number in answers.row.items()})
        label.update(answers.label)
    return Answers(
        classes=classes,
        label=label,
        row=row,
        probabilities=np.concatenate(
            [answers.probabilities[:, [answers.classes.index(name) for name in classes]] for answers in several]
        ),
        decision=tuple(decision for answers in several for decision in answers.decision),
    )


class Stored(NamedTuple):
    """One model of a run, as files."""

    form: str
    folder: Path  # of its predictions
    costs: Mapping[str, float]
    made_by: str


def stored_models(run: Path, backend: str | None = None) -> tuple[DataSpec, list[Stored]]:
    """The data section, and the INT8 models of a run, or its float model if there is none.

    Raises RunError naming the command that makes what is missing.
    """
    best = run / "best"
    trained_by = "python search/run.py (or system/run.py train)"
    if not (best / "config.yaml").is_file():
        raise RunError(f"{best / 'config.yaml'} does not exist; {trained_by} writes it")
    spec = load_experiment(best / "config.yaml")
    if (first := first_run(run, spec)) != run:
        raise RunError(f"{run} was trained on everything, so that it has no scores; rank {first}, whose scores it has")
    costs = _costs(best / "complexity.json", FLOAT_COSTS, trained_by)
    folders = sorted(path.parent for path in run.glob("quant/*/predictions.csv"))
    if backend is not None:
        folders = [run / "quant" / backend]
    if not folders:
        # best/complexity.json tells the bytes of the INT8 model to come; as it stands, a parameter takes four
        stored = {"total_bytes": FLOAT_BYTES * costs["params"]} if "params" in costs else {}
        return spec.data, [Stored("float", best, {**costs, **stored}, trained_by)]
    quantized_by = f"python quant/run.py qat --run {run}" + (f" --backend {backend}" if backend else "")
    told = {key: value for key, value in costs.items() if key == "macs_inference"}
    return spec.data, [
        Stored(
            f"INT8 {folder.name}", folder, {**told, **_costs(folder / "complexity.json", COSTS, quantized_by)},
            quantized_by,
        )
        for folder in folders
    ]  # fmt: skip


def load_run(run: Path, backend: str | None = None) -> list[Model]:
    """The models of a run on scenes. Raises RunError, and FormatError for predictions that are damaged."""
    data, stored = stored_models(run, backend)
    best = run / "best"
    before = _answers(best / PREDICTIONS, stored[0].made_by) if (best / PREDICTIONS).exists() else None
    return [
        Model(
            form=one.form,
            answers=before if before and one.folder == best else _answers(one.folder / PREDICTIONS, one.made_by),
            costs=one.costs,
            data=(data,),
            float_answers=before,
        )
        for one in stored
    ]


def _answers(path: Path, made_by: str) -> Answers:
    if not path.is_file():
        raise RunError(f"{path} does not exist; {made_by} writes it")
    if path.with_name(EVENTS).exists():
        raise RunError(f"{path.parent} predicts sound events, which are ranked among themselves: expected none here")
    return answers_of(Predictions.read_csv(path), str(path))


def _costs(path: Path, keys: Mapping[str, str], made_by: str) -> dict[str, float]:
    """Those of `keys` that complexity.json tells; nothing where there is no such file."""
    if not path.exists():
        return {}
    told = read_json(path, made_by)
    if not isinstance(told, dict):
        raise RunError(f"{path}: expected an object, found {type(told).__name__}; {made_by} writes it anew")
    return {key: told[name] for key, name in keys.items() if isinstance(told.get(name), int | float)}


def read_measured(path: Path, systems: Sequence[System], known: Sequence[str]) -> dict[str, dict[str, float]]:
    """--measured: system -> quantity -> number, such as sizes of foreign systems and times on a device.

    Raises ConfigError listing every fault.
    """
    names = [system.name for system in systems]
    faults, measured = [], {}
    for name, values in load_yaml(path).items():
        if name not in names:
            faults.append(unknown("system", name, names))
        elif not isinstance(values, dict):
            faults.append(f"{name}: expected quantities and numbers, found {values!r}")
        else:
            faults += [f"{name}: " + unknown("quantity", key, known) for key in values if key not in known]
            faults += [
                f"{name}.{key}: expected a number of 0 or more, found {value!r}"
                for key, value in values.items()
                if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf")
            ]
            measured[name] = values
    if faults:
        raise ConfigError(f"{path}: " + "; ".join(faults))
    return measured
