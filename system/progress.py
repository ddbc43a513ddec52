"""How far a long step is: a bar on a terminal, plain lines elsewhere. Both on standard error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.progress import Task as RichTask
from rich.text import Text

FIRST_LINE_SECONDS = 2.0
NEXT_LINE_SECONDS = 10.0
REDRAW_SECONDS = 0.05


class Step(Protocol):
    """What `progress` yields: call it with how many items were finished since the last call."""

    def __call__(self, n: int = 1, note: str = "") -> None: ...


@contextmanager
def progress(what: str, total: int | None, unit: str = "items") -> Iterator[Step]:
    """Show the progress of `total` items (None: unknown) with rate and time left, while the block runs.

    Safe to step from several threads. Without a terminal the first line comes after two seconds, even
    if nothing is finished by then, and later ones at most every ten.

    >>> with progress("reading audio", 400, unit="clips") as step:
    ...     step(20)
    """
    if _silenced:
        yield lambda n=1, note="": None
        return
    console = Console(stderr=True)
    shown = _bar if console.is_terminal and not console.is_dumb_terminal else _lines
    with shown(what, total, unit, console) as step:
        yield step


_silenced: list[None] = []


@contextmanager
def silent() -> Iterator[None]:
    """No progress is shown in this process while the block runs: something else shows it."""
    _silenced.append(None)
    try:
        yield
    finally:
        _silenced.pop()


class _RateColumn(TextColumn):
    """Items per second, in the unit of the task."""

    def __init__(self) -> None:
        super().__init__("")

    def render(self, task: RichTask) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.3g} {task.fields['unit']}/s" if speed else "")


@contextmanager
def _bar(what: str, total: int | None, unit: str, console: Console) -> Iterator[Step]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # what is printed meanwhile goes above the bar; if standard output is elsewhere, it must go there all the same
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(what, total=total, unit=unit, note="")

        lock = threading.Lock()
        waiting, shown_at = 0, 0.0

        def step(n: int = 1, note: str = "") -> None:
            # Drawing costs more than many an item, so quick ones are shown together.
            nonlocal waiting, shown_at
            with lock:
                waiting += n
                if time.monotonic() - shown_at > REDRAW_SECONDS:
                    bar.update(task, advance=waiting)
                    waiting, shown_at = 0, time.monotonic()
            if note:
                bar.update(task, note=note)

        yield step
        bar.update(task, advance=waiting)


@contextmanager
def _lines(what: str, total: int | None, unit: str, console: Console) -> Iterator[Step]:
    start = time.monotonic()
    lock = threading.Lock()
    ended = threading.Event()
    done, latest, printed = 0, "", False

    def step(n: int = 1, note: str = "") -> None:
        nonlocal done, latest
        with lock:
            done += n
            latest = note or latest

    def report() -> None:
        # A thread of its own: a single slow item must not be silent.
        nonlocal printed
        wait = FIRST_LINE_SECONDS
        while not ended.wait(wait):
            with lock:
                print(line(what, done, total, unit, time.monotonic() - start, latest), file=sys.stderr, flush=True)
            printed, wait = True, NEXT_LINE_SECONDS

    reporter = threading.Thread(target=report, name=f"progress: {what}", daemon=True)
    reporter.start()
    try:
        yield step
    finally:
        ended.set()
        reporter.join()
        if printed:
            amount = f"{done} {unit}" if done else "ended"
            print(f"{what}: {amount} after {duration(time.monotonic() - start)}", file=sys.stderr, flush=True)


def line(what: str, done: int, total: int | None, unit: str, seconds: float, note: str = "") -> str:
    """One plain line, such as `reading audio: 120/400 clips, 55 clips/s, 5 s left`."""
    amount = f"{done}/{total} {unit}" if total is not None else f"{done} {unit}" if done else "no end known"
    parts = [f"{what}: {amount}"]
    if done and seconds > 0:
        rate = done / seconds
        parts.append(f"{rate:.3g} {unit}/s")
        if total is not None and total > done:
            parts.append(f"{duration((total - done) / rate)} left")
    else:
        parts.append(f"{duration(seconds)} so far")
    return ", ".join([*parts, note] if note else parts)


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `1.5 h`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
