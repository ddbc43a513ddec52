"""What one worker of a search does: decide, claim, train, tell, until enough is trained."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import space, storage
from search.claims import give_way, is_first, is_wanted, take_back, worker
from search.draw import draw, values
from search.objective import Fit, Objective, rivals_of
from search.report import best_of, title_of, write_search
from search.storage import begin, end, trials_of
from system.budget import Budget
from system.dataset import PreparedData, prepare
from system.errors import RunError
from system.progress import duration, silent
from system.spec import ExperimentSpec

SAME_FAILURES = 3
WAIT_SECONDS = 1.0  # between two looks at trials that others train


@dataclass(frozen=True)
class Plan:
    """What all workers of a command share; a process can be given it."""

    experiment: ExperimentSpec  # of a trial
    budgets: tuple[Budget, ...]  # several: the levels of a front
    url: str
    study: str
    run: Path
    trials: int
    device: str = "auto"
    space: space.Space = space.DEFAULT
    int8: bool = False
    reclaim: bool = False
    quiet: bool = False  # a live table shows what the worker would print
    fit: Fit | None = None

    def open(self) -> optuna.Study:
        return storage.open_study(self.url, self.study, len(storage.OBJECTIVES) if len(self.budgets) > 1 else 1)

    def objective(self, data: PreparedData) -> Objective:
        rows = space.with_levels(self.space, [budget.text for budget in self.budgets])
        return Objective(self.experiment, self.budgets, data, self.device, rows, self.int8, self.fit)


def work(plan: Plan, index: int, data: PreparedData | None = None) -> None:
    """The worker of number `index`, which is part of the seed of what it draws.

    Raises RunError if trial after trial fails for one reason, or the storage stays away.
    """
    with silent() if plan.quiet else nullcontext():
        _work(plan, index, data, (lambda text: None) if plan.quiet else partial(print, flush=True))


def _work(plan: Plan, index: int, data: PreparedData | None, say: Callable[[str], None]) -> None:
    spec = plan.experiment
    study, objective = plan.open(), plan.objective(data or prepare(spec.data, spec.features, spec.seed))
    started, trained_here, since = time.monotonic(), 0, len(trials_of(study))
    with worker(plan.run) as me:
        if lost := take_back(study, me, plan.reclaim):
            say(f"continuing; of {lost} that a dead worker left, each starts again")
        while (trial := next_trial(study, objective, plan.trials, index, me, since)) is not None:
            objective.run(study, trial)
            trained_here += 1
            write_search(plan.run, study, plan.budgets)
            trials = trials_of(study)
            done = sum(map(storage.was_trained, trials))
            left = (plan.trials - done) * (time.monotonic() - started) / trained_here
            rivals = map(storage.record_of, [trials[trial.number], *rivals_of(trial, trials)])
            say(describe(storage.record_of(trials[trial.number]), best_of(rivals), done, plan.trials, left))


def next_trial(
    study: optuna.Study, objective: Objective, count: int, index: int, me: dict[str, str], since: int = 0
) -> FrozenTrial | None:
    """A trial that is this worker's to train; None if `count` are trained, or nothing is left to train.

    Waits while others train the last ones: one of them may be left. `since`: failures count from this trial on.
    """
    while True:
        take_back(study, me)
        trials = trials_of(study)
        held = sum(map(storage.holds, trials))
        if sum(map(storage.was_trained, trials)) >= count:
            return None
        refuse_to_go_on(trials[since:])
        if held >= count:
            time.sleep(WAIT_SECONDS)
            continue
        drawn = draw(study, objective, trials, index)
        if drawn is None:
            if held == sum(map(storage.was_trained, trials)):
                within = title_of(objective.budgets)
                print(f"every draw is infeasible or known; the space holds no more for {within}", flush=True)
                return None
            time.sleep(WAIT_SECONDS)
            continue
        attributes = {**objective.described(*drawn), storage.WORKER: me}
        trial = begin(study, drawn[0], values(objective.space), attributes)
        trials = trials_of(study)
        if not is_first(trial, trials):
            give_way(study, trial)
        elif not is_wanted(trial, trials, count):
            end(study, trial, TrialState.FAIL, {storage.INTERRUPTED: True, storage.REASON: "not needed any more"})
        else:
            return trial


def refuse_to_go_on(trials: list[FrozenTrial]) -> None:
    """Raises RunError if the last trials failed alike."""
    last = [trial for trial in trials if storage.was_trained(trial)][-SAME_FAILURES:]
    reasons = {trial.user_attrs.get(storage.REASON) for trial in last if trial.state == TrialState.FAIL}
    if len(last) == SAME_FAILURES and all(t.state == TrialState.FAIL for t in last) and len(reasons) == 1:
        numbers = ", ".join(str(trial.number) for trial in last)
        raise RunError(
            f"{SAME_FAILURES} trials in a row failed alike ({reasons.pop()}): trials {numbers}, see search.json; if it "
            "is not the data or the memory, narrow the space, or train one with python system/run.py train"
        )


def describe(record: dict[str, Any], best: dict[str, Any] | None, count: int, wanted: int, left: float) -> str:
    """One line per trial."""
    model, within = record["spec"], f"{record[space.BUDGET]}, " if space.BUDGET in record else ""
    text = (
        f"trial {record['number']} ({count} of {wanted}) {record['state'].lower()}: {within}"
        f"{model['block']}, {model['activation']}, {model['norm']}, {model['pooling']}, {model['downsampling']}, "
        f"width {model['width']}, {record['params']:,} params, {record['macs'] / 1e6:.2f} MMACs"
    )
    if record["log_loss"] is not None:
        text += f", log loss {record['log_loss']:.4f}, accuracy {record['accuracy']:.3f}"
    if record["seconds"] is not None:
        text += f", {duration(record['seconds'])}"
    if "reason" in record:
        text += f" ({record['reason']})"
    if best is not None:
        text += f"; best so far #{best['number']} {best['log_loss']:.4f}; about {duration(left)} of trials left"
    return text
