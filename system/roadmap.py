"""The KT roadmap on the user's data: every step trained by one recipe, a table and a picture beside Table 1.

Each training has a run folder of its own (`RUN/STEP/best`, `RUN/STEP-sSEED/best` for further seeds), so that a step is
resumed, evaluated and quantized like any other run. Folders are claimed by their lock: workers, and the same command
started twice, share the steps and train none of them twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any

from system.config import parse
from system.dataset import PreparedData, prepare
from system.errors import ConfigError, RunError
from system.experiment import train_and_report
from system.models.kt import ROADMAP, Step, specs
from system.models.network import complexity
from system.progress import duration, progress
from system.registry import unknown
from system.roadmap_table import Row, Training, write_roadmap
from system.runs import check_same, locked, provenance, write_settings
from system.spec import ExperimentSpec, ModelSpec
from system.workers import run_team

MACS_PER_VALUE = 80  # a value of a map costs a training on a CPU about as much time as 80 multiply-adds


def chosen_steps(names: str | None) -> tuple[Step, ...]:
    """The steps of a comma-separated list, in the order of the roadmap; all of them if None. Raises ConfigError."""
    if names is None:
        return ROADMAP
    known = {step.name: step for step in ROADMAP}
    asked = [name.strip() for name in names.split(",")]
    for name in asked:
        if name not in known:
            raise ConfigError(f"--steps: {unknown('step', name, known)}")
    return tuple(step for step in ROADMAP if step.name in asked)


def trainings(
    run: Path, base: ExperimentSpec, steps: Sequence[Step], seeds: int, model: Mapping[str, Any]
) -> list[Training]:
    """What is to be trained, a whole roadmap for one seed after the other.

    `base` gives data, features, augmentation and recipe; its model and budget are not used. `model` holds fields that
    every step gets. The rows of 40 bands get half the bands of the others. Raises ConfigError for a model that cannot
    be, before anything is trained.
    """
    networks = specs()
    found = []
    for seed in range(base.seed, base.seed + seeds):
        for step in steps:
            bands = max(1, base.features.n_mels * step.n_mels // 80)
            spec = base.changed(
                features=base.features.changed(n_mels=bands),
                model=parse(ModelSpec, {**networks[step.name].plain(), **model}, step.name),
                budget=None,
                temperature=1.0,  # the published losses are of the plain softmax
                seed=seed,
            )
            try:
                complexity(spec.model, spec.input_shape(), classes=2)
            except ConfigError as error:
                raise ConfigError(f"{step.name}: {error}") from None
            folder = run / (step.name if seed == base.seed else f"{step.name}-s{seed}")
            found.append(Training(step, spec, folder))
    return found


def run_roadmap(
    run: Path, base: ExperimentSpec, names: str | None, seeds: int, workers: int, model: Mapping[str, Any], device: str
) -> list[Row]:
    """Train what is not yet trained; write roadmap.json, .csv, .md and .png into `run`, and return their rows.

    Raises RunError if a step's folder holds another experiment.
    """
    asked = {step.name for step in chosen_steps(names)}
    every = trainings(run, base, ROADMAP, seeds, model)
    for training in every:
        check_same(training.best / "config.yaml", training.spec.plain())
    todo = [training for training in every if training.step.name in asked and not training.finished]
    data = data_of(next(training.spec for training in every if training.step.name in asked))

    def report() -> list[Row]:
        return write_roadmap(run, every, data)

    if todo:
        for spec in {(t.spec.features, t.spec.seed): t.spec for t in todo}.values():
            data_of(spec)  # fills the cache once, for all workers
        report()
        (work_together if workers > 1 else work)(todo, device, report, workers)
    return report()


@lru_cache(maxsize=2)  # one for each number of mel bands
def _prepared(data: Any, features: Any, seed: int) -> PreparedData:
    return prepare(data, features, seed)


def data_of(spec: ExperimentSpec) -> PreparedData:
    return _prepared(spec.data, spec.features, spec.seed)


def effort(training: Training) -> float:
    """The time of a training, in units that only compare: multiply-adds, and maps that pass through memory."""
    cost = complexity(training.spec.model, training.spec.input_shape(), 10, "train")
    return cost.macs_exact + MACS_PER_VALUE * sum(layer.output.size for layer in cost.layers)


def work(todo: Sequence[Training], device: str, report: Callable[[], Any], workers: int = 1) -> None:
    """Train, in this process, each of `todo` that no other process trains; `report` after each."""
    spent = made = 0.0
    for number, training in enumerate(todo, start=1):
        with ExitStack() as stack:
            training.best.mkdir(parents=True, exist_ok=True)
            try:
                stack.enter_context(locked(training.folder))
            except RunError:  # another process is at it
                continue
            if training.finished:
                continue
            rest = sum(effort(other) for other in todo[number - 1 :] if not other.finished)
            left = f", {duration(rest * spent / made / workers)} left for all" if made else ""
            started = time.monotonic()
            train(training, device, f"{training.folder.name} ({number} of {len(todo)}{left})")
            spent, made = spent + time.monotonic() - started, made + effort(training)
            report()


def train(training: Training, device: str, what: str) -> None:
    data = data_of(training.spec)
    write_settings(training.best / "config.yaml", training.spec.plain(), provenance(training.spec, data.checksum))
    train_and_report(training.spec, data, training.best, device, what=what)


def work_together(todo: Sequence[Training], device: str, report: Callable[[], Any], workers: int) -> None:
    """The same by several processes, which split the cores."""
    with progress("roadmap", len(todo), unit="trainings") as step:
        done = 0

        def watch() -> None:
            nonlocal done
            if (now := sum(training.finished for training in todo)) > done:
                step(now - done)
                done = now
                report()

        team = min(workers, len(todo))
        run_team(_worker, [(todo, device, team)] * team, watch)


def _worker(todo: Sequence[Training], device: str, workers: int) -> None:
    work(todo, device, lambda: None, workers)
