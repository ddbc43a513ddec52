"""What some choices stand for: their network, at the width that fills the budget, on their front end."""

from __future__ import annotations

from collections.abc import Sequence

from search import space as table
from search.fit_width import MAP, Fitted, fit_width
from search.same_network import plainest
from search.space import BUDGET, Choices
from system.budget import Budget
from system.errors import ConfigError
from system.features import check_bands
from system.spec import ExperimentSpec


def fit_choices(choices: Choices, experiment: ExperimentSpec, budgets: Sequence[Budget], classes: int) -> Fitted:
    """What the choices say nothing of is as in `experiment`; `budgets`: several are the levels of a front."""
    features = table.features_of(choices, experiment.features)
    try:
        check_bands(features)
    except ConfigError as error:
        return Fitted(None, None, str(error), MAP)
    shape = experiment.changed(features=features).input_shape()
    quant = table.precision_of(choices, experiment.quant)
    found = fit_width(table.spec_of(choices), budget_of(choices, budgets), shape, classes, quant=quant)
    if found.spec is None or found.cost is None:
        return found
    return found._replace(spec=plainest(found.spec, found.cost, shape, classes, quant))


def budget_of(choices: Choices, budgets: Sequence[Budget]) -> Budget:
    """What the width of these choices is solved for."""
    level = choices.get(BUDGET, budgets[0].text)
    return next(budget for budget in budgets if budget.text == level)
