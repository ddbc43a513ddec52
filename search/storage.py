"""The study: where trials are kept, and how processes and machines share it.

A trial is made at once with its network (`begin`), so that the order of trial numbers, which every storage hands out
under a lock of its own, is the order in which networks were claimed: of two trials of one network the lower number
trains it. What is left to do is read off the trials alone; nothing is put in line, so nothing in line can be lost.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, ProgrammingError

from search.patience import Patient
from search.space import BUDGET
from system.errors import ConfigError, RunError
from system.runs import differences
from system.spec import ExperimentSpec

INTERRUPTED, INFEASIBLE, DUPLICATE, REASON = "interrupted", "infeasible", "duplicate", "reason"
SETTINGS, MADE_WITH, WORKER = "settings", "made_with", "worker"
SEARCHED = ("features", "quant")  # sections of an experiment that a trial may have of its own
OBJECTIVES = ("log_loss", "macs", "params")  # minimized: the first by a search, all by one for a front
URLS = (
    "sqlite:///FILE.db, postgresql+psycopg://USER@HOST/DATABASE for many machines, or journal:////DISK/FILE.log on a "
    "disk that they share (three slashes: below this folder)"
)
SQLITE_WAIT = 60  # seconds for another process's write
JOURNAL_GRACE = 10  # seconds after which a lock that a dead process left is taken
HEARTBEAT, SILENCE = 30, 120  # seconds between signs of life on a server, and after which a machine counts as dead


def open_study(url: str, name: str, objectives: int = 1) -> optuna.Study:
    """Open the study `name`, or make it for the first `objectives` of `OBJECTIVES`.

    Raises RunError for a URL that cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    shown = url.split("@")[-1]
    try:
        return optuna.create_study(
            study_name=name, storage=Patient(opened(url)),  # type: ignore[arg-type]
            load_if_exists=True, directions=["minimize"] * objectives,
            sampler=optuna.samplers.RandomSampler(), pruner=optuna.pruners.NopPruner(),
        )  # fmt: skip
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--storage {shown}: the Python package {error.name!r} is not installed; "
            "pip install 'tinyscene[distributed]'"
        ) from None
    except Exception as error:  # SQLAlchemy, its drivers and Optuna each have their own
        raise RunError(
            f"--storage {shown}: the study cannot be opened ({first_line(error)}); expected a URL such as {URLS}"
        ) from None


def opened(url: str) -> BaseStorage:
    """The storage behind a URL."""
    kind, _, path = url.partition(":///")
    if kind == "journal" and path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(path, JournalFileSymlinkLock(path, grace_period=JOURNAL_GRACE)))
    if kind == "sqlite":
        return sqlite(url)
    try:
        return server(url)
    except (IntegrityError, ProgrammingError):  # another machine made the tables at the same time
        return server(url)


def server(url: str) -> BaseStorage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # heartbeats are experimental in Optuna 5
        engine = {"pool_pre_ping": True}
        storage = RDBStorage(url, engine_kwargs=engine, heartbeat_interval=HEARTBEAT, grace_period=SILENCE)
    return optuna.storages.get_storage(storage)


