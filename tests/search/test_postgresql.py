"""The same against a real PostgreSQL, started here: workers, kills, and a server that goes away."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search import claims, patience, propose, storage
from search.claims import take_back, worker
from search.run import search as run_search
from search.storage import WORKER, begin, trials_of
from search.worker import work
from system.errors import RunError
from tests.search import sleeping

pytestmark = pytest.mark.slow
BINARIES = sorted(glob.glob("/usr/lib/postgresql/*/bin"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propose, "CANDIDATES", 3)


class Server:
    """A cluster in a folder of its own; PostgreSQL refuses to run as root, so root runs it as `postgres`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tinyscene-pg-"))
        self.user = "postgres" if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self("initdb", "-D", str(self.folder / "data"), "-U", "tinyscene", "-A", "trust", "--no-sync")
        self.url = f"postgresql+psycopg://tinyscene@127.0.0.1:{self.port}/postgres"

    def __call__(self, program: str, *words: str) -> None:
        command = [f"{BINARIES[-1]}/{program}", *words]
        done = subprocess.run(command, user=self.user, capture_output=True, text=True, cwd=self.folder, timeout=120)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        log = str(self.folder / "log")
        self("pg_ctl", "-D", str(self.folder / "data"), "-l", log, "-o", options, "-w", "start")

    def stop(self) -> None:
        self("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'tinyscene[distributed]'")
    if not BINARIES:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("root needs the user postgres of Debian's package to start a server")
    made = Server()
    made.start()
    yield made
    made.stop()
    shutil.rmtree(made.folder)


def plan_of(server: Server, tmp_path: Path, trials: int) -> Any:
    return replace(sleeping.plan_of(server.url, tmp_path / "run", trials), study=tmp_path.name)


def test_kill_9_at_ten_random_moments_in_a_row(server: Server, tmp_path: Path) -> None:
    sleeping.killed_again_and_again(plan_of(server, tmp_path, 12), workers=3, kills=10, seconds=1.0)


def test_four_workers_of_two_run_folders_share_the_trials(server: Server, tmp_path: Path) -> None:
    plan = plan_of(server, tmp_path, 16)
    other = replace(plan, run=tmp_path / "other")
    other.run.mkdir()
    for process in (team := [*sleeping.start(plan, 2), *sleeping.start(other, 2)]):
        process.join()
    assert [process.exitcode for process in team] == [0] * 4
    run_search(plan, 1, sleeping.DATA)
    sleeping.check(plan)


def test_a_machine_that_gives_no_sign_of_life_loses_its_trial(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    monkeypatch.setattr(claims, "HEARTBEAT", 1)
    monkeypatch.setattr(storage, "SILENCE", 3)
    plan = plan_of(server, tmp_path, 2)
    owner = {"name": "far", "host": "another-machine", "lock": "/nowhere/far.lock"}
    alive, silent = (
        begin(plan.open(), {"x": 1}, {"x": (1, 2)}, {"spec": spec, WORKER: owner}) for spec in ("alive", "silent")
    )
    study = plan.open()
    with worker(plan.run) as me, claims.signs_of_life(study, alive):
        with claims.signs_of_life(study, silent):
            time.sleep(2)
        assert take_back(study, me) == 0
        time.sleep(5)
        assert take_back(study, me) == 1
    assert trials_of(study)[alive.number].state == TrialState.RUNNING
    assert trials_of(study)[silent.number].state == TrialState.FAIL


def test_a_server_that_is_killed_in_the_middle_and_started_again_loses_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(server, tmp_path, 8)
    sleeper, count = plan.fit, 0
    back = threading.Timer(2.0, server.start)

    def train(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == 4:
            server.stop()
            back.start()
        sleeper(*args, **kwargs)

    work(replace(plan, fit=train), 0, sleeping.DATA)
    back.join()
    assert "the study's storage is away (" in capsys.readouterr().err
    sleeping.check(plan)


def test_a_server_that_stays_away_is_a_clear_error_and_the_same_command_continues(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(server, tmp_path, 5)
    sleeper, count = plan.fit, 0

    def train(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            server.stop()
        sleeper(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(patience, "PATIENCE", 1.0)
        with pytest.raises(RunError, match=r"the study's storage has been away for .*: the same command continues"):
            work(replace(plan, fit=train), 0, sleeping.DATA)
    with pytest.raises(RunError, match="the study cannot be opened") as caught:
        work(plan, 0, sleeping.DATA)
    assert "tinyscene@" not in str(caught.value)
    server.start()
    work(plan, 0, sleeping.DATA)
    sleeping.check(plan)
