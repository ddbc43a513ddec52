"""Which network a worker trains next: one that was left, a known design, or the most promising of a few draws.

Half of the candidates that the model of search/propose.py chooses from are neighbours of the best networks so far, one
to three choices away (as in White et al. 2021, "BANANAS"): what works in a network are choices that go together, which
a model of single choices cannot know.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from search import space, storage
from search.claims import interrupted
from search.fidelity import promise
from search.fit_width import Fitted
from search.known_designs import known_designs
from search.objective import Objective, curve_of, features_of
from search.propose import Seen, choose, wanted
from search.storage import begin

MOST_DRAWS = 200  # in a row that give no new network within the budget
NEIGHBOURS = 0.5  # their share of the candidates
PARENTS = 5  # the best networks so far, any of which may be the one
MOST_CHANGED = 3  # of its choices
Drawn = tuple[dict[str, Any], Fitted]
IsNew = Callable[[dict[str, Any], Fitted], bool]


class Neighbour(space.Uniform):
    """The choices of one of the `parents`, but for a few that are drawn anew, as are those that it did not have."""

    def __init__(self, rng: np.random.Generator, parents: Sequence[space.Choices], rows: space.Space) -> None:
        super().__init__(rng)
        parent = parents[int(rng.integers(len(parents)))]
        open_ones = [row.name for row in rows if row.name in parent and len(row.values) > 1]
        count = min(int(rng.integers(MOST_CHANGED)) + 1, len(open_ones))
        changed = {open_ones[index] for index in rng.permutation(len(open_ones))[:count]}
        self.kept = {name: value for name, value in parent.items() if name not in changed}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        kept = self.kept.get(name)
        return kept if kept in choices else super().suggest_categorical(name, choices)


def draw(study: optuna.Study, objective: Objective, trials: list[FrozenTrial], index: int) -> Drawn | None:
    """The next network: one that was left, else one for the budget that has had the fewest trials.

    None if nothing new is found for any budget. `index` of the worker is part of the seed of what is drawn.
    """
    held = [storage.network_of(trial) for trial in trials if storage.holds(trial)]

    def is_new(choices: dict[str, Any], fitted: Fitted) -> bool:
        return storage.network_in(objective.described(choices, fitted)) not in held

    if left := first_new([trial.params for trial in interrupted(trials)], objective, is_new):
        return left
    # a stopped search draws what a whole one does: interrupted trials are begun again as trials of their own, and what
    # an interrupted draw recorded after the last of them is drawn again
    last = max((trial.number for trial in trials if storage.INFEASIBLE not in trial.user_attrs), default=-1)
    count = sum(storage.INTERRUPTED not in trial.user_attrs for trial in trials[: last + 1])
    recorded: list[space.Choices] = [trial.params for trial in trials[last + 1 :]]
    rng = np.random.default_rng((objective.experiment.seed, index, count))
    seen = [trial for trial in trials if storage.was_trained(trial) and curve_of(trial)]
    shares = Counter(storage.level_of(trial) for trial in trials if storage.holds(trial))
    for budget in sorted(objective.budgets, key=lambda budget: shares[budget.text]):
        rows = space.within(objective.space, budget.text)
        if drawn := draw_within(rows, study, objective, is_new, seen, rng, recorded):
            return drawn
    return None


def draw_within(
    rows: space.Space, study: optuna.Study, objective: Objective, is_new: IsNew, seen: Sequence[FrozenTrial],
    rng: np.random.Generator, recorded: list[space.Choices],
) -> Drawn | None:  # fmt: skip
    """A network of `rows`, which hold one budget: a known design, else what the model of those `seen` promises.

    Infeasible draws are recorded, but for those that are `recorded`, which are taken out of there. None if nothing new
    is found.
    """
    if known := first_new(known_designs(rows), objective, is_new):
        return known
    taught = [Seen(features_of(trial.params, trial.user_attrs), curve_of(trial)) for trial in seen]
    epochs, aim, found = objective.experiment.train.epochs, wanted(taught, rng), list[Drawn]()
    parents = parents_of(seen, rows, epochs) if aim > 1 else []
    for _ in range(MOST_DRAWS):
        near = parents and rng.random() < NEIGHBOURS
        choices = space.suggest(Neighbour(rng, parents, rows) if near else space.Uniform(rng), rows)
        fitted = objective.fitted(choices)
        if fitted.spec is None and choices in recorded:
            recorded.remove(choices)
        elif fitted.spec is None:
            attributes = {storage.INFEASIBLE: True, storage.REASON: fitted.reason, "limit": fitted.limit}
            begin(study, choices, values(objective.space), attributes, TrialState.PRUNED)
        elif is_new(choices, fitted) and (choices, fitted) not in found:
            found.append((choices, fitted))
            if len(found) == aim:
                break
    if not found:
        return None
    features = [features_of(choices, objective.described(choices, fitted)) for choices, fitted in found]
    return found[choose(taught, features, epochs, rng)]


def parents_of(seen: Sequence[FrozenTrial], rows: space.Space, epochs: int) -> list[space.Choices]:
    """The choices of the trials that promise the lowest loss, of those within the budget of `rows`."""
    level = next((row.values[0] for row in rows if row.name == space.BUDGET), None)
    rivals = [trial for trial in seen if trial.params.get(space.BUDGET) == level]
    curves = [curve_of(trial) for trial in rivals]
    promised = [promise(curve, curves, epochs)[0] for curve in curves]
    return [rivals[index].params for index in np.argsort(promised, kind="stable")[:PARENTS]]


def first_new(designs: Iterable[Mapping[str, Any]], objective: Objective, is_new: IsNew) -> Drawn | None:
    for choices in designs:
        fitted = objective.fitted(choices)
        if fitted.spec is not None and is_new(dict(choices), fitted):
            return dict(choices), fitted
    return None


def values(rows: space.Space) -> dict[str, tuple[Any, ...]]:
    return {row.name: row.values for row in rows}
