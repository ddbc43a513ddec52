"""Trials that sleep instead of training and write down what they do, and processes that work on them and are killed."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search import propose
from search.storage import INFEASIBLE, trials_of, was_trained
from search.worker import Plan, work
from system.learning.loop import Epoch
from system.spec import ExperimentSpec
from tests import tiny
from tests.search.conftest import HALF_INFEASIBLE, loss_of

DATA = tiny.data(8, 4, 4)


@dataclass(frozen=True)
class Sleeper:
    """In place of a training: `seconds` for each epoch; the log gets a line as it starts and as it ends."""

    log: Path
    seconds: float

    def __call__(self, spec: ExperimentSpec, data: Any, *, on_epoch: Any, **_: Any) -> None:
        self._note("start", spec)
        for epoch in range(1, spec.train.epochs + 1):
            time.sleep(self.seconds)
            on_epoch(Epoch(epoch, 1.0, loss_of(spec), 0.5, self.seconds, 1.0))
        self._note("end", spec)

    def _note(self, what: str, spec: ExperimentSpec) -> None:
        line = json.dumps([what, os.getpid(), spec.model.plain()]) + "\n"
        handle = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(handle, line.encode())
        os.close(handle)


def plan_of(url: str, run: Path, trials: int, seconds: float = 0.03) -> Plan:
    run.mkdir(parents=True, exist_ok=True)
    experiment = tiny.experiment(epochs=2)
    return Plan(experiment, (HALF_INFEASIBLE,), url, "search", run, trials, "cpu", fit=Sleeper(run / "log", seconds))


def start(plan: Plan, workers: int) -> list[Any]:
    """Forked, so that a process is at work at once: everything is imported already."""
    features = {"a": "x"}
    propose.choose([propose.Seen(features, [1.0])] * 2, [features] * 2, 1, np.random.default_rng(0))
    context = multiprocessing.get_context("fork")
    team = [context.Process(target=work, args=(plan, index, DATA), daemon=True) for index in range(workers)]
    for process in team:
        process.start()
    return team


def kill_after(team: list[Any], seconds: float) -> None:
    time.sleep(seconds)
    for process in team:
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
    for process in team:
        process.join()


def facts(trial: FrozenTrial) -> Any:
    return (trial.state, trial.values, trial.params, trial.user_attrs, trial.intermediate_values)


def killed_again_and_again(plan: Plan, workers: int, kills: int, seconds: float) -> None:
    """Kill -9 at `kills` random moments in a row, then an undisturbed end; nothing is lost, changed or done twice."""
    generator = random.Random(0)
    finished: dict[int, Any] = {}
    for _ in range(kills):
        kill_after(start(plan, workers), generator.uniform(0.05, seconds))
        now = {trial.number: facts(trial) for trial in trials_of(plan.open()) if trial.state.is_finished()}
        for number, known in finished.items():
            assert now[number] == known, f"trial {number} was finished and is no more what it was"
        finished = now
    work(plan, 0, DATA)
    check(plan)
    trials = trials_of(plan.open())
    for number, known in finished.items():
        assert facts(trials[number]) == known


def check(plan: Plan) -> None:
    """As many trials as asked for, all different, and each network trained by one trial, begun once for each trial."""
    trials = trials_of(plan.open())
    trained = [trial for trial in trials if was_trained(trial)]
    assert len(trained) == plan.trials
    specs = [json.dumps(trial.user_attrs["spec"]) for trial in trained]
    assert len(set(specs)) == plan.trials
    assert TrialState.RUNNING not in [trial.state for trial in trials]
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert all(trial.params for trial in trials if INFEASIBLE in trial.user_attrs)
    assert isinstance(plan.fit, Sleeper)
    begun: Counter[str] = Counter()
    for line in plan.fit.log.read_text().splitlines():
        what, _, spec = json.loads(line)
        begun[json.dumps(spec)] += what == "start"
    made = Counter(json.dumps(trial.user_attrs.get("spec")) for trial in trials)
    assert set(specs) <= set(begun)
    for spec, times in begun.items():
        assert times <= made[spec]
    result = json.loads((plan.run / "search.json").read_text())
    assert result["best"]["log_loss"] == min(t.values[0] for t in trained if t.state == TrialState.COMPLETE)
