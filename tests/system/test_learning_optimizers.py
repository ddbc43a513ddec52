"""Which parameters an optimizer gets, and what it does to them."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from system.learning.optimizers import OPTIMIZERS, frozen_norms, optimizer_of, require_grad
from system.models.network import build
from system.spec import ModelSpec, TrainSpec
from tests import tiny


def network(**fields: Any) -> nn.Module:
    torch.manual_seed(0)
    spec = ModelSpec.model_validate({**tiny.MODEL.model_dump(), **fields})
    return build(spec, tiny.experiment().input_shape(), 3)


def test_the_spec_names_every_optimizer() -> None:
    assert set(OPTIMIZERS) == set(get_args(TrainSpec.model_fields["optimizer"].annotation))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_is_pytorch_s(name: str) -> None:
    """Of the settings that the specification gives, on one parameter, against the formulas."""
    parameter = nn.Parameter(torch.tensor([2.0]))
    module = nn.Module()
    module.register_parameter("weight", parameter)
    spec = TrainSpec(optimizer=name, learning_rate=0.1, weight_decay=0.01, momentum=0.5)
    optimizer = optimizer_of(module, spec)
    for _ in range(2):
        parameter.grad = torch.tensor([1.0])
        optimizer.step()
    expected = {
        "sgd": 2.0 - 0.1 * 1.02 - 0.1 * (0.5 * 1.02 + 1 + 0.01 * (2.0 - 0.1 * 1.02)),
        # the first two steps of Adam along a constant gradient have the length of the learning rate
        "adamw": ((2.0 * (1 - 0.001)) - 0.1) * (1 - 0.001) - 0.1,
        "adam": 2.0 - 0.1 - 0.1,
    }[name]
    assert parameter.item() == pytest.approx(expected, abs=2e-4)


def test_gains_and_biases_decay_only_if_asked() -> None:
    whole = optimizer_of(network(), TrainSpec(weight_decay=0.05))
    assert [group["weight_decay"] for group in whole.param_groups] == [0.05]
    model = network(activation="prelu")
    matrices, vectors = optimizer_of(model, TrainSpec(weight_decay=0.05, decay_vectors=False)).param_groups
    assert (matrices["weight_decay"], vectors["weight_decay"]) == (0.05, 0.0)
    assert all(parameter.ndim > 1 for parameter in matrices["params"])
    assert all(parameter.ndim <= 1 for parameter in vectors["params"])
    assert len(matrices["params"]) + len(vectors["params"]) == len(list(model.parameters()))


def test_all_norms_but_the_stem_s_are_frozen() -> None:
    model = network(band_norm=True)
    every = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    names = {module: name for name, module in model.named_modules()}
    frozen = {names[module] for module in frozen_norms(model, "all_but_stem")}
    assert every - frozen == {"band_norm.norm", "stem.conv.norm"}
    assert len(frozen) > 3
    assert set(frozen_norms(model, "all")) == {model.get_submodule(name) for name in every}
    assert frozen_norms(model, "none") == []


def test_what_is_frozen_is_not_optimized() -> None:
    model = network()
    frozen = frozen_norms(model, "all")
    require_grad(frozen, False)
    held = {id(parameter) for norm in frozen for parameter in norm.parameters()}
    given = {id(parameter) for group in optimizer_of(model, TrainSpec()).param_groups for parameter in group["params"]}
    assert given == set(map(id, model.parameters())) - held
    require_grad(frozen, True)
    assert all(parameter.requires_grad for parameter in model.parameters())
