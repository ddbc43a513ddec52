"""The live table, the finalists, and scores after calibration."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from quant.backend import load_backend
from quant.qat import quantize
from search import finalists, live, objective
from search.int8 import calibrated, tuned
from search.storage import WORKER, begin, record_of, trials_of
from system.checkpoint import Checkpoint
from system.dataset import prepare
from system.training import fit as train
from tests import tiny
from tests.search.conftest import MadeUpFit, Search


def shown(search: Search, seconds: float, before: int) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(live.render(trials_of(search.study), search.plan, seconds, before))
    return console.export_text()


def test_the_table_shows_the_best_the_counts_and_the_time_left(search: Search, fit: MadeUpFit) -> None:
    fit.loss = lambda spec: 2.0 if len(fit.trained) > 4 else 1.5 - len(fit.trained) / 10
    search.until(5)
    spec = fit.trained[0].model.plain()
    begin(search.study, {"x": 1}, {"x": (1, 2)}, {"spec": spec, "params": 7, "macs": 8, WORKER: {}})
    search.plan = replace(search.plan, trials=10)
    text = shown(search, 50.0, 0)
    infeasible = sum(record_of(trial)["state"] == "INFEASIBLE" for trial in trials_of(search.study))
    assert "1500_params: 5 of 10 trained: 4 to the end, 1 stopped early, 0 failed" in text
    assert f"{infeasible} draws infeasible; 1 running; about 50 s left; Ctrl-C stops" in text
    lines = text.splitlines()
    assert any("complete" in line and "1.1000" in line and "2/2" in line for line in lines)
    assert any("pruned" in line and "1/2" in line for line in lines)
    assert any("running" in line and "0/2" in line for line in lines)


def test_the_best_stays_in_the_table_when_it_is_long_ago(search: Search, fit: MadeUpFit) -> None:
    fit.loss = lambda spec: 0.5 if len(fit.trained) == 1 else 1.0
    search.until(live.LATEST + 3)
    assert any("0.5000" in line for line in shown(search, 1.0, 0).splitlines())


def test_a_table_takes_the_place_of_lines_on_a_terminal(
    search: Search, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "on_terminal", lambda: True)
    search.until(2)
    out = capsys.readouterr().out
    assert "best so far" not in out
    assert "1500_params: 2 of 2 trained" in out


def trial(number: int, log_loss: float, state: str = "COMPLETE") -> dict[str, Any]:
    return {"number": number, "state": state, "log_loss": log_loss, "accuracy": 0.5, "spec": tiny.MODEL.plain()}


class Race:
    """Finalists whose losses are made up: a trial's true loss, and what the seed's validation part adds."""

    def __init__(self, run: Path, truth: dict[int, float]) -> None:
        self.run, self.truth, self.trained = run, truth, list[tuple[int, int]]()
        self.stop_after = 10**6

    def winner(self, trials: list[dict[str, Any]], count: int, epochs: int = 1) -> int:
        number: int = finalists.winner(self.run, trials, count, tiny.experiment(epochs=epochs), self.score)["number"]
        return number

    def score(self, experiment: Any, record: dict[str, Any], what: str) -> dict[str, Any]:
        if len(self.trained) == self.stop_after:
            raise KeyboardInterrupt
        self.trained.append((record["number"], experiment.seed))
        return {"log_loss": self.truth[record["number"]] + experiment.seed / 100, "accuracy": 0.5}

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.run / finalists.FILE).read_text())
        return told


def test_finalists_are_judged_by_new_seeds_and_a_stopped_command_goes_on(tmp_path: Path) -> None:
    """The luckiest of the search is not the best; a training is never done twice."""
    trials = [trial(0, 1.0), trial(1, 0.9), trial(2, 0.8), trial(3, 0.1, "PRUNED")]
    race = Race(tmp_path, {0: 0.7, 1: 1.1, 2: 1.2})
    race.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        race.winner(trials, 3)
    race.stop_after = 10**6
    assert race.winner(trials, 3) == 0
    assert sorted(race.trained) == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 1)]
    assert [row["number"] for row in race.told()["finalists"]] == [0, 1, 2]
    assert race.told()["finalists"][0]["log_loss_new_seeds"] == pytest.approx(0.72)


@pytest.mark.parametrize(("count", "rounds"), [(2, [2, 2, 2]), (3, [3, 2, 2]), (5, [5, 3, 2]), (8, [8, 4, 2])])
def test_the_better_half_goes_on(tmp_path: Path, count: int, rounds: list[int]) -> None:
    race = Race(tmp_path, {number: float(number * 7 % 10) for number in range(10)})  # worst to best in no order
    best = sorted(range(count), key=lambda number: race.truth[number])
    assert race.winner([trial(number, number / 10) for number in range(10)], count) == best[0]
    for seed, size in enumerate(rounds, start=1):
        assert sorted(number for number, of in race.trained if of == seed) == sorted(best[:size])
    assert len(race.trained) == sum(rounds)


def test_one_bad_round_does_not_decide_between_the_last_two(tmp_path: Path) -> None:
    race = Race(tmp_path, {0: 1.0, 1: 1.1})
    fair = race.score

    def score(experiment: Any, record: dict[str, Any], what: str) -> dict[str, Any]:
        unlucky = 0.15 * (record["number"] == 0 and experiment.seed == 1)
        return {**fair(experiment, record, what), "log_loss": race.truth[record["number"]] + unlucky}

    race.score = score  # type: ignore[method-assign]
    assert race.winner([trial(0, 0.5), trial(1, 0.4)], 2) == 0


def test_finalists_of_another_length_do_not_count(tmp_path: Path) -> None:
    trials = [trial(0, 0.5), trial(1, 0.4)]
    race = Race(tmp_path, {0: 1.0, 1: 1.1})
    race.winner(trials, 2, epochs=1)
    race.truth = {0: 1.2, 1: 1.1}
    assert race.winner(trials, 2, epochs=3) == 1
    assert len(race.trained) == 12
    race.truth = {}  # nothing is trained again
    assert race.winner(trials, 2, epochs=1) == 0
    assert [row["epochs"] for row in race.told()["trainings"]] == [1] * 6 + [3] * 6


def test_a_larger_race_is_told_by_what_it_ran(tmp_path: Path) -> None:
    """A finalist that led an earlier race and lost this one does not stand above the winner."""
    race = Race(tmp_path, {0: 1.0, 1: 1.1, 2: 0.9, 3: 0.8, 4: 0.7})
    trials = [trial(number, number / 10) for number in range(5)]
    assert race.winner(trials, 2) == 0
    assert race.winner(trials, 5) == 4
    told = [(row["number"], row["seeds"]) for row in finalists.race(tmp_path)]
    assert told == [(4, 3), (3, 3), (2, 2), (0, 1), (1, 1)]
    assert race.winner(trials, 1) == 0
    assert finalists.race(tmp_path) == []


def test_a_finalist_is_judged_on_a_validation_part_of_its_own(cache: Path) -> None:
    """That of the trials is what picked it."""
    first = tiny.experiment()
    data = prepare(first.data, first.features, first.seed)
    assert objective.data_of(first.changed(model={"width": 8}), first, data) is data
    again = objective.data_of(first.changed(seed=1), first, data)
    assert set(again.validation.source) != set(data.validation.source)
    assert set(again.test.source) == set(data.test.source)
    assert not set(again.validation.source) & set(again.test.source)


def test_one_finalist_is_the_winner_without_another_training(tmp_path: Path) -> None:
    def score(*_: Any) -> Any:
        raise AssertionError

    assert finalists.winner(tmp_path, [trial(0, 1.0), trial(1, 0.9)], 1, tiny.experiment(), score)["number"] == 1
    assert not (tmp_path / finalists.FILE).exists()


def test_scores_after_calibration_and_after_training_with_quantization() -> None:
    spec, data = tiny.experiment(epochs=2), tiny.data(24, 12, 12)
    spec = spec.changed(quant={"epochs": 1, "calibration_segments": 24})
    trained = train(spec, data, device="cpu")
    after = calibrated(spec, data, trained)
    assert set(after) == {"log_loss", "accuracy"}
    assert after["log_loss"] != trained.last.log_loss
    assert after["log_loss"] == pytest.approx(trained.last.log_loss, rel=0.5)
    assert tuned(spec, data, trained, "cpu", "tuning")["log_loss"] <= after["log_loss"]


def test_a_finalist_is_quantized_as_its_winner_will_be(tmp_path: Path) -> None:
    """With the label smoothing of its recipe, the float model's answers, and the best of its epochs."""
    spec, data = tiny.experiment(epochs=2), tiny.data(24, 12, 12)
    spec = spec.changed(
        train={**spec.train.plain(), "label_smoothing": 0.3},
        quant={"epochs": 3, "calibration_segments": 24, "learning_rate": 0.05, "distill_weight": 0.9},
    )
    trained = train(spec, data, device="cpu")
    checkpoint = Checkpoint(spec, data.classes, trained.mean, trained.std, trained.network.state_dict())
    parity = quantize(checkpoint, data, load_backend("brevitas"), tmp_path / "int8", train=True, device="cpu")
    history = parity["validation"]
    exported = history[history["exported"]]
    found = tuned(spec, data, trained, "cpu", "tuning")
    assert found == {key: exported[key] for key in ("log_loss", "accuracy")}


def test_an_int8_search_goes_by_the_quantized_scores(
    search: Search, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a trial is scored with, told to the study and chosen by; the float score stays beside it."""

    def quantized(self: Any, experiment: Any, data: Any, trained: Any) -> dict[str, Any]:
        loss = 0.2 if len(fit.trained) == 2 else 3.0
        return {"log_loss": loss, "accuracy": 0.25, "float_log_loss": 1.0}

    monkeypatch.setattr(objective.Objective, "_quantized", quantized)
    search.plan = replace(search.plan, int8=True)
    result = search.until(3)
    assert result["best"]["spec"] == fit.specs()[1]
    assert (result["best"]["log_loss"], result["best"]["accuracy"]) == (0.2, 0.25)
    best = next(t for t in trials_of(search.study) if t.number == result["best"]["number"])
    assert best.value == 0.2
    assert best.user_attrs["float_log_loss"] == 1.0
