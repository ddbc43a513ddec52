"""The loop of a search with made-up trainings: what counts, what is recorded, what stops it."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from search import draw, space, worker
from search.known_designs import KNOWN_DESIGNS
from search.objective import rivals_of
from search.propose import FIRST_AT_RANDOM
from search.report import best_of, pareto_of
from search.storage import INTERRUPTED, trials_of, was_trained
from system.budget import Budget
from system.errors import DataError, RunError, TrainingError
from system.spec import ExperimentSpec, ModelSpec
from tests.search.conftest import MadeUpFit, Search, loss_of


def states(result: dict[str, Any]) -> Counter[str]:
    return Counter(trial["state"] for trial in result["trials"])


def fail_on(counts: set[int], error: type[Exception] = RuntimeError) -> Any:
    def on_start(count: int, spec: ExperimentSpec) -> None:
        if count in counts:
            raise error(f"broken\nfor training {count}" if error is RuntimeError else "broken alike")

    return on_start


def test_as_many_are_trained_as_asked_for_and_infeasible_ones_do_not_count(search: Search, fit: MadeUpFit) -> None:
    result = search.until(6)
    found = states(result)
    assert len(fit.trained) == 6 == found["COMPLETE"] + found["PRUNED"]
    assert found["INFEASIBLE"] > 0
    for trial in result["trials"]:
        if trial["state"] == "INFEASIBLE":
            assert trial["spec"] is trial["log_loss"] is trial["seconds"] is None
            over_limit = "parameters" in trial["reason"] and "over" in trial["reason"]
            assert over_limit or trial["reason"].startswith("model.")  # or the rule of the spec that it breaks
        elif "reason" not in trial:
            assert trial["params"] <= 1500
            assert trial["spec"] in fit.specs()


def test_search_json_has_its_keys(search: Search, fit: MadeUpFit) -> None:
    result = search.until(4)
    assert result["budget"]["params"] == 1500
    keys = {"number", "state", "params", "macs", "log_loss", "accuracy", "seconds", "spec"}
    assert all(keys <= set(trial) for trial in result["trials"])
    assert {trial["state"] for trial in result["trials"]} <= {"COMPLETE", "PRUNED", "FAILED", "INFEASIBLE"}
    assert {"number", "params", "macs", "log_loss", "accuracy", "spec"} == set(result["best"])
    complete = [trial for trial in result["trials"] if trial["state"] == "COMPLETE"]
    assert result["best"]["log_loss"] == min(trial["log_loss"] for trial in complete)
    winner = next(spec for spec in fit.trained if spec.model.plain() == result["best"]["spec"])
    assert result["best"]["log_loss"] == pytest.approx(loss_of(winner))
    rows = (search.run / "pareto.csv").read_text().splitlines()
    assert rows[0] == "number,params,macs,log_loss,accuracy"
    assert [int(row.split(",")[0]) for row in rows[1:]] == [trial["number"] for trial in result["pareto"]]


def test_known_designs_come_first(tmp_path: Path, fit: MadeUpFit) -> None:
    Search(tmp_path / "run", fit, (Budget.parse("20k_params"),)).until(len(KNOWN_DESIGNS) + 1)
    blocks = [spec.model.block for spec in fit.trained]
    assert blocks[:-1] == [design["block"] for design in KNOWN_DESIGNS]


def test_the_length_of_a_trial_is_the_experiment_s(tmp_path: Path, fit: MadeUpFit) -> None:
    search = Search(tmp_path / "run", fit, epochs=3)
    search.until(1)
    trial = next(trial for trial in search.study.trials if trial.state == TrialState.COMPLETE)
    assert sorted(trial.intermediate_values) == [1, 2, 3]
    assert fit.trained[0].train.epochs == 3


def test_a_network_that_another_was_faster_to_claim_is_not_trained(
    search: Search, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    search.until(1)
    first, drawn = worker.draw, []

    def late(study: Any, objective: Any, trials: Any, index: int) -> Any:
        """What was drawn before the first trial was there to be seen, once."""
        drawn.append(first(study, objective, [] if not drawn else trials, index))
        return drawn[-1]

    monkeypatch.setattr(worker, "draw", late)
    result = search.until(3)
    assert len({str(spec) for spec in fit.specs()}) == len(fit.trained) == 3
    again = [trial for trial in result["trials"] if trial.get("reason") == "this network was trained before"]
    assert [(trial["state"], trial["seconds"]) for trial in again] == [("FAILED", None)]
    assert again[0]["spec"] == fit.specs()[0]


def test_a_trial_behind_the_others_is_pruned_and_recorded(search: Search, fit: MadeUpFit) -> None:
    fit.loss = lambda spec: 1.0 if len(fit.trained) <= 4 else 2.0
    result = search.until(5)
    assert states(result)["PRUNED"] == 1
    pruned = next(trial for trial in result["trials"] if trial["state"] == "PRUNED")
    assert pruned["log_loss"] == pytest.approx(2.1)  # after the first of two epochs
    assert pruned["reason"] == "after epoch 1 of 2 it promises 2.000; the best has 1.000, a chance of 0.0%"
    assert result["best"]["log_loss"] == 1.0


def test_a_failing_trial_is_recorded_and_the_study_goes_on(search: Search, fit: MadeUpFit) -> None:
    fit.on_start = fail_on({2})
    result = search.until(4)
    assert len(fit.trained) == 4
    failed = [trial for trial in result["trials"] if trial["state"] == "FAILED" and trial["seconds"] is not None]
    assert [(trial["reason"], trial["log_loss"]) for trial in failed] == [("RuntimeError: broken", None)]
    assert failed[0]["spec"] == fit.specs()[1]
    assert result["best"]["number"] != failed[0]["number"]


def test_a_diverged_trial_is_a_failed_trial(search: Search, fit: MadeUpFit) -> None:
    fit.on_start = fail_on({1}, TrainingError)
    result = search.until(2)
    assert len(fit.trained) == 2
    assert "TrainingError: broken alike" in [trial.get("reason") for trial in result["trials"]]


def test_what_is_no_network_s_fault_ends_the_search_and_leaves_its_trial_to_the_next(
    search: Search, fit: MadeUpFit
) -> None:
    fit.on_start = fail_on({1}, DataError)
    with pytest.raises(DataError, match="broken alike"):
        search.until(2)
    begun = [trial for trial in search.study.trials if trial.state != TrialState.PRUNED]
    assert [trial.user_attrs.get(INTERRUPTED) for trial in begun] == [True]
    search.until(2)
    assert len(fit.trained) == 3
    assert fit.specs()[0] == fit.specs()[1]
    trials = trials_of(search.study)
    assert INTERRUPTED not in [key for rival in rivals_of(trials[-1], trials) for key in rival.user_attrs]


def test_three_that_fail_alike_stop_the_search(search: Search, fit: MadeUpFit) -> None:
    fit.on_start = fail_on({2, 3, 4, 5, 6}, ValueError)
    with pytest.raises(RunError, match=r"^3 trials in a row failed alike \(ValueError: broken alike\): trials "):
        search.until(8)
    assert len(fit.trained) == 4
    assert states(search.result())["FAILED"] >= 3


def test_failures_with_a_success_between_do_not_stop_it(search: Search, fit: MadeUpFit) -> None:
    fit.on_start = fail_on({1, 2, 4, 5}, ValueError)
    search.until(6)
    assert len(fit.trained) == 6


def test_without_any_success_there_is_no_winner(search: Search, fit: MadeUpFit) -> None:
    fit.on_start = fail_on({1, 2})
    with pytest.raises(RunError, match=r"no trial of .* finished; see the reasons in .*search\.json"):
        search.until(2)
    assert search.result()["best"] is None
    assert search.result()["pareto"] == []


def test_a_space_that_holds_no_more_ends_the_search(
    search: Search, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(draw, "MOST_DRAWS", 5)
    one_design = tuple(row._replace(values=row.values[:1]) for row in space.DEFAULT)
    search.plan = replace(search.plan, space=one_design, budgets=(Budget.parse("20k_params"),))
    search.until(4)
    assert len(fit.trained) == 1
    assert "the space holds no more" in capsys.readouterr().out


def test_the_same_seed_draws_the_same_and_another_seed_other_trials(tmp_path: Path, fit: MadeUpFit) -> None:
    drawn = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        fit.trained.clear()
        Search(tmp_path / name, fit, seed=seed).until(FIRST_AT_RANDOM + 3)
        drawn.append(fit.specs())
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_a_draw_that_is_killed_half_way_is_drawn_again(
    tmp_path: Path, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its infeasible candidates, in random draws and in those that the model chooses from."""
    whole, killed = Search(tmp_path / "whole", fit), Search(tmp_path / "killed", fit)
    whole.until(FIRST_AT_RANDOM + 4)
    record, recorded = draw.begin, list[Any]()

    def killed_at_every_third(*words: Any) -> Any:
        recorded.append(words)
        if len(recorded) % 3 == 0:
            raise KeyboardInterrupt
        return record(*words)

    monkeypatch.setattr(draw, "begin", killed_at_every_third)
    while sum(map(was_trained, trials_of(killed.study))) < FIRST_AT_RANDOM + 4:
        with suppress(KeyboardInterrupt):
            killed.until(FIRST_AT_RANDOM + 4)
    assert len(recorded) > 12  # killed four times and more
    drawn = [[(trial.params, trial.state) for trial in trials_of(search.study)] for search in (whole, killed)]
    assert drawn[0] == drawn[1]


