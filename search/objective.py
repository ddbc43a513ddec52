"""One trial: choices -> spec -> width -> cost within the budget -> a short training -> validation log loss."""

from __future__ import annotations

import time
from dataclasses import dataclass

import optuna
from optuna.trial import Trial, TrialState

from search import space, storage
from search.fit_width import Fitted, fit_width
from system.budget import Budget
from system.dataset import PreparedData
from system.errors import TrainingError
from system.spec import ExperimentSpec
from system.training import Epoch, fit


@dataclass(frozen=True)
class Objective:
    """What all trials share. `experiment.train.epochs` is the length of a trial."""

    experiment: ExperimentSpec
    budget: Budget
    data: PreparedData
    device: str

    def fitted(self, choices: space.Choices) -> Fitted:
        return fit_width(space.spec_of(choices), self.budget, self.experiment.input_shape(), len(self.data.classes))

    def run(self, study: optuna.Study, trial: Trial) -> TrialState:
        """Decide, train, tell. Returns the state the trial ended in."""
        fitted = self.fitted(space.suggest(trial))
        if fitted.spec is None:
            trial.set_user_attr(storage.INFEASIBLE, True)
            return self._tell(study, trial, TrialState.PRUNED, fitted.reason)
        plain = fitted.spec.plain()
        before = [past for past in study.get_trials(deepcopy=False) if storage.was_trained(past)]
        if any(past.user_attrs.get("spec") == plain for past in before):
            trial.set_user_attr(storage.DUPLICATE, True)
            return self._tell(study, trial, TrialState.FAIL, "this network was trained before")
        assert fitted.cost is not None
        trial.set_user_attr("spec", plain)
        trial.set_user_attr("params", fitted.cost.params)
        trial.set_user_attr("macs", fitted.cost.macs)
        return self._train(study, trial, self.experiment.changed(model=plain))

    def _train(self, study: optuna.Study, trial: Trial, experiment: ExperimentSpec) -> TrialState:
        started = time.monotonic()
        history: list[Epoch] = []

        def on_epoch(row: Epoch) -> None:
            history.append(row)
            trial.report(row.log_loss, row.epoch)
            if row.epoch < experiment.train.epochs and trial.should_prune():
                raise optuna.TrialPruned

        state, reason = TrialState.COMPLETE, ""
        try:
            fit(experiment, self.data, device=self.device, what=f"trial {trial.number}", on_epoch=on_epoch)
        except optuna.TrialPruned:
            state, reason = TrialState.PRUNED, "behind the median of the trials before it"
        except KeyboardInterrupt:
            trial.set_user_attr(storage.INTERRUPTED, True)
            self._tell(study, trial, TrialState.FAIL, "interrupted")
            study.enqueue_trial(trial.params)
            raise
        except (RuntimeError, ValueError, TrainingError) as error:
            state, reason = TrialState.FAIL, f"{type(error).__name__}: {error}".splitlines()[0]
        trial.set_user_attr("seconds", round(time.monotonic() - started, 3))
        if history:
            trial.set_user_attr("epochs", history[-1].epoch)
            trial.set_user_attr("log_loss", history[-1].log_loss)
            trial.set_user_attr("accuracy", history[-1].accuracy)
        return self._tell(study, trial, state, reason, history[-1].log_loss if history else None)

    @staticmethod
    def _tell(
        study: optuna.Study, trial: Trial, state: TrialState, reason: str = "", value: float | None = None
    ) -> TrialState:
        if reason:
            trial.set_user_attr(storage.REASON, reason)
        study.tell(trial, value if state == TrialState.COMPLETE else None, state=state)
        return state
