"""What is drawn: neighbours of good networks beside uniform draws, within the space and its conditions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.trial import FrozenTrial

from search import draw, known_designs, space
from search.draw import MOST_CHANGED, Neighbour, parents_of
from search.storage import trials_of, was_trained
from system.budget import Budget
from tests.search.conftest import MadeUpFit, Search

DESIGN = known_designs.KNOWN_DESIGNS[0]


@pytest.mark.parametrize("design", known_designs.KNOWN_DESIGNS, ids=lambda design: design["block"])
def test_a_neighbour_differs_in_a_few_choices_and_what_hangs_on_them(design: space.Choices) -> None:
    rng, counts, changed = np.random.default_rng(0), set(), set[str]()
    for _ in range(200):
        near = Neighbour(rng, [design], space.DEFAULT)
        found = space.suggest(near, space.DEFAULT)
        assert len(set(design) - set(near.kept)) in range(1, MOST_CHANGED + 1)
        assert all(found[name] == value for name, value in near.kept.items() if name in found)
        assert set(found) == {row.name for row in space.DEFAULT if row.applies(found)}
        counts.add(sum(found.get(name) != value for name, value in design.items()))
        changed |= set(design) - set(near.kept)
    assert {1, 2, 3} <= counts
    assert changed == {row.name for row in space.DEFAULT if row.name in design and len(row.values) > 1}


def test_what_a_space_file_left_out_is_not_inherited() -> None:
    rows = tuple(row._replace(values=("relu",)) if row.name == "activation" else row for row in space.DEFAULT)
    rng = np.random.default_rng(0)
    assert {space.suggest(Neighbour(rng, [DESIGN], rows), rows)["activation"] for _ in range(20)} == {"relu"}


def test_parents_are_the_best_of_the_budget(tmp_path: Path, fit: MadeUpFit) -> None:
    levels = (Budget.parse("20k_params"), Budget.parse("30k_params"))
    search = Search(tmp_path / "run", fit, levels)
    search.until(20)
    objective = search.plan.objective(search.data)
    trials = [trial for trial in trials_of(search.study) if was_trained(trial)]
    for level in levels:
        mine = [trial for trial in trials if trial.params[space.BUDGET] == level.text]
        found = parents_of(trials, space.within(objective.space, level.text), 2)
        assert len(mine) > draw.PARENTS
        assert found == [trial.params for trial in sorted(mine, key=promised)[: draw.PARENTS]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[list[object]]:
    """What was chosen from, each time; four candidates are wanted, and the last is chosen."""
    times: list[list[object]] = []

    def last(seen: object, features: list[object], *others: object) -> int:
        times.append(features)
        return len(features) - 1

    monkeypatch.setattr(draw, "wanted", lambda *seen: 4)
    monkeypatch.setattr(draw, "choose", last)
    return times


def test_one_is_chosen_of_as_many_networks_as_are_wanted(
    tmp_path: Path, fit: MadeUpFit, offered: list[list[object]]
) -> None:
    search = Search(tmp_path / "run", fit, (Budget.parse("20k_params"),))
    search.until(len(known_designs.KNOWN_DESIGNS) + 3)
    assert len(offered) >= 3
    assert {len(several) for several in offered} == {4}


def test_no_candidate_is_offered_twice_nor_one_that_is_held(
    tmp_path: Path, fit: MadeUpFit, offered: list[list[object]]
) -> None:
    """In a space of three activations, of which one was trained before."""
    search = Search(tmp_path / "run", fit, (Budget.parse("20k_params"),))
    objective = search.plan.objective(search.data)
    values = {"block": ("basic",), "activation": ("relu", "silu", "prelu")}
    rows = tuple(row._replace(values=values.get(row.name, row.values[:1])) for row in objective.space)
    drawn = draw.draw_within(
        rows, search.study, objective, lambda choices, fitted: choices["activation"] != "relu", [],
        np.random.default_rng(0), [],
    )  # fmt: skip
    assert drawn is not None
    assert drawn[0]["activation"] in ("silu", "prelu")
    (found,) = offered
    assert len(found) == 2
    assert found[0] != found[1]


def promised(trial: FrozenTrial) -> float:
    """After two epochs: trainings that are made up gain 0.1 from each to the next."""
    return float(trial.user_attrs["log_loss"]) - 0.1 * (2 - trial.user_attrs["epochs"])


def test_uniform_choices_are_uniform() -> None:
    rng = np.random.default_rng(0)
    counts = np.bincount([space.Uniform(rng).suggest_categorical("x", (0, 1, 2)) for _ in range(3000)])
    assert counts.min() > 900
