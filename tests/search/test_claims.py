"""Workers that share a study, on every storage: no network twice, nothing lost with a worker that dies."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from search import patience, propose, storage
from search.claims import MOST_DEATHS, interrupted, is_dead, is_first, is_wanted, take_back, worker
from search.patience import Patient
from search.run import search as run_search
from search.storage import INTERRUPTED, WORKER, begin, end, trials_of, was_trained
from search.worker import work
from system.errors import RunError
from tests.search import sleeping

VALUES = {"x": (1, 2, 3)}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propose, "CANDIDATES", 3)


@pytest.fixture(params=["sqlite", "journal"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(storage, "JOURNAL_GRACE", 3)  # a lock of a killed process
    return f"{request.param}:///{tmp_path}/deep/study"


def begun(plan: Any, owner: dict[str, str] | None, spec: str = "a") -> Any:
    attributes = {"spec": spec, **({WORKER: owner} if owner else {})}
    return begin(plan.open(), {"x": 1}, VALUES, attributes)


def test_kill_9_at_ten_random_moments_in_a_row(url: str, tmp_path: Path) -> None:
    sleeping.killed_again_and_again(sleeping.plan_of(url, tmp_path / "run", 12), workers=2, kills=10, seconds=0.6)


def test_workers_share_the_trials_and_stop_at_the_number_asked_for(url: str, tmp_path: Path) -> None:
    plan = sleeping.plan_of(url, tmp_path / "run", 9)
    for process in (team := sleeping.start(plan, 3)):
        process.join()
    assert [process.exitcode for process in team] == [0, 0, 0]
    sleeping.check(plan)
    owners = {trial.user_attrs[WORKER]["name"] for trial in trials_of(plan.open()) if was_trained(trial)}
    assert len(owners) > 1


def test_two_run_folders_join_one_study(url: str, tmp_path: Path) -> None:
    """As two machines do: the second goes on with what the first has, and both end with the same result."""
    first, second = (sleeping.plan_of(url, tmp_path / name, 3) for name in ("here", "there"))
    work(first, 0, sleeping.DATA)
    work(replace(second, trials=5), 0, sleeping.DATA)
    run_search(replace(first, trials=5), 1, sleeping.DATA)
    results = [json.loads((plan.run / "search.json").read_text()) for plan in (first, second)]
    assert results[0] == results[1]
    assert len((second.run / "log").read_text().splitlines()) < 5


def test_a_dead_worker_s_trial_is_taken_back_and_a_living_one_s_is_not(url: str, tmp_path: Path) -> None:
    plan = sleeping.plan_of(url, tmp_path / "run", 1)
    with worker(plan.run) as me, worker(plan.run) as other:
        assert not is_dead(other)
        kept = begun(plan, other, "kept")
        assert take_back(plan.open(), me) == 0
        dead = {**other, "name": "dead", "lock": str(tmp_path / "dead.lock")}
        (tmp_path / "dead.lock").touch()
        lost = begun(plan, dead, "lost")
        assert take_back(plan.open(), me) == 1
        assert take_back(plan.open(), me) == 0
        trials = trials_of(plan.open())
        assert trials[kept.number].state == TrialState.RUNNING
        assert trials[lost.number].user_attrs[INTERRUPTED]
        assert [trial.number for trial in interrupted(trials)] == [lost.number]
        assert not end(plan.open(), lost, TrialState.COMPLETE, {}, [1.0])  # it was alive after all: too late
        assert trials_of(plan.open())[lost.number].state == TrialState.FAIL
    assert not list((plan.run / ".workers").glob("*"))


def test_a_network_that_kills_its_workers_is_given_up(url: str, tmp_path: Path) -> None:
    plan = sleeping.plan_of(url, tmp_path / "run", 1)
    with worker(plan.run) as me:
        for death in range(MOST_DEATHS):
            assert [t.user_attrs["spec"] for t in interrupted(trials_of(plan.open()))] == ["a"] * (death > 0)
            begun(plan, me, "a")
            assert take_back(plan.open(), me) == (death < MOST_DEATHS - 1)
    assert interrupted(trials_of(plan.open())) == []
    last = trials_of(plan.open())[-1]
    assert was_trained(last)
    assert last.user_attrs["reason"] == "5 workers died over it: out of memory?"


def test_a_network_is_given_up_once_also_where_two_died_over_it(url: str, tmp_path: Path) -> None:
    """The second was begun too, and killed before it could see that the first has the network."""
    plan = sleeping.plan_of(url, tmp_path / "run", 1)
    with worker(plan.run) as me:
        for _ in range(MOST_DEATHS - 1):
            begun(plan, me, "a")
            take_back(plan.open(), me)
        first, second = begun(plan, me, "a"), begun(plan, me, "a")
        assert take_back(plan.open(), me) == 0
    trials = trials_of(plan.open())
    assert [was_trained(trials[trial.number]) for trial in (first, second)] == [True, False]
    assert [trial.number for trial in trials if was_trained(trial)] == [first.number]
    assert interrupted(trials) == []


def test_another_machine_s_trial_is_taken_back_only_when_told_that_it_is_gone(url: str, tmp_path: Path) -> None:
    plan = sleeping.plan_of(url, tmp_path / "run", 1)
    begun(plan, {"name": "far", "host": "another-machine", "lock": "/nowhere/far.lock"})
    with worker(plan.run) as me:
        assert take_back(plan.open(), me) == 0
        assert take_back(plan.open(), me, everything=True) == 1


def test_of_two_trials_of_one_network_the_lower_number_has_it(url: str, tmp_path: Path) -> None:
    plan = sleeping.plan_of(url, tmp_path / "run", 1)
    first, second, third = (begun(plan, None, spec) for spec in ("a", "a", "b"))
    trials = trials_of(plan.open())
    assert [is_first(trial, trials) for trial in (first, second, third)] == [True, False, True]
    end(plan.open(), first, TrialState.FAIL, {INTERRUPTED: True})
    assert is_first(second, trials_of(plan.open()))
    assert interrupted(trials_of(plan.open())) == []  # the second has it


def test_of_more_trials_than_are_asked_for_the_last_are_not_trained(url: str, tmp_path: Path) -> None:
    plan = sleeping.plan_of(url, tmp_path / "run", 1)
    begun_ones = [begun(plan, None, spec) for spec in "abcd"]
    end(plan.open(), begun_ones[3], TrialState.COMPLETE, {}, [1.0])
    trials = trials_of(plan.open())
    assert [is_wanted(trial, trials, 3) for trial in trials[:3]] == [True, True, False]


class Away:
    """A storage that fails `times` times."""

    def __init__(self, times: int, error: type[Exception] = StorageInternalError) -> None:
        self.times, self.error, self.calls = times, error, 0

    def get_all_trials(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error("the server closed the connection\nand more")
        return "trials"


@pytest.mark.parametrize("error", [StorageInternalError, ConnectionResetError])
def test_a_storage_that_comes_back_was_waited_for(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", waits.append)
    away = Away(3, error)
    assert Patient(away).get_all_trials() == "trials"  # type: ignore[arg-type]
    assert waits == [0.5, 1.0, 2.0]
    assert capsys.readouterr().err.count("the study's storage is away (the server closed the connection)") == 3


def test_a_storage_that_stays_away_ends_in_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE", -1.0)
    with pytest.raises(RunError, match=r"has been away for .* \(the server closed the connection\); what was finished"):
        Patient(Away(9)).get_all_trials()  # type: ignore[arg-type]


def test_other_errors_are_not_repeated() -> None:
    away = Away(9, KeyError)
    with pytest.raises(KeyError):
        Patient(away).get_all_trials()  # type: ignore[arg-type]
    assert away.calls == 1


def test_a_storage_that_goes_away_in_the_middle_and_comes_back_loses_nothing(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, folder, aside = sleeping.plan_of(url, tmp_path / "run", 5), tmp_path / "deep", tmp_path / "aside"
    sleeper, count = plan.fit, 0
    back = threading.Timer(0.7, lambda: os.rename(aside, folder))

    def train(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            os.rename(folder, aside)
            back.start()
        sleeper(*args, **kwargs)  # type: ignore[misc]

    work(replace(plan, fit=train), 0, sleeping.DATA)  # type: ignore[arg-type]
    back.join()
    assert "storage is away (" in capsys.readouterr().err
    sleeping.check(plan)
