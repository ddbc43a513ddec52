"""What meta.yaml says of how a run was trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from submission.packing.describe import _objective, _pipeline
from system.spec import DistillSpec, ExperimentSpec, InitSpec


@pytest.mark.parametrize(
    ("teachers", "said"),
    [
        ((), "cross entropy"),
        (("runs/a",), "cross entropy, and knowledge distillation from 1 teacher"),
        (("runs/a", "b.npz"), "cross entropy, and knowledge distillation from 2 teachers"),
    ],
)
def test_teachers_are_declared(teachers: tuple[str, ...], said: str) -> None:
    assert _objective(ExperimentSpec(distill=DistillSpec(teachers=teachers))) == said


@pytest.mark.parametrize(
    ("spec", "tuned", "said"),
    [
        (ExperimentSpec(), False, "log-mel, training, re-parameterization, calibration, integer inference, softmax"),
        (
            ExperimentSpec(init=InitSpec(run="runs/general")),
            True,
            "log-mel, pretraining, training, re-parameterization, calibration, quantization-aware training, "
            "integer inference, softmax",
        ),
    ],
)
def test_the_pipeline_names_its_steps(spec: ExperimentSpec, tuned: bool, said: str) -> None:
    run = cast(Any, SimpleNamespace(spec=spec, tuned=tuned))
    assert _pipeline(run, "softmax") == said
