"""One network has one specification, and a choice that has an effect is kept."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from search.known_designs import KNOWN_DESIGNS
from search.same_network import plainest
from search.space import Value, spec_of, suggest
from system.budget import Budget
from system.errors import ConfigError
from system.models.network import build, complexity
from system.spec import ModelSpec
from tests.search.conftest import RandomChoices, Search

SHAPE, CLASSES = (1, 40, 50), 3
KT = KNOWN_DESIGNS[0]  # whose downsampling layers leave nothing to be projected


def plain(spec: ModelSpec) -> ModelSpec:
    return plainest(spec, complexity(spec, SHAPE, CLASSES), SHAPE, CLASSES)


def outcome(spec: ModelSpec) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(0)
    network = build(spec, SHAPE, CLASSES).eval()
    return network.state_dict(), network(torch.linspace(-1, 1, 2 * 40 * 50).reshape(2, *SHAPE))


def test_what_gets_another_name_has_the_same_weights_and_answers() -> None:
    generator, renamed = random.Random(0), 0
    for _ in range(150):
        spec = spec_of(suggest(RandomChoices(generator.choice))).changed(width=4)
        try:
            one = plain(spec)
        except ConfigError:  # too many strides for the map
            continue
        assert plain(one) == one
        if one != spec:
            renamed += 1
            (weights, answers), (others, same) = outcome(spec), outcome(one)
            assert list(weights) == list(others)
            assert all(torch.equal(weights[name], others[name]) for name in weights)
            assert torch.equal(answers, same)
    assert renamed > 15


@pytest.mark.parametrize(
    ("design", "row", "values", "same"),
    [
        (KT, "shortcut", ("project", "identity"), True),
        ({**KT, "downsampling": "strided"}, "shortcut", ("project", "identity"), False),
        (KT, "downsampling", ("pool", "strided"), False),
        ({**KT, "stride_2": "1x1", "stride_3": "1x1"}, "downsampling", ("pool", "strided"), True),
    ],
)
def test_a_choice_is_left_out_where_it_has_no_effect(
    design: dict[str, Value], row: str, values: tuple[Value, Value], same: bool
) -> None:
    one, other = (plain(spec_of({**design, row: value})) for value in values)
    assert (one == other) is same


def test_a_network_is_not_trained_again_under_another_name(search: Search) -> None:
    search.plan = replace(search.plan, budgets=(Budget.parse("20k_params"),))
    objective = search.plan.objective(search.data)
    one, other = (objective.fitted({**KT, "shortcut": value}) for value in ("project", "identity"))
    assert one.spec is not None
    assert one == other
