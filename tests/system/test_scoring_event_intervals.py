"""Intervals of mAP and of the scores of events: what a draw is scored by, and what decides their width."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from system.data.folds import Event
from system.scoring.bootstrap import drawn_sources
from system.scoring.event_intervals import EventSums, event_intervals
from system.scoring.events import EventPredictions, score_events
from system.scoring.sed_scores import sed_scores
from tests.system.test_scoring_events import made_up

CLASSES = ("dog", "rain", "siren")
SCORES = (
    ("segment_based", "f1"),
    ("segment_based", "error_rate"),
    ("event_based", "f1"),
    ("event_based", "error_rate"),
)


def one_source_each(clips: int = 60, seed: int = 0) -> tuple[EventPredictions, dict[str, tuple[Event, ...]]]:
    """Five seconds each, every clip a source of its own."""
    predictions, annotated = made_up(5 * clips, seed)
    return replace(predictions, source=predictions.filename), annotated


def test_the_counts_of_the_clips_add_up_to_the_scores() -> None:
    predictions, annotated = one_source_each()
    scores, counts = sed_scores(predictions.classes, predictions.beside(annotated))
    for kind, values in counts.items():
        assert values.shape == (60, 4)
        hits, reference, found, errors = values.sum(axis=0)
        assert 2 * hits / (reference + found) == pytest.approx(scores[kind]["f1"])
        assert errors / reference == pytest.approx(scores[kind]["error_rate"])


def test_a_draw_has_the_average_precision_of_clips_that_count_several_times() -> None:
    generator = np.random.default_rng(1)
    surest = generator.integers(0, 8, size=(40, 3)) / 8  # equal probabilities are common
    tagged = generator.random((40, 3)) < 0.3
    tagged[:, 2] = False  # a class that no clip has is not averaged
    (weights,) = drawn_sources(40, seed=0, resamples=20)
    found = EventSums(surest, tagged, {}, np.arange(40)).scores(weights)["mAP"]
    for row, value in zip(weights, found, strict=True):
        drawn = np.repeat(np.arange(40), row.astype(int))
        expected = [average_precision_score(tagged[drawn, c], surest[drawn, c]) for c in range(2)]
        assert value == pytest.approx(np.mean(expected))


def test_intervals_hold_the_scores_and_are_deterministic() -> None:
    predictions, annotated = one_source_each()
    found = score_events(predictions, annotated, "test", {"a": "real"})
    low, high = found["interval"]["mAP"]
    assert low < found["mAP"] < high
    for kind, name in SCORES:
        low, high = found["interval"][kind][name]
        assert low < found[kind][name] < high
    assert found == score_events(predictions, annotated, "test", {"a": "real"})


def test_clips_of_one_source_are_drawn_together() -> None:
    predictions, annotated = one_source_each()
    coarse = replace(predictions, source=tuple(f"place-{int(name[:-4]) % 3}" for name in predictions.filename))
    single = replace(predictions, source=("one",) * len(predictions.source))
    fine, wide, none = (
        score_events(version, annotated, "test", {"a": "real"})["interval"] for version in (predictions, coarse, single)
    )
    for kind, name in SCORES:
        assert none[kind][name][0] == none[kind][name][1], "a single source is always drawn"
        assert fine[kind][name] != wide[kind][name]
    assert none["mAP"][0] == none["mAP"][1]


def test_the_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    predictions, annotated = one_source_each(2000, seed=9)
    _, counts = sed_scores(predictions.classes, predictions.beside(annotated))
    hits, reference, found, _ = counts["event_based"].sum(axis=0)
    truth = 2 * hits / (reference + found)  # of so many clips the score of all
    covered = 0
    generator = np.random.default_rng(2)
    for turn in range(40):
        some = generator.choice(2000, 60, replace=False)
        mine = {"event_based": counts["event_based"][some]}
        intervals = event_intervals(EventSums(np.zeros((60, 3)), np.zeros((60, 3), bool), mine, np.arange(60)), turn)
        low, high = intervals["event_based"]["f1"]
        covered += low <= truth <= high
    assert covered >= 34, "of 40 at 95 %, less than 34 has a probability below 0.01"


def test_what_no_draw_defines_has_no_interval() -> None:
    nothing = np.zeros((4, 2), bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sums = EventSums(np.ones((4, 2)) / 2, nothing, {"event_based": np.zeros((4, 4))}, np.arange(4))
        found = event_intervals(sums, 0)
    assert found == {"mAP": None, "event_based": {"f1": None, "error_rate": None}}
