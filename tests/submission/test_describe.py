"""What meta.yaml says of how a run was trained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from submission.packing.describe import _objective, _pipeline, describe
from submission.packing.people import PLACEHOLDER
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


GENERAL = ExperimentSpec()
FINE_TUNED = GENERAL.changed(
    init=InitSpec(run="runs/general"), train=GENERAL.train.changed(epochs=GENERAL.train.epochs + 1)
)


def described(**runs: tuple[ExperimentSpec, bool, float]) -> dict[str, Any]:
    """What is told of a system whose parts are (experiment, tuned, temperature) each; `general`: of no device."""
    parts = {
        "" if name == "general" else name: SimpleNamespace(
            run=SimpleNamespace(
                spec=spec, tuned=tuned, temperature=temperature, backend="brevitas", complexity={"inferences": 1},
                predictions=None,
                scores={"temperature": {"value": temperature, "fitted": temperature}},
            )
        )
        for name, (spec, tuned, temperature) in runs.items()
    }  # fmt: skip
    system = SimpleNamespace(parts=parts, first=next(iter(parts.values())))
    return describe(cast(Any, system), PLACEHOLDER)


def test_models_of_single_devices_are_told_with_what_is_other_about_them() -> None:
    told = described(general=(GENERAL, True, 0.5), b=(FINE_TUNED, False, 0.5), s1=(FINE_TUNED, False, 2.0))
    assert told["system_adaptations"] == (
        "a model of its own for each device of b, s1, with other values of init.run, train.epochs"
    )
    assert told["complexity_management"].endswith(
        "INT8 quantization-aware training (all others), post-training quantization (b, s1)"
    )
    assert "temperature 0.5 (all others, b), 2 (s1) (fitted" in told["decision_making"]
    alike = described(general=(GENERAL, True, 0.5), b=(GENERAL, True, 0.5))
    assert alike["system_adaptations"] == "a model of its own for each device of b"
    assert alike["complexity_management"].endswith("INT8 quantization-aware training")


def test_one_model_has_no_adaptations_and_splits_have_their_own() -> None:
    one = described(general=(GENERAL, True, 0.5))
    assert (one["split_adaptations"], one["system_adaptations"]) == (None, None)
    splits = described(split_5=(GENERAL, False, 0.5), split_10=(FINE_TUNED, True, 0.5))
    assert splits["split_adaptations"] == "other values of init.run, train.epochs"
    assert splits["system_adaptations"] is None
    assert splits["complexity_management"].endswith(
        "INT8 post-training quantization (split_5), quantization-aware training (split_10)"
    )
