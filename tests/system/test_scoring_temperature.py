"""The temperature is fitted on validation data alone, used only where it helps, and changes no decision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from system.checkpoint import load_checkpoint
from system.experiment import scored, train_and_report
from system.scoring.predictions import PROBABILITY_FLOOR, Predictions
from system.scoring.scenes import score
from system.scoring.temperature import GREATEST, LEAST, fit_temperature, losses
from tests import tiny


def drawn(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits (n, 4) that tell the truth about their labels (n,), and sources (n,) of four segments each."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(count, 4))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    label = np.array([generator.choice(4, p=row) for row in shares])
    return logits, label, np.arange(count) // 4


@pytest.mark.parametrize("too_sure", [0.4, 1.0, 3.0])
def test_what_logits_were_multiplied_by_is_found(too_sure: float) -> None:
    logits, label, source = drawn(4000)
    found = fit_temperature(too_sure * logits, label, source)
    assert found.value == pytest.approx(too_sure, rel=0.1)
    assert found.log_loss <= min(losses(too_sure * logits, label, t).mean() for t in np.geomspace(0.2, 20, 200)) + 1e-6
    assert found.log_loss_at_1 == pytest.approx(losses(too_sure * logits, label).mean())
    assert found.helps or too_sure == 1.0


def test_on_few_segments_what_is_chance_is_not_used() -> None:
    used = [fit_temperature(*drawn(24, seed)).helps for seed in range(30)]
    better = [found.log_loss < found.log_loss_at_1 for found in (fit_temperature(*drawn(24, s)) for s in range(30))]
    assert sum(better) == 30  # on what they were fitted on
    assert sum(used) < 15


def test_it_stays_within_limits_where_the_loss_has_no_minimum() -> None:
    logits = np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert fit_temperature(logits, np.array([0, 1, 2, 0, 1, 2]), np.arange(6)).value == pytest.approx(LEAST, rel=1e-3)
    assert fit_temperature(logits, np.array([1, 2, 0, 1, 2, 0]), np.arange(6)).value == pytest.approx(
        GREATEST, rel=1e-2
    )


def test_with_one_source_nothing_can_be_checked() -> None:
    logits, label, _ = drawn(40)
    assert not fit_temperature(5 * logits, label, np.zeros(40)).helps


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.1, 10))
def test_the_loss_it_was_fitted_on_never_rises(seed: int, factor: float) -> None:
    logits, label, source = drawn(40, seed)
    found = fit_temperature(factor * logits, label, source)
    assert found.log_loss <= found.log_loss_at_1 + 1e-9
    assert LEAST - 1e-3 <= found.value <= GREATEST + 0.1


def made_up_logits(sharpness: float) -> dict[str, np.ndarray]:
    """Of the tiny data set: mostly right, and sure of it."""
    data, generator = tiny.data(validation=240, test=120), np.random.default_rng(0)
    truth = {part: np.eye(3)[getattr(data, part).label] for part in ("validation", "test")}
    return {part: sharpness * (row + generator.normal(scale=0.7, size=row.shape)) for part, row in truth.items()}


def test_a_scene_is_scored_at_the_temperature_of_the_validation_part() -> None:
    data, logits = tiny.data(validation=240, test=120), made_up_logits(12.0)
    predictions, scores = scored(data, "test", logits, tiny.experiment())
    told = scores["temperature"]
    assert told["value"] == told["fitted"] > 1.5
    assert told["validation_log_loss"] < told["validation_log_loss_at_1"]
    assert scores["log_loss"] == pytest.approx(losses(logits["test"], data.test.label, told["value"]).mean(), rel=1e-6)
    assert scores["log_loss"] < told["log_loss_at_1"]
    assert told["probability_floor"] == PROBABILITY_FLOOR
    assert isinstance(predictions, Predictions)
    assert np.array_equal(predictions.probabilities.argmax(axis=1), logits["test"].argmax(axis=1))

    swapped = {"validation": logits["validation"], "test": -logits["test"]}
    assert scored(data, "test", swapped, tiny.experiment())[1]["temperature"]["value"] == told["value"]


@pytest.mark.parametrize("value", [1.0, 2.5])
def test_a_given_temperature_is_kept(value: float) -> None:
    data, logits = tiny.data(validation=240, test=120), made_up_logits(12.0)
    told = scored(data, "test", logits, tiny.experiment(temperature=value))[1]["temperature"]
    assert told["value"] == value != told["fitted"]


def test_no_probability_of_a_file_is_zero(tmp_path: Path) -> None:
    data = tiny.data(validation=240, test=120)
    logits = {part: 1e4 * values for part, values in made_up_logits(1.0).items()}
    predictions, scores = scored(data, "test", logits, tiny.experiment(temperature=1.0))
    predictions.write_csv(tmp_path / "predictions.csv")
    read = Predictions.read_csv(tmp_path / "predictions.csv")
    assert read.probabilities.min() > PROBABILITY_FLOOR / 2
    assert score(read, "test", data.device_groups)["log_loss"] == pytest.approx(scores["log_loss"])


def test_a_trained_run_carries_its_temperature(tmp_path: Path) -> None:
    scores = train_and_report(tiny.experiment(epochs=1, temperature=1.7), tiny.data(), tmp_path, "cpu", resume=False)
    assert scores["temperature"]["value"] == 1.7
    assert load_checkpoint(tmp_path / "model.safetensors").temperature == 1.7
