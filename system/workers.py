"""A team of processes on one machine: they split the cores, and Ctrl-C reaches all of them."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from system.errors import RunError, TinySceneError

WATCH_SECONDS = 0.5
STOP_SECONDS = 2.0  # between two interrupts to a worker that goes on


class WorkerDied(RunError):
    """A process ended as no Python program does by itself: killed, or out of memory."""


def run_team(work: Callable[..., None], each: Sequence[tuple[Any, ...]], watch: Callable[[], None]) -> None:
    """Call `work(*arguments)` in a process of its own for each of `each`; `watch` twice a second while any works.

    `work` must be importable, and its arguments picklable: processes are spawned, not forked, as CUDA and thread
    pools ask for. Raises the first TinySceneError or OSError of a worker once all have ended, WorkerDied if one died.
    The workers end with this process, however it ends.
    """
    context = multiprocessing.get_context("spawn")
    failures = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // len(each))
    team = [
        context.Process(target=_worker, args=(work, arguments, threads, failures), daemon=True) for arguments in each
    ]
    ours = signal.signal(signal.SIGINT, signal.SIG_IGN)  # while they import, Ctrl-C is heard by this process alone
    try:
        for process in team:
            process.start()
    finally:
        signal.signal(signal.SIGINT, ours)
    try:
        while alive := [process for process in team if process.is_alive()]:
            multiprocessing.connection.wait([process.sentinel for process in alive], timeout=WATCH_SECONDS)
            watch()
    except KeyboardInterrupt:
        while alive := [process for process in team if process.is_alive()]:
            multiprocessing.connection.wait([process.sentinel for process in alive], timeout=STOP_SECONDS)
            for process in alive:  # a terminal tells them too, but a signal may come from elsewhere
                if process.is_alive() and process.pid is not None:
                    os.kill(process.pid, signal.SIGINT)
        raise
    if not failures.empty():
        raise failures.get()
    if bad := [process.exitcode for process in team if process.exitcode]:
        raise WorkerDied(f"a worker ended with exit code {bad[0]}; the same command continues where it stopped")


def _worker(work: Callable[..., None], arguments: tuple[Any, ...], threads: int, failures: Any) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ["TERM"] = "dumb"  # several bars on one terminal would overwrite each other
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work(*arguments)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (TinySceneError, OSError) as error:
        failures.put(error)
    finally:  # it ends: another interrupt, while it does, would be told by a traceback
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
