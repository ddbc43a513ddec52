"""A killed search loses at most its running trial; a storage that cannot be is refused in one line."""

from __future__ import annotations

import re
import sqlite3
import time
from itertools import count
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search import storage
from search.storage import MADE_WITH, begin, bind, open_study, record_of
from system.errors import RunError
from system.spec import ExperimentSpec
from tests.search.conftest import MadeUpFit, Search


class Killed(BaseException):
    """As good as SIGKILL: nothing is told to the study any more."""


def kill_on(count_to_kill: int) -> object:
    def on_start(count: int, spec: ExperimentSpec) -> None:
        if count == count_to_kill:
            raise Killed

    return on_start


@pytest.mark.parametrize("killed", [1, 3])
def test_after_a_kill_just_the_running_trial_is_trained_again(killed: int, search: Search, fit: MadeUpFit) -> None:
    fit.on_start = kill_on(killed)  # type: ignore[assignment]
    with pytest.raises(Killed):
        search.until(5)
    assert [trial.state for trial in search.study.trials].count(TrialState.RUNNING) == 1
    fit.on_start = lambda count, spec: None
    result = search.until(5)
    specs = fit.specs()
    assert len(specs) == 6
    assert specs[killed] == specs[killed - 1]  # at once, before any new one
    assert len({str(spec) for spec in specs}) == 5
    done = [trial for trial in result["trials"] if trial["state"] in ("COMPLETE", "PRUNED")]
    assert len(done) == 5
    assert TrialState.RUNNING not in [trial.state for trial in search.study.trials]


def test_a_finished_search_trains_nothing_more_and_a_longer_one_only_the_rest(search: Search, fit: MadeUpFit) -> None:
    search.until(3)
    before = search.result()
    assert search.until(3) == before
    assert len(fit.trained) == 3
    after = search.until(5)
    assert len(fit.trained) == 5
    assert after["trials"][: len(before["trials"])] == before["trials"]


def test_control_c_puts_the_trial_in_line_again(search: Search, fit: MadeUpFit) -> None:
    def interrupt(count: int, spec: ExperimentSpec) -> None:
        if count == 2:
            raise KeyboardInterrupt

    fit.on_start = interrupt
    with pytest.raises(KeyboardInterrupt):
        search.until(3)
    assert TrialState.RUNNING not in [trial.state for trial in search.study.trials]
    result = search.until(3)
    specs = fit.specs()
    assert len(specs) == 4
    assert specs[2] == specs[1]
    assert [trial["reason"] for trial in result["trials"] if trial["state"] == "FAILED"].count("interrupted") == 1


def test_a_resumed_study_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path, fit: MadeUpFit) -> None:
    Search(tmp_path / "whole", fit).until(6)
    whole = fit.specs()
    fit.trained.clear()
    parts = Search(tmp_path / "parts", fit)
    parts.until(3)
    parts.until(6)
    assert fit.specs() == whole
    assert len({str(spec) for spec in whole}) == 6


def test_a_search_that_was_interrupted_in_a_trial_draws_what_a_whole_one_does(tmp_path: Path, fit: MadeUpFit) -> None:
    Search(tmp_path / "whole", fit).until(5)
    whole = fit.specs()
    fit.trained.clear()

    def interrupt(count: int, spec: ExperimentSpec) -> None:
        if count == 3:
            raise KeyboardInterrupt

    fit.on_start = interrupt
    parts = Search(tmp_path / "parts", fit)
    with pytest.raises(KeyboardInterrupt):
        parts.until(5)
    parts.until(5)
    assert fit.specs() == [*whole[:3], *whole[2:]]


