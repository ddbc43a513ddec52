"""Who trains what: no network twice, and nothing lost with a worker that died.

Each worker holds a lock file as long as it lives, and its trials name it. The operating system frees the lock with
the process, however it ended, so that any other process of the machine sees at once that the trial was left. Of
other machines a server's storage keeps signs of life; a journal keeps none, there `--reclaim` says that they are gone.
"""

from __future__ import annotations

import os
import platform
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from search.storage import (
    DUPLICATE,
    HEARTBEAT,
    INTERRUPTED,
    REASON,
    WORKER,
    end,
    holds,
    network_of,
    trials_of,
    was_trained,
)

FOLDER = ".workers"  # in the run folder
DIED = "its worker died"
MOST_DEATHS = 5  # over one network, before it is taken for the cause: it may need more memory than there is


@contextmanager
def worker(run: Path) -> Iterator[dict[str, str]]:
    """What this process's trials say of it, while it holds the lock that they name."""
    name = f"{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    path = run.resolve() / FOLDER / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield {"name": name, "host": platform.node(), "lock": str(path)}
    path.unlink(missing_ok=True)


def is_dead(owner: dict[str, str]) -> bool:
    """Whether a worker of this machine has ended without finishing its trial; False where that cannot be seen."""
    path = Path(owner["lock"])
    if owner["host"] != platform.node() or not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


def take_back(study: optuna.Study, me: dict[str, str], everything: bool = False) -> int:
    """Free the networks of trials whose worker is dead, so that they are trained at once; how many.

    Called between two trials of the worker `me`: any that is still in its name was left too. With `everything` also
    those of other machines that cannot be seen from here.
    """
    running = [trial for trial in trials_of(study) if trial.state == TrialState.RUNNING]
    if not running:
        return 0
    storage: Any = study._storage
    silent = set(storage._get_stale_trial_ids(study._study_id)) if has_heartbeat(study) else set()
    count = 0
    for trial in running:
        owner = trial.user_attrs.get(WORKER)
        if owner is not None and owner["name"] != me["name"]:
            foreign = owner["host"] != platform.node() or not Path(owner["lock"]).is_file()
            left = is_dead(owner) or trial._trial_id in silent or (everything and foreign)
            if not left:
                continue
        trials = trials_of(study)
        before = [other for other in trials if network_of(other) == network_of(trial)]
        if not is_first(trial, trials):  # its worker died before it could say so
            give_way(study, trial)
        elif sum(other.user_attrs.get(REASON) == DIED for other in before) + 1 < MOST_DEATHS:
            count += end(study, trial, TrialState.FAIL, {INTERRUPTED: True, REASON: DIED})
        else:
            end(study, trial, TrialState.FAIL, {REASON: f"{MOST_DEATHS} workers died over it: out of memory?"})
        if owner is not None and owner["host"] == platform.node() and owner["name"] != me["name"]:
            Path(owner["lock"]).unlink(missing_ok=True)
    return count


def has_heartbeat(study: optuna.Study) -> bool:
    storage: Any = study._storage
    return bool(getattr(storage, "get_heartbeat_interval", lambda: None)())


@contextmanager
def signs_of_life(study: optuna.Study, trial: FrozenTrial) -> Iterator[None]:
    """While the block runs, a server's storage is told that this trial is alive."""
    if not has_heartbeat(study):
        yield
        return
    storage: Any = study._storage
    ended = threading.Event()

    def beat() -> None:
        storage.record_heartbeat(trial._trial_id)
        while not ended.wait(HEARTBEAT):
            storage.record_heartbeat(trial._trial_id)

    thread = threading.Thread(target=beat, name=f"trial {trial.number}: signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=1)


def give_way(study: optuna.Study, trial: FrozenTrial) -> None:
    """End a trial whose network another one holds."""
    end(study, trial, TrialState.FAIL, {DUPLICATE: True, REASON: "this network was trained before"})


def is_first(trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> bool:
    """Whether no trial of a lower number holds the same network."""
    mine = network_of(trial)
    return not any(holds(other) and network_of(other) == mine for other in trials[: trial.number])


def is_wanted(trial: FrozenTrial, trials: Sequence[FrozenTrial], wanted: int) -> bool:
    """Whether fewer than `wanted` trials count that are finished or were begun before this one."""
    others = [other for other in trials if other.number != trial.number]
    return sum(was_trained(o) or (holds(o) and o.number < trial.number) for o in others) < wanted


def interrupted(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Trials that were cut short and whose network no other trial holds, each network once, the first first."""
    held = [network_of(trial) for trial in trials if holds(trial)]
    found: list[FrozenTrial] = []
    for trial in trials:
        if INTERRUPTED in trial.user_attrs and (network := network_of(trial)) not in held:
            held.append(network)
            found.append(trial)
    return found