def sqlite(url: str) -> BaseStorage:
    """SQLite with half of the waiting at each of a trial's small writes.

    The file survives the death of the process at any moment, and stays one file (a write-ahead log would not).
    """
    new_database(Path(url.removeprefix("sqlite:///").partition("?")[0]))
    storage = RDBStorage(url, engine_kwargs={"connect_args": {"timeout": SQLITE_WAIT}})

    @event.listens_for(storage.engine, "connect")
    def _relax(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=TRUNCATE")
        connection.execute("PRAGMA synchronous=NORMAL")

    storage.remove_session()
    storage.engine.dispose()  # connections made so far are without
    return optuna.storages.get_storage(storage)


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


def bind(study: optuna.Study, settings: dict[str, Any], made_with: dict[str, Any], run: str) -> None:
    """Bind the study to one experiment, its space and its data, so that a shared database never mixes two.

    Raises RunError naming every difference to the settings the study was made with.
    """
    if SETTINGS not in study.user_attrs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # names are experimental in Optuna 5; its dashboard shows them
            study.set_metric_names(list(objectives_of(study)))
        study.set_user_attr(MADE_WITH, made_with)
        study.set_user_attr(SETTINGS, settings)
    there = study.user_attrs[SETTINGS]  # read again: another may have been faster
    if different := differences(there, settings, usual=ExperimentSpec().plain()):
        raise RunError(
            f"{run}: the study {study.study_name!r} of this database was made with other settings "
            f"({'; '.join(different)}); give them, or another --study name"
        )


def objectives_of(study: optuna.Study) -> tuple[str, ...]:
    """What the values of a finished trial are."""
    return OBJECTIVES[: len(study.directions)]


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """All trials, in the order of their numbers; not to be changed."""
    return study.get_trials(deepcopy=False)


def begin(
    study: optuna.Study,
    choices: dict[str, Any],
    values: Mapping[str, Sequence[Any]],
    attributes: dict[str, Any],
    state: TrialState = TrialState.RUNNING,
) -> FrozenTrial:
    """A new trial with its choices (of `values`) and attributes, whole from the first moment."""
    template = create_trial(
        state=state,
        params=choices,
        distributions={name: CategoricalDistribution(values[name]) for name in choices},
        user_attrs=attributes,
    )
    if state == TrialState.RUNNING:
        template.datetime_start = datetime.now()
        template.datetime_complete = None
    trial_id = study._storage.create_new_trial(study._study_id, template)
    return next(trial for trial in reversed(trials_of(study)) if trial._trial_id == trial_id)


def report(study: optuna.Study, trial: FrozenTrial, epoch: int, log_loss: float) -> None:
    study._storage.set_trial_intermediate_value(trial._trial_id, epoch, log_loss)


def end(
    study: optuna.Study,
    trial: FrozenTrial,
    state: TrialState,
    attributes: dict[str, Any] | None = None,
    values: Sequence[float] | None = None,
) -> bool:
    """Finish a trial; False if another process finished it before, because it took this one for dead."""
    try:
        for key, attribute in (attributes or {}).items():
            study._storage.set_trial_user_attr(trial._trial_id, key, attribute)
        study._storage.set_trial_state_values(trial._trial_id, state, values)
    except UpdateFinishedTrialError:
        return trials_of(study)[trial.number].state == state
    return True


def network_of(trial: FrozenTrial) -> tuple[Any, ...]:
    """What a trial trains, to compare."""
    return network_in(trial.user_attrs)


def network_in(attributes: Mapping[str, Any]) -> tuple[Any, ...]:
    """The network, and the sections of the experiment that are searched with it."""
    return tuple(attributes.get(name) for name in ("spec", *SEARCHED))


def level_of(trial: FrozenTrial) -> str | None:
    """The budget that a trial of a front is of; None in any other search."""
    return trial.params.get(BUDGET)


def holds(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards --trials and keeps its network from being trained again."""
    return trial.state == TrialState.RUNNING or was_trained(trial)


def state_of(trial: FrozenTrial) -> str:
    """COMPLETE, PRUNED, FAILED or INFEASIBLE, as search.json has it; RUNNING and WAITING while they last."""
    if INFEASIBLE in trial.user_attrs:
        return "INFEASIBLE"
    return "FAILED" if trial.state == TrialState.FAIL else trial.state.name


def was_trained(trial: FrozenTrial) -> bool:
    """Whether a trial is over and counts towards --trials."""
    return state_of(trial) in ("COMPLETE", "PRUNED") or (
        state_of(trial) == "FAILED" and not {INTERRUPTED, DUPLICATE} & set(trial.user_attrs)
    )


def record_of(trial: FrozenTrial) -> dict[str, Any]:
    """A trial as search.json has it; metrics are of the validation part, null where there are none."""
    attrs, level = trial.user_attrs, level_of(trial)
    return {
        "number": trial.number,
        "state": state_of(trial),
        **({} if level is None else {BUDGET: level}),
        **{key: attrs.get(key) for key in ("params", "macs", "log_loss", "accuracy", "seconds", "epochs", "spec")},
        **{key: attrs[key] for key in (REASON, "limit", "latency_ms", *SEARCHED, "float_log_loss") if key in attrs},
    }
