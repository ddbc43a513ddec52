"""One trial: a network within the budget -> a training that may be cut short -> its validation log loss."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import space as table
from search import storage
from search.claims import signs_of_life
from search.fidelity import Curve, stops
from search.fit_choices import fit_choices
from search.fit_width import Fitted
from search.space import DEFAULT, Choices, Space
from system.budget import Budget
from system.dataset import PreparedData, prepare
from system.errors import TinySceneError, TrainingError
from system.learning.loop import Epoch
from system.spec import DataSpec, ExperimentSpec, FeatureSpec
from system.training import Trained, fit

Fit = Callable[..., Trained]


class Stopped(Exception):
    """Raised inside a training to end it; says why."""


@dataclass(frozen=True)
class Objective:
    """What all trials share. `experiment.train.epochs` is the length of a trial."""

    experiment: ExperimentSpec
    budgets: tuple[Budget, ...]  # several: the levels of a front, which are a row of the space
    data: PreparedData
    device: str
    space: Space = DEFAULT
    int8: bool = False  # scored after calibration
    fit: Fit | None = None  # in place of a training, in tests and measurements of the search itself

    def fitted(self, choices: Choices) -> Fitted:
        return fit_choices(choices, self.experiment, self.budgets, len(self.data.classes))

    def described(self, choices: Choices, fitted: Fitted) -> dict[str, Any]:
        """The attributes of a trial that say what is trained."""
        assert fitted.spec is not None
        assert fitted.cost is not None
        found = {"spec": fitted.spec.plain(), "params": fitted.cost.params, "macs": fitted.cost.macs}
        found |= {} if fitted.cost.latency_ms is None else {"latency_ms": fitted.cost.latency_ms}
        features = table.features_of(choices, self.experiment.features)
        found |= {} if features == self.experiment.features else {"features": features.plain()}
        quant = table.precision_of(choices, self.experiment.quant)
        return found if quant == self.experiment.quant else {**found, "quant": quant.plain()}

    def run(self, study: optuna.Study, trial: FrozenTrial) -> TrialState:
        """Train and tell. Returns the state the trial ended in."""
        started = time.monotonic()
        history: list[Epoch] = []

        def on_epoch(row: Epoch) -> None:
            history.append(row)
            storage.report(study, trial, row.epoch, row.log_loss)
            others = [curve_of(other) for other in rivals_of(trial, storage.trials_of(study))]
            if reason := stops([row.log_loss for row in history], others, self.experiment.train.epochs):
                raise Stopped(reason)

        state, found = TrialState.COMPLETE, {}
        experiment = experiment_of(self.experiment, trial.user_attrs)
        what = f"trial {trial.number}"
        try:
            with signs_of_life(study, trial):
                data = data_of(experiment, self.experiment, self.data)
                trained = (self.fit or fit)(experiment, data, device=self.device, what=what, on_epoch=on_epoch)
                if self.int8:
                    found = self._quantized(experiment, data, trained)
        except Stopped as stopped:
            state, found[storage.REASON] = TrialState.PRUNED, str(stopped)
        except (RuntimeError, ValueError, TrainingError) as error:
            state, found[storage.REASON] = TrialState.FAIL, f"{type(error).__name__}: {error}".splitlines()[0]
        except (KeyboardInterrupt, TinySceneError) as error:  # no network's fault: the next search trains it
            reason = str(error) or "interrupted"
            storage.end(study, trial, TrialState.FAIL, {storage.INTERRUPTED: True, storage.REASON: reason})
            raise
        if history:
            last = history[-1]
            found = {"epochs": last.epoch, "log_loss": last.log_loss, "accuracy": last.accuracy, **found}
        found["seconds"] = round(time.monotonic() - started, 3)
        known = {**trial.user_attrs, **found}
        values = [known[name] for name in storage.objectives_of(study)] if state == TrialState.COMPLETE else None
        storage.end(study, trial, state, found, values)
        return state

    def _quantized(self, experiment: ExperimentSpec, data: PreparedData, trained: Trained) -> dict[str, Any]:
        from search.int8 import calibrated

        scores = calibrated(experiment, data, trained)
        return {**scores, "float_log_loss": trained.last.log_loss, "float_accuracy": trained.last.accuracy}


def data_of(experiment: ExperimentSpec, first: ExperimentSpec, data: PreparedData) -> PreparedData:
    """What an experiment trains on: the `data` of the `first`, unless it has another front end or validation part."""
    if (experiment.features, experiment.seed) == (first.features, first.seed):
        return data
    return _prepared(experiment.data, experiment.features, experiment.seed)


@lru_cache(maxsize=4)  # front ends that are searched
def _prepared(data: DataSpec, features: FeatureSpec, seed: int) -> PreparedData:
    return prepare(data, features, seed)


def experiment_of(experiment: ExperimentSpec, attributes: Mapping[str, Any]) -> ExperimentSpec:
    """The experiment with the network of a trial's attributes or record, and what else of it is searched."""
    searched = {name: attributes[name] for name in storage.SEARCHED if attributes.get(name)}
    return experiment.changed(model=attributes["spec"], **searched)


def rivals_of(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that one is compared with: all others of its budget. A large network is no measure of small ones.

    Interrupted ones are left out: they are trained again, and their curves would count twice.
    """
    others = [other for other in trials if other.number != trial.number and storage.INTERRUPTED not in other.user_attrs]
    return [other for other in others if storage.level_of(other) == storage.level_of(trial)]


def curve_of(trial: FrozenTrial) -> Curve:
    """Validation log loss after each epoch, as far as the trial got; of a whole one, what it was scored with."""
    values = trial.intermediate_values
    curve = [values[epoch] for epoch in range(1, len(values) + 1) if epoch in values]
    if trial.state == TrialState.COMPLETE and curve:
        curve[-1] = trial.user_attrs["log_loss"]
    return curve


def features_of(choices: Mapping[str, Any], cost: Mapping[str, Any]) -> dict[str, Any]:
    """What the model of search/propose.py sees of a network: choices as names, costs as orders of magnitude."""
    names = {name: str(value) for name, value in choices.items()}
    return {**names, "log_params": math.log10(cost["params"]), "log_macs": math.log10(cost["macs"])}
