"""Schedules of the learning rate against PyTorch's own, and where they begin, turn and end."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
import torch
from torch.optim import lr_scheduler

from system.config import parse
from system.errors import ConfigError
from system.learning.schedules import SCHEDULES, learning_rate_factor
from system.recipes import RECIPES
from system.spec import ExperimentSpec, TrainSpec

NEEDS: dict[str, dict[str, Any]] = {"step": {"milestones": (0.6, 0.8)}, "plateau": {"milestones": (0.25, 0.75)}}


def factors(steps: int, **fields: Any) -> list[float]:
    spec = TrainSpec(**fields)
    return [learning_rate_factor(step, steps, spec) for step in range(spec.epochs * steps)]


def theirs(make: Any, steps: int) -> list[float]:
    """The same from a scheduler of PyTorch on an optimizer with the learning rate 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_spec_names_every_schedule() -> None:
    assert set(SCHEDULES) == set(get_args(TrainSpec.model_fields["schedule"].annotation))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize(("epochs", "steps"), [(1, 1), (1, 3), (3, 1), (3, 7), (8, 5), (50, 2)])
def test_a_schedule_stays_within_its_highest(schedule: str, epochs: int, steps: int) -> None:
    found = factors(steps, epochs=epochs, schedule=schedule, **NEEDS.get(schedule, {}))
    assert min(found) > 0
    assert max(found) <= 1.0
    if epochs * steps > 20:
        assert max(found) > 0.99
        assert found[-1] < 0.2


def test_cosine_after_a_warm_up() -> None:
    """10 steps an epoch, 6 epochs: one epoch of warm-up to the peak, then half a cosine."""
    spec = TrainSpec(epochs=6)
    found = [learning_rate_factor(step, 10, spec) for step in range(61)]
    assert found[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert found[10] == 1.0
    assert found[35] == pytest.approx(0.5)
    assert found[22] == pytest.approx(0.5 * (1 + math.cos(math.pi * 12 / 50)))
    assert found[60] == pytest.approx(0.0, abs=1e-12)
    assert found[10:] == sorted(found[10:], reverse=True)
    assert learning_rate_factor(99, 10, spec) == pytest.approx(0.0, abs=1e-12)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert factors(10, epochs=6, warmup_epochs=0)[0] == 1.0


def test_a_warm_up_is_never_longer_than_half_of_the_training() -> None:
    assert TrainSpec(epochs=150, warmup_epochs=14).warmup() == 14
    found = factors(10, epochs=4, warmup_epochs=14)
    assert found[19] == 1.0
    assert found[:20] == sorted(found[:20])


def test_one_cycle_is_pytorch_s() -> None:
    steps = 200
    ours = factors(10, epochs=20, schedule="one_cycle")
    pytorch = theirs(
        lambda optimizer: lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=steps, cycle_momentum=False), steps
    )
    assert ours == pytest.approx(pytorch, abs=0.02)  # theirs reaches its ends a step earlier
    assert ours.index(max(ours)) == 60  # 30 %


def test_steps_are_pytorch_s() -> None:
    recipe = RECIPES["audio_rep_inception"]["train"]
    ours = factors(7, **recipe)
    pytorch = theirs(lambda optimizer: lr_scheduler.MultiStepLR(optimizer, [7 * 30, 7 * 40], 0.1), 7 * 50)
    assert ours == pytest.approx(pytorch)


def test_milestones_move_with_the_length_of_the_training() -> None:
    recipe = dict(RECIPES["audio_rep_inception_fine_tune"]["train"])
    assert factors(3, **recipe) == pytest.approx([1.0] * 60 + [0.1] * 15 + [0.01] * 15)  # after 20 and 25 of 30 epochs
    assert factors(1, **{**recipe, "epochs": 6}) == pytest.approx([1.0] * 4 + [0.1, 0.01])


def test_a_plateau_falls_along_a_line_and_stays() -> None:
    found = factors(1, **RECIPES["cp_mobile"]["train"])
    assert found[:14] == pytest.approx([(epoch + 1) / 14 for epoch in range(14)])
    assert found[14:51] == [1.0] * 37
    assert found[92] == pytest.approx(0.5 * (1 + 0.005), abs=1e-6)  # half way from 50 to 134
    assert found[134:] == pytest.approx([0.005] * 16)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"schedule": "step"}, "schedule step needs milestones"),
        ({"schedule": "plateau", "milestones": [0.5]}, "schedule plateau needs two milestones"),
        ({"milestones": [0.8, 0.6]}, r"milestones must rise, found \[0\.8, 0\.6\]"),
        ({"milestones": [0.5, 0.5]}, "milestones must rise"),
        ({"milestones": [30]}, r"train\.milestones\.0: .*less than 1, found 30"),
        ({"schedule": "cosin"}, r"train\.schedule: .*'cosine'.*found 'cosin'"),
    ],
)
def test_a_schedule_that_cannot_be_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse(ExperimentSpec, {"train": fields}, "some.yaml")