def test_each_trial_is_one_line(search: Search, fit: MadeUpFit, capsys: pytest.CaptureFixture[str]) -> None:
    fit.on_start = fail_on({2})
    search.until(3)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for line, words in zip(lines, ("(1 of 3) complete", "(2 of 3) fail", "(3 of 3) complete"), strict=True):
        assert words in line
    assert "best so far" in lines[0]
    assert "(RuntimeError: broken)" in lines[1]


def record(number: int, params: int, macs: int, log_loss: float, state: str = "COMPLETE") -> dict[str, Any]:
    return {"number": number, "params": params, "macs": macs, "log_loss": log_loss, "state": state}


def test_the_front_holds_what_nothing_beats() -> None:
    trials = [
        record(0, 100, 50, 1.0),
        record(1, 100, 60, 1.0),  # beaten by 0
        record(2, 90, 70, 1.1),
        record(3, 200, 40, 1.0),
        record(4, 200, 90, 0.9),
        record(5, 200, 95, 1.2),  # beaten by several
        record(6, 1, 1, 0.1, "PRUNED"),
    ]
    assert [trial["number"] for trial in pareto_of(trials)] == [3, 0, 2, 4]
    assert best_of(trials) == trials[4]
    assert best_of([trials[6]]) is None


def test_a_pruned_trial_is_not_told_a_value(search: Search, fit: MadeUpFit) -> None:
    fit.loss = lambda spec: 1.0 if len(fit.trained) <= 4 else 2.0
    search.until(5)
    told = {trial.state: trial.user_attrs.get("epochs") for trial in search.study.trials if was_trained(trial)}
    assert told == {TrialState.COMPLETE: 2, TrialState.PRUNED: 1}


def test_the_line_of_a_trial_tells_hours_as_hours() -> None:
    record = {
        "number": 3, "state": "COMPLETE", "spec": ModelSpec().plain(), "params": 1000, "macs": 2_000_000,
        "log_loss": 1.0, "accuracy": 0.5, "seconds": 600.0,
    }  # fmt: skip
    said = worker.describe(record, record, 4, 60, 14_000.0)
    assert ", log loss 1.0000, accuracy 0.500, 10 min; best so far #3 1.0000; about 3.9 h of trials left" in said
