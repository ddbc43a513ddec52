"""A search over tiny data whose trainings are made up: the loss of a network is a number drawn from its spec."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Engine, event

from search import objective
from search import run as command
from search.worker import Plan
from system.budget import Budget
from system.learning.loop import Epoch
from system.spec import ExperimentSpec
from tests import tiny


@pytest.fixture(autouse=True, scope="session")
def unhurried_disk() -> Iterator[None]:
    """SQLite without waiting for the disk: a search commits hundreds of times."""

    def do_not_wait(connection: Any, _: Any) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", do_not_wait)
    yield
    event.remove(Engine, "connect", do_not_wait)


HALF_INFEASIBLE = Budget.parse("1500_params")


def loss_of(spec: ExperimentSpec) -> float:
    return 0.5 + zlib.crc32(json.dumps(spec.model.plain()).encode()) / 2**32


@dataclass
class MadeUpFit:
    """Stands in for system.training.fit. `on_start` may raise, as a training that fails or is killed."""

    trained: list[ExperimentSpec] = field(default_factory=list)
    on_start: Callable[[int, ExperimentSpec], None] = lambda count, spec: None
    loss: Callable[[ExperimentSpec], float] = loss_of

    def __call__(self, spec: ExperimentSpec, data: Any, *, on_epoch: Callable[[Epoch], None], **_: Any) -> None:
        self.trained.append(spec)
        self.on_start(len(self.trained), spec)
        for epoch in range(1, spec.train.epochs + 1):
            excess = spec.train.epochs - epoch
            on_epoch(Epoch(epoch, 1.0, self.loss(spec) + 0.1 * excess, 1 / (1 + self.loss(spec)), 0.01, 100.0))

    def specs(self) -> list[dict[str, Any]]:
        return [spec.model.plain() for spec in self.trained]


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> MadeUpFit:
    made_up = MadeUpFit()
    monkeypatch.setattr(objective, "fit", made_up)
    return made_up


class Search:
    """What search/run.py does between opening the study and training the winner; `plan` may be changed before."""

    def __init__(
        self, run: Path, fit: MadeUpFit, budgets: tuple[Budget, ...] = (HALF_INFEASIBLE,), *, seed: int = 0,
        epochs: int = 2,
    ) -> None:  # fmt: skip
        self.run, self.data = run, tiny.data(8, 4, 4)
        run.mkdir(exist_ok=True)
        self.plan = Plan(
            tiny.experiment(seed=seed, epochs=epochs), budgets, f"sqlite:///{run}/study.db", "search", run, 0, "cpu",
            fit=fit,
        )  # fmt: skip

    @property
    def study(self) -> optuna.Study:
        """The study as another process sees it."""
        return self.plan.open()

    def until(self, trials: int) -> dict[str, Any]:
        """Run until `trials` are trained; search.json."""
        command.search(replace(self.plan, trials=trials), 1, self.data)
        return self.result()

    def result(self) -> dict[str, Any]:
        return json.loads((self.run / "search.json").read_text())


@pytest.fixture
def search(tmp_path: Path, fit: MadeUpFit) -> Search:
    return Search(tmp_path / "run", fit)


class RandomChoices:
    """The part of an Optuna trial that the space needs, without Optuna."""

    def __init__(self, choose: Callable[[Any], Any]) -> None:
        self.choose = choose
        self.asked: dict[str, tuple[Any, ...]] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        assert name not in self.asked
        self.asked[name] = tuple(choices)
        return self.choose(choices)