@pytest.mark.parametrize("stopped_after", [1, 4])
def test_a_search_that_was_interrupted_in_a_draw_records_and_trains_what_a_whole_one_does(
    stopped_after: int, tmp_path: Path, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def history(search: Search) -> list[tuple[int, str, dict[str, Any]]]:
        return [(trial.number, storage.state_of(trial), trial.params) for trial in search.study.trials]

    whole = Search(tmp_path / "whole", fit)
    whole.until(7)
    infeasible = count()

    def begin(study: optuna.Study, *rest: Any) -> Any:
        trial = storage.begin(study, *rest)
        if rest[-1] == TrialState.PRUNED and next(infeasible) == stopped_after:
            raise KeyboardInterrupt
        return trial

    parts = Search(tmp_path / "parts", fit)
    with monkeypatch.context() as patch:
        patch.setattr("search.draw.begin", begin)
        with pytest.raises(KeyboardInterrupt):
            parts.until(7)
    assert storage.state_of(parts.study.trials[-1]) == "INFEASIBLE"
    parts.until(7)
    assert history(parts) == history(whole)


def test_states_as_search_json_has_them(tmp_path: Path) -> None:
    study = open_study(f"sqlite:///{tmp_path}/study.db", "s")
    attributes = [{storage.INFEASIBLE: True}, {storage.DUPLICATE: True}, {storage.INTERRUPTED: True}, {}, {}, {}]
    failed, pruned = TrialState.FAIL, TrialState.PRUNED
    ends = [pruned, failed, failed, failed, pruned, TrialState.COMPLETE]
    for attrs, state in zip(attributes, ends, strict=True):
        trial = study.ask()
        for key, value in attrs.items():
            trial.set_user_attr(key, value)
        study.tell(trial, 1.0 if state == TrialState.COMPLETE else None, state=state)
    study.ask()
    assert [record_of(trial)["state"] for trial in study.trials] == [
        "INFEASIBLE", "FAILED", "FAILED", "FAILED", "PRUNED", "COMPLETE", "RUNNING",
    ]  # fmt: skip
    assert [storage.was_trained(trial) for trial in study.trials] == [False, False, False, True, True, True, False]


def test_studies_of_one_database_are_told_apart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deep/folder/study.db"
    open_study(url, "a").ask()
    assert len(open_study(url, "a").trials) == 1
    assert len(open_study(url, "b").trials) == 0


def test_the_database_of_a_faster_process_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, others = f"sqlite:///{tmp_path}/study.db", f"sqlite:///{tmp_path}/elsewhere.db"
    open_study(others, "s").ask()
    make = optuna.storages.RDBStorage

    def overtaken(part: str) -> optuna.storages.RDBStorage:
        (tmp_path / "elsewhere.db").rename(tmp_path / "study.db")
        monkeypatch.setattr(optuna.storages, "RDBStorage", make)
        return make(part)

    monkeypatch.setattr(optuna.storages, "RDBStorage", overtaken)
    assert len(open_study(url, "s").trials) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://someone:secret@127.0.0.1:9/db", "127.0.0.1:9/db"),
        ("nonsense", "nonsense"),
        ("nodb://x", "nodb://x"),
        ("sqlite:////dev/null/study.db", "sqlite:////dev/null/study.db"),
        ("sqlite:////proc/nowhere/study.db", "sqlite:////proc/nowhere/study.db"),
    ],
)
def test_a_storage_that_cannot_be_is_one_line_without_the_password(url: str, shown: str) -> None:
    with pytest.raises(RunError) as caught:
        open_study(url, "s")
    message = str(caught.value)
    assert message.startswith(f"--storage {shown}: the study cannot be opened (")
    assert "\n" not in message
    assert "secret" not in message


def test_a_database_that_was_cut_off_while_it_was_made_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its unique index, Optuna makes a second study of the same name, and then cannot tell them apart."""

    def cut_off(url: str) -> None:
        with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
            database.execute("CREATE TABLE studies (study_id INTEGER PRIMARY KEY, study_name VARCHAR(512))")
        raise Killed

    url = f"sqlite:///{tmp_path}/runs/study.db"
    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages, "RDBStorage", cut_off)
        with pytest.raises(Killed):
            open_study(url, "s")
    assert list((tmp_path / "runs").iterdir()) == []
    for _ in range(3):
        open_study(url, "s").ask()
    assert len(open_study(url, "s").trials) == 3
    assert {path.name for path in (tmp_path / "runs").iterdir()} <= {"study.db", "study.db-journal"}


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("this is no database, " * 100)
    with pytest.raises(RunError, match="the study cannot be opened"):
        open_study(f"sqlite:///{tmp_path}/study.db", "s")


def test_a_shared_database_never_mixes_two_experiments(search: Search) -> None:
    settings = {"train": {"epochs": 3}, "search": {"space": {"norm": ["batch"]}}, "data_checksum": "a"}
    bind(search.study, settings, {"python": "3"}, "runs/one")
    bind(search.study, settings, {"python": "4"}, "runs/two")
    assert search.study.user_attrs[MADE_WITH] == {"python": "3"}
    for change, said in (
        ({"train": {"epochs": 4}}, r"train\.epochs: 3 there, 4 asked for"),
        ({"search": {"space": {"norm": ["batch", "grn"]}}}, r"search\.space\.norm: \['batch'\] there, "),
        ({"data_checksum": "b"}, "data_checksum: a there, b asked for"),
    ):
        with pytest.raises(RunError, match=said):
            bind(search.study, {**settings, **change}, {}, "runs/three")


def test_an_infeasible_candidate_costs_milliseconds(search: Search) -> None:
    study, started = search.study, time.process_time()
    for _ in range(10):
        choices = {f"choice{number}": 1 for number in range(14)}
        begin(study, choices, dict.fromkeys(choices, (1, 2, 3)), {}, TrialState.PRUNED)
    assert (time.process_time() - started) / 10 < 0.25


def test_the_journal_that_the_page_shows_lies_on_the_shared_disk_not_below_this_folder() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "searching.md").read_text(encoding="utf-8")
    (url,) = re.findall(r"--storage (journal:\S+)", page)
    assert url.partition(":///")[2] == "/mnt/shared/study.log"
