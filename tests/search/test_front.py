"""One study over several budgets: each trial within its own, compared with its own, and one front of all."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import TrialState

from search import propose, space
from search import run as command
from search.fidelity import FINISHED_FIRST
from search.front import told, write_front
from search.known_designs import KNOWN_DESIGNS, known_designs
from search.levels import read_levels
from search.objective import curve_of
from search.propose import Seen, choose
from search.report_page import write_report
from search.storage import OBJECTIVES, level_of, trials_of, was_trained
from system.errors import BudgetError, ConfigError, RunError
from system.experiment import budget_of, complexity_report
from system.runs import load_experiment
from system.spec import ExperimentSpec
from tests import tiny
from tests.search import sleeping
from tests.search.conftest import MadeUpFit, Search
from tests.search.test_main import TINY, run  # noqa: F401 (a fixture)

LEVELS = read_levels("1500_params,4k_params_100k_macs,20k_params_1M_macs", "strictest")
SMALL, MIDDLE, LARGE = LEVELS
FRONT = "4k_params_200k_macs,20k_params_1M_macs"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(propose, "CANDIDATES", 3)


@pytest.fixture
def front(tmp_path: Path, fit: MadeUpFit) -> Search:
    return Search(tmp_path / "run", fit, LEVELS)


def trained(search: Search) -> list[Any]:
    return [trial for trial in trials_of(search.study) if was_trained(trial)]


@given(st.permutations(["3M_macs", "1M_macs_32k_params", "1M_macs_8k_params", "64KiB"]))
def test_the_order_in_which_levels_are_given_is_no_matter(texts: list[str]) -> None:
    assert [budget.text for budget in read_levels(",".join(texts), "exact")] == [
        "1M_macs_8k_params", "1M_macs_32k_params", "3M_macs", "64KiB",
    ]  # fmt: skip
    assert {budget.view for budget in read_levels(",".join(texts), "exact")} == {"exact"}


def test_levels_are_a_row_of_the_space_and_one_budget_is_none() -> None:
    assert space.with_levels(space.DEFAULT, ["1M_macs"]) == space.DEFAULT
    rows = space.with_levels(space.DEFAULT, ["1M_macs", "3M_macs"])
    assert space.plain(rows) == {"budget": ["1M_macs", "3M_macs"], **space.plain(space.DEFAULT)}
    narrowed = space.within(rows, "3M_macs")
    assert space.plain(narrowed) == {"budget": ["3M_macs"], **space.plain(space.DEFAULT)}
    assert space.within(space.DEFAULT, "3M_macs") == space.DEFAULT
    assert [{**design, "budget": "3M_macs"} for design in known_designs(space.DEFAULT)] == [
        design for design in known_designs(rows) if design["budget"] == "3M_macs"
    ]
    assert len(known_designs(rows)) == 2 * len(KNOWN_DESIGNS)


def test_every_trial_fills_its_own_budget_and_all_budgets_get_as_many(front: Search, fit: MadeUpFit) -> None:
    front.until(14)
    objective = front.plan.objective(front.data)
    for trial in trained(front):
        budget = next(budget for budget in LEVELS if budget.text == trial.params["budget"])
        assert trial.user_attrs["params"] <= (budget.params or 0)
        assert trial.user_attrs["macs"] <= (budget.macs or 10**9)
        assert objective.fitted(trial.params).spec.plain() == trial.user_attrs["spec"]  # type: ignore[union-attr]
    shares = Counter(level_of(trial) for trial in trained(front))
    assert sorted(shares.values()) == [4, 5, 5]
    assert len({json.dumps(spec) for spec in fit.specs()}) == 14
    for trial in trials_of(front.study):  # the row has all its values in each trial, so that Optuna takes it as one
        assert trial.distributions["budget"].choices == tuple(budget.text for budget in LEVELS)  # type: ignore[attr-defined]


def test_the_known_designs_are_tried_in_every_budget_that_they_fit(front: Search) -> None:
    front.until(3 * len(KNOWN_DESIGNS))
    objective = front.plan.objective(front.data)
    tried = {json.dumps(trial.user_attrs["spec"]) for trial in trained(front)}
    fitted = [objective.fitted(design) for design in known_designs(objective.space)]
    wanted = {json.dumps(one.spec.plain()) for one in fitted if one.spec is not None}
    assert len(wanted) > len(KNOWN_DESIGNS)
    assert wanted <= tried


def test_a_budget_that_holds_no_more_leaves_its_share_to_the_others(
    front: Search, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.draw.MOST_DRAWS", 3)
    one_design = tuple(
        row._replace(values=row.values[:2] if row.name == "activation" else row.values[:1]) for row in space.DEFAULT
    )
    front.plan = replace(front.plan, space=one_design)
    front.until(9)
    shares = Counter(level_of(trial) for trial in trained(front))
    assert len(fit.trained) == len({json.dumps(spec) for spec in fit.specs()}) == shares.total() < 9
    assert max(shares.values()) == 2  # the two activations
    assert len(shares) > 1


def test_the_study_has_three_objectives_and_a_stopped_trial_has_none(front: Search, fit: MadeUpFit) -> None:
    level: Counter[Any] = Counter()

    def loss(spec: ExperimentSpec) -> float:
        """The first of each budget are good ones, alike but for what they cost; then bad ones."""
        budget = level_of(trials_of(front.study)[-1])
        level[budget] += fit.trained[-1] is spec and len(fit.trained) > sum(level.values())
        return 1.0 + 1e-6 * len(fit.trained) if level[budget] <= FINISHED_FIRST else 3.0

    fit.loss = loss
    result = front.until(3 * FINISHED_FIRST + 3)
    states = Counter((level_of(trial), trial.state) for trial in trained(front))
    assert all(states[budget.text, TrialState.COMPLETE] == FINISHED_FIRST for budget in LEVELS)
    assert all(states[budget.text, TrialState.PRUNED] == 1 for budget in LEVELS)
    assert len(front.study.directions) == len(OBJECTIVES) == 3
    assert front.study.best_trials
    for trial in trained(front):
        told = [trial.user_attrs[name] for name in OBJECTIVES]
        assert trial.values == (told if trial.state == TrialState.COMPLETE else None)
    assert {trial.number for trial in front.study.best_trials} == {trial["number"] for trial in result["pareto"]}


def test_a_large_network_stops_no_small_one(front: Search, fit: MadeUpFit) -> None:
    """Between budgets the losses are far apart, within one they are alike: nothing stops."""
    fit.loss = lambda spec: {SMALL.text: 3.0, MIDDLE.text: 2.0, LARGE.text: 1.0}[level_of(trials_of(front.study)[-1])]  # type: ignore[index]
    result = front.until(3 * (FINISHED_FIRST + 1))
    assert [trial["state"] for trial in result["trials"] if trial["state"] != "INFEASIBLE"] == ["COMPLETE"] * 15
    assert {curve_of(trial)[-1] for trial in trained(front)} == {1.0, 2.0, 3.0}


def test_a_search_in_two_parts_is_the_same_search(tmp_path: Path, fit: MadeUpFit) -> None:
    Search(tmp_path / "whole", fit, LEVELS).until(12)
    whole = fit.specs()
    fit.trained.clear()
    parts = Search(tmp_path / "parts", fit, LEVELS)
    parts.until(5)
    parts.until(12)
    assert fit.specs() == whole


def test_workers_share_the_budgets(tmp_path: Path) -> None:
    plan = replace(sleeping.plan_of(f"sqlite:///{tmp_path}/study", tmp_path / "run", 9), budgets=LEVELS)
    for process in (team := sleeping.start(plan, 2)):
        process.join()
    assert [process.exitcode for process in team] == [0, 0]
    sleeping.check(plan)
    shares = Counter(level_of(trial) for trial in trials_of(plan.open()) if was_trained(trial))
    assert len(shares) == 3
    assert max(shares.values()) - min(shares.values()) <= 2  # two may draw for one budget at once


def test_candidates_are_measured_by_their_own_budget() -> None:
    """What is good is learnt from all budgets; a budget of which nothing is known yet has candidates to compare."""

    def loss(features: dict[str, Any]) -> float:
        return {"small": 5.0, "large": 1.0, "new": 3.0}[features["budget"]] + 0.5 * (features["a"] != "x")

    seen = [Seen(f, [loss(f)]) for b in ("small", "large") for a in "xyz" for f in [{"budget": b, "a": a}] * 3]
    for level in ("small", "large", "new"):
        candidates = [{"budget": level, "a": a} for a in "zyxwv"]
        chosen = {candidates[choose(seen, candidates, 1, np.random.default_rng(n))]["a"] for n in range(5)}
        assert chosen <= {"x", "w", "v"}  # a good one or one that is not known, never one known to be bad


def search(run: Path, *words: str, front: str = FRONT, trials: int = 6) -> dict[str, Any]:  # noqa: F811
    epochs = ("--epochs", "1", "--final-epochs", "3")
    command.main(["--front", front, "--run", str(run), "--trials", str(trials), *epochs, *TINY, *words])
    return json.loads((run / "search.json").read_text())


def test_what_a_front_leaves(run: Path, fit: MadeUpFit, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    result = search(run)
    assert [budget["text"] for budget in result["front"]] == FRONT.split(",")
    assert "budget" not in result
    assert {trial["budget"] for trial in result["trials"]} == set(FRONT.split(","))
    assert (run / "pareto.png").read_bytes().startswith(b"\x89PNG")
    with (run / "pareto.csv").open() as file:
        assert [int(row["number"]) for row in csv.DictReader(file)] == [t["number"] for t in result["pareto"]]
    assert not (run / "best").exists()

    out = capsys.readouterr().out
    table = out[out.index("budget ") :].splitlines()[1:]
    for trial, line in zip(result["pareto"], table, strict=False):
        budget, number, params, macs, loss, path = line.split()
        assert (budget, int(number), int(params.replace(",", ""))) == (
            trial["budget"],
            trial["number"],
            trial["params"],
        )
        assert (float(macs), float(loss)) == (round(trial["macs"] / 1e6, 3), round(trial["log_loss"], 4))
        spec = load_experiment(Path(path))
        assert spec.model.plain() == trial["spec"]
        assert (spec.train.epochs, spec.budget) == (3, trial["budget"])
        limits = budget_of(spec)
        assert limits is not None
        limits.check(complexity_report(spec, len(tiny.CLASSES)))
    assert table[len(result["pareto"])] == ""
    assert re.search(rf"^python system/run.py train --config {run}/front/\S+\.yaml --run runs/", out, re.MULTILINE)

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.suffix != ".png"}
    search(run)
    assert len(fit.trained) == 6
    assert {path: path.read_bytes() for path in before} == before


def test_experiments_that_are_no_longer_on_the_front_go(run: Path, fit: MadeUpFit) -> None:  # noqa: F811
    first = search(run, trials=4)
    assert len(list((run / "front").iterdir())) == len(first["pareto"])
    better = {**first["pareto"][0], "number": 9, "state": "COMPLETE", "params": 1, "macs": 1, "log_loss": 0.1}
    paths = write_front(run, [*first["trials"], better], read_levels(FRONT, "strictest"), tiny.experiment())
    assert paths == list((run / "front").iterdir()) == [run / "front" / f"{better['budget']}-trial9.yaml"]


def test_every_network_of_the_front_has_an_experiment_of_its_own(run: Path, fit: MadeUpFit) -> None:  # noqa: F811
    trial = search(run, trials=1)["trials"][0]
    small, large = ({**trial, "number": number, "macs": macs, "params": macs, "log_loss": 1 / macs,
                     "spec": {**trial["spec"], "width": 8 * macs}} for number, macs in ((3, 1), (7, 2)))  # fmt: skip
    paths = write_front(run, [small, large], read_levels(FRONT, "strictest"), tiny.experiment())
    assert {path.stem.partition("trial")[2]: load_experiment(path).model.width for path in paths} == {"3": 8, "7": 16}
    assert f"train --config {run}/front/{trial['budget']}-trial7.yaml" in told([small, large], paths)


def test_a_front_of_other_levels_is_refused(run: Path, fit: MadeUpFit, tmp_path: Path) -> None:  # noqa: F811
    url = f"sqlite:///{tmp_path}/shared.db"
    search(run, "--storage", url, trials=1)
    search(run, "--storage", url, trials=1, front=",".join(reversed(FRONT.split(","))))  # the same ones
    other = "4k_params_200k_macs,20k_params_2M_macs"
    with pytest.raises(RunError, match=r"holds another experiment .*search\.front: .*_1M_macs'\] there, .*_2M_macs'\]"):
        search(run, front=other)
    with pytest.raises(RunError, match=r"made with other settings .*search\.front: .*_1M_macs'\] there, .*_2M_macs'\]"):
        search(tmp_path / "elsewhere", "--storage", url, front=other)
    with pytest.raises(
        RunError, match=r"holds another experiment \(budget: None there, 1M_macs asked for; search\.fro"
    ):
        command.main(["--budget", "1M_macs", "--run", str(run), "--epochs", "1", "--final-epochs", "3", *TINY])
    assert len(fit.trained) == 1


@pytest.mark.parametrize(
    ("front", "words", "error", "said"),
    [
        (f"{FRONT},1_params", [], BudgetError, "nothing fits the budget 1_params: the smallest of"),
        (
            f"{FRONT},4k_params_200k_macs",
            [],
            BudgetError,
            "--front: 4k_params_200k_macs stand.* expected each level on",
        ),
        (f"{FRONT},20k_params_1000k_macs", [], BudgetError, "20k_params_1M_macs and 20k_params_1000k_macs stand for"),
        (FRONT.split(",")[0], [], BudgetError, "--front: expected two budgets or more"),
        (f"{FRONT},", [], BudgetError, "budget '' is empty"),
        ("", [], BudgetError, "budget '' is empty"),
        (f"{FRONT},128k", [], BudgetError, "budget '128k': cannot read '128k'"),
        (FRONT, ["--finalists", "2"], ConfigError, "--finalists 2: a --front has no winner"),
    ],
)
def test_a_refused_start_leaves_no_run(
    front: str, words: list[str], error: type[Exception], said: str, run: Path, monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr("search.impossible.PROBES", 20)
    with pytest.raises(error, match=said):
        search(run, *words, front=front)
    assert not run.parent.exists()


@pytest.mark.parametrize("words", [["--budget", "1M_macs", "--front", FRONT], ["--trials", "2"]])
def test_a_search_is_of_a_budget_or_of_a_front(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(words)
    assert caught.value.code == 2
    assert "--budget" in capsys.readouterr().err.splitlines()[-1]


def test_a_dry_run_tells_what_each_budget_buys(
    run: Path, fit: MadeUpFit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch  # noqa: F811
) -> None:  # fmt: skip
    monkeypatch.setattr("search.dry_run.DRAWN", 20)
    command.main(["--front", FRONT, "--run", str(run), "--dry-run", "2", *TINY])
    assert re.findall(r"^What (\S+) buys", capsys.readouterr().out, re.MULTILINE) == FRONT.split(",")
    assert not run.parent.exists()
    assert fit.trained == []


def test_the_report_shows_the_front_in_place_of_a_winner(front: Search, fit: MadeUpFit) -> None:
    result = front.until(9)
    write_report(front.run, front.study, tiny.experiment(), len(tiny.CLASSES), LEVELS)
    text = (front.run / "report.html").read_text()
    assert "Search within 1500_params" not in text.replace(" | ".join(b.text for b in LEVELS), "")
    assert 'id="winner"' not in text
    assert "Functional ANOVA" in text  # of the log loss, though the study has three objectives
    rows = re.findall(r'<tr><th scope="row">(\S+)</th><td>(\d+)</td><td>([\d.]+)</td>', text)
    assert rows == [(t["budget"], str(t["number"]), f"{t['log_loss']:.4f}") for t in result["pareto"]]
