"""A search on a terminal: one table that is drawn again every second, read off the study that the workers share."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from search.objective import curve_of
from search.report import best_of, by_level, title_of
from search.space import BUDGET
from search.storage import record_of, state_of, trials_of, was_trained
from search.worker import Plan
from system.progress import duration

REDRAW_SECONDS = 1.0
LATEST = 8  # finished trials that are shown
COLUMNS = ("trial", "state", "network", "parameters", "MMACs", "epoch", "log loss", "accuracy", "time")


def on_terminal() -> bool:
    console = Console()
    return console.is_terminal and not console.is_dumb_terminal


@contextmanager
def table(plan: Plan) -> Iterator[None]:
    """Show the study of `plan` while the block runs."""
    study, ended = plan.open(), threading.Event()
    started, before = time.monotonic(), sum(map(was_trained, trials_of(study)))

    def now() -> Group:
        return render(trials_of(study), plan, time.monotonic() - started, before)

    def draw(live: Live) -> None:
        while not ended.wait(REDRAW_SECONDS):
            live.update(now(), refresh=True)

    with Live(now(), auto_refresh=False) as live:
        thread = threading.Thread(target=draw, args=(live,), name="live table", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            live.update(now(), refresh=True)


def render(trials: Sequence[FrozenTrial], plan: Plan, seconds: float, before: int) -> Group:
    """The table of a study after `seconds` of this command, which found `before` trials trained."""
    shown = Table(*COLUMNS, box=None, pad_edge=False)
    done = [trial for trial in trials if was_trained(trial)]
    running = [trial for trial in trials if trial.state == TrialState.RUNNING]
    best = [found["number"] for ones in by_level(map(record_of, done)).values() if (found := best_of(ones))]
    latest = done[-LATEST:]
    recent = {trial.number for trial in latest}
    latest = [trials[number] for number in best if number not in recent] + latest
    for trial in [*latest, *running]:
        style = "bold green" if trial.number in best else "dim" if trial in running else None
        shown.add_row(*cells(trial, plan.experiment.train.epochs), style=style)
    return Group(shown, Text(summary(trials, plan, seconds, len(done) - before)))


def cells(trial: FrozenTrial, epochs: int) -> list[str]:
    record, curve = record_of(trial), curve_of(trial)
    spec = record["spec"] or {}
    words = [record.get(BUDGET), *(spec.get(key, "") for key in ("block", "activation", "norm", "pooling", "width"))]
    network = ", ".join(str(word) for word in words if word is not None)
    begun = trial.datetime_start or datetime.now()
    seconds = record["seconds"] or (datetime.now() - begun).total_seconds()
    return [
        str(trial.number), record["state"].lower(), network, f"{record['params'] or 0:,}",
        f"{(record['macs'] or 0) / 1e6:.2f}", f"{len(curve)}/{epochs}", f"{curve[-1]:.4f}" if curve else "",
        "" if record["accuracy"] is None else f"{record['accuracy']:.3f}", duration(seconds),
    ]  # fmt: skip


def summary(trials: Sequence[FrozenTrial], plan: Plan, seconds: float, trained_here: int) -> str:
    """`12 of 40 trained: 8 to the end, 3 stopped early, 1 failed; 31 draws infeasible; 2 running; about 12 min left`"""
    states = [state_of(trial) for trial in trials if was_trained(trial)]
    infeasible = sum(state_of(trial) == "INFEASIBLE" for trial in trials)
    running = sum(trial.state == TrialState.RUNNING for trial in trials)
    parts = [
        f"{title_of(plan.budgets)}: {len(states)} of {plan.trials} trained: {states.count('COMPLETE')} to the end, "
        f"{states.count('PRUNED')} stopped early, {states.count('FAILED')} failed",
        f"{infeasible} draws infeasible",
        f"{running} running",
    ]
    if trained_here:
        parts.append(f"about {duration((plan.trials - len(states)) * seconds / trained_here)} left")
    return "; ".join([*parts, "Ctrl-C stops; the same command continues"])
