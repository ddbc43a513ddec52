"""Processes that Ctrl-C reaches while they work, and while they end."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from system import workers
from system.workers import run_team

SECONDS = 1.0


def works_and_is_slow_to_end(folder: Path) -> None:
    """Like a process with much to put away, on a machine with much to do."""
    atexit.register(ends, folder)
    (folder / str(os.getpid())).touch()
    time.sleep(60)


def ends(folder: Path) -> None:
    begun = time.monotonic()
    while time.monotonic() - begun < SECONDS:
        time.sleep(0.01)
    (folder / f"{os.getpid()}.ended").touch()


def test_a_worker_that_is_slow_to_end_is_not_interrupted_in_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    monkeypatch.setattr(workers, "STOP_SECONDS", SECONDS / 5)

    def interrupt() -> None:
        while len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run_team(works_and_is_slow_to_end, [(tmp_path,), (tmp_path,)], lambda: None)
    assert len(list(tmp_path.glob("*.ended"))) == 2
    assert capfd.readouterr().err == ""
