"""The study: where trials are kept, how a killed search is picked up again."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event

from system.errors import RunError
from system.runs import differences

INTERRUPTED, INFEASIBLE, DUPLICATE, REASON = "interrupted", "infeasible", "duplicate", "reason"
SETTINGS, RUN = "settings", "run"


def open_study(url: str, name: str, seed: int) -> optuna.Study:
    """Open or make the study `name`. Raises RunError for a URL that cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shown = url.split("@")[-1]
    try:
        if url.startswith("sqlite:///"):
            new_database(Path(url.removeprefix("sqlite:///").partition("?")[0]))
        study = optuna.create_study(
            study_name=name,
            storage=opened(url),
            load_if_exists=True,
            direction="minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=0),
        )
    except Exception as error:  # SQLAlchemy, its drivers and Optuna each have their own
        raise RunError(
            f"--storage {shown}: the study cannot be opened ({first_line(error)}); expected a database URL such as "
            "sqlite:///runs/study.db"
        ) from None
    study.sampler = sampler(seed, len(study.get_trials(deepcopy=False)))
    return study


def opened(url: str) -> optuna.storages.RDBStorage:
    """The database, with half of SQLite's waiting at each of a trial's thirty small writes.

    The file survives the death of the process at any moment, and stays one file (a write-ahead log would not).
    """
    storage = optuna.storages.RDBStorage(url)
    if url.startswith("sqlite"):

        @event.listens_for(storage.engine, "connect")
        def _relax(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA journal_mode=TRUNCATE")
            connection.execute("PRAGMA synchronous=NORMAL")

        storage.remove_session()
        storage.engine.dispose()  # connections made so far are without
    return storage


def new_database(path: Path) -> None:
    """Make an SQLite file with Optuna's tables, whole, if there is none.

    Optuna makes the tables one by one: a file that was cut off between them could never be used again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        return
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
        part = Path(folder) / path.name
        tables = optuna.storages.RDBStorage(f"sqlite:///{part}")
        tables.remove_session()
        tables.engine.dispose()
        try:
            os.link(part, path)  # unlike a move, it never takes the place of a faster process's database
        except OSError:
            if not path.exists():
                os.replace(part, path)


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def sampler(seed: int, trials_so_far: int) -> optuna.samplers.BaseSampler:
    """TPE whose seed depends on how far the study is: a resumed study does not draw the same trials again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return optuna.samplers.TPESampler(
            seed=(seed * 1_000_003 + trials_so_far) % 2**32, multivariate=True, group=True, n_startup_trials=5
        )


def claim(study: optuna.Study, settings: dict[str, Any], run: str) -> None:
    """Bind the study to one experiment and its data, so that a shared database never mixes two.

    Raises RunError naming every difference to the settings the study was made with.
    """
    made_with = study.user_attrs.get(SETTINGS)
    if made_with is None:
        study.set_user_attr(SETTINGS, settings)
    elif different := differences(made_with, settings):
        raise RunError(
            f"{run}: the study {study.study_name!r} of this database was made with other settings "
            f"({'; '.join(different)}); give them, or another --study name"
        )


def reclaim(study: optuna.Study, run: str) -> int:
    """Trials that a dead process left running are marked as interrupted and put in line again; their number.

    Only those of this run folder, whose lock says that no other process works in it.
    """
    running = study.get_trials(states=(TrialState.RUNNING,))
    left = [trial for trial in running if trial.user_attrs.get(RUN, run) == run]
    for trial in left:
        study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={})
    return len(left)


def state_of(trial: FrozenTrial) -> str:
    """COMPLETE, PRUNED, FAILED or INFEASIBLE, as search.json has it; RUNNING and WAITING while they last."""
    if INFEASIBLE in trial.user_attrs:
        return "INFEASIBLE"
    return "FAILED" if trial.state == TrialState.FAIL else trial.state.name


def was_trained(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards --trials."""
    return state_of(trial) in ("COMPLETE", "PRUNED") or (
        state_of(trial) == "FAILED" and not {INTERRUPTED, DUPLICATE} & set(trial.user_attrs)
    )


def record_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial as search.json has it; metrics are of the validation part, null where there are none."""
    attrs = trial.user_attrs
    return {
        "number": trial.number,
        "state": state_of(trial),
        **{key: attrs.get(key) for key in ("params", "macs", "log_loss", "accuracy", "seconds", "epochs", "spec")},
        **({REASON: attrs[REASON]} if REASON in attrs else {}),
    }
