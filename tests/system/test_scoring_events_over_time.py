"""Medians over time, before thresholds: what is decided by them, what is not, and how long they are."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import logit

from system.data.folds import Event
from system.dataset import PreparedData, Segments
from system.experiment import scored
from system.scoring.events import (
    EventPredictions,
    choose_decoding,
    choose_thresholds,
    decode,
    event_probabilities,
    have_times,
    over_time,
    score_events,
)
from system.scoring.sed_scores import sed_scores
from tests import tiny

GROUPS = {"a": "real"}


def heard(*clips: list[float], window: int = 1, segment: list[int] | None = None) -> EventPredictions:
    """Clips of seconds with the probabilities of one class, which sounds where they are above a half."""
    values = np.array([value for clip in clips for value in clip]).reshape(-1, 1)
    name = tuple(f"{number}.wav" for number, clip in enumerate(clips) for _ in clip)
    return EventPredictions(
        classes=("dog",),
        filename=name,
        segment=np.array(segment or [number for clip in clips for number in range(len(clip))], np.int64),
        device=("a",) * len(name),
        label=values > 0.5,
        source=name,
        probabilities=values,
        thresholds=np.full(1, 0.5),
        seconds=1.0,
        median_window=window,
    )


def flickering(seed: int, clips: int = 40, segments: int = 25) -> tuple[EventPredictions, dict[str, tuple[Event, ...]]]:
    """Two classes, each for 6 to 12 segments of a clip; one segment in twenty is taken for the opposite."""
    generator = np.random.default_rng(seed)
    label = np.zeros((clips, segments, 2), bool)
    for clip, c in np.ndindex(clips, 2):
        start = generator.integers(0, segments - 6)
        label[clip, start : start + generator.integers(6, 13), c] = True
    wrong = generator.random(label.shape) < 0.05
    logits = np.where(label ^ wrong, 2.0, -2.0) + 0.3 * generator.normal(size=label.shape)
    annotated = {f"{clip}.wav": tuple(decode(roll, np.arange(segments), ("dog", "rain"), 0.4))
                 for clip, roll in enumerate(label)}  # fmt: skip
    name = tuple(f"{clip}.wav" for clip in range(clips) for _ in range(segments))
    return EventPredictions(
        classes=("dog", "rain"),
        filename=name,
        segment=np.tile(np.arange(segments), clips),
        device=("a",) * len(name),
        label=label.reshape(-1, 2),
        source=name,
        probabilities=event_probabilities(logits.reshape(-1, 2)),
        thresholds=np.full(2, 0.5),
        seconds=0.4,
    ), annotated


def test_a_median_takes_out_what_lasts_too_short() -> None:
    p = np.array([[0.9, 0.5], [0.1, 0.6], [0.2, 0.7], [0.8, 0.8], [0.1, 0.9]])
    assert over_time(p, 1).tolist() == p.tolist()
    assert over_time(p, 3).tolist() == [[0.9, 0.5], [0.2, 0.6], [0.2, 0.7], [0.2, 0.8], [0.1, 0.9]]
    assert over_time(p, 5)[0].tolist() == [0.9, 0.5], "three of five are the first segment"


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.floats(0, 1)),
    st.integers(0, 6).map(lambda half: 2 * half + 1),
)
def test_medians_are_those_of_the_segments_around(p: np.ndarray, window: int) -> None:
    padded = np.pad(p, ((window // 2, window // 2), (0, 0)), mode="edge")
    expected = [np.median(padded[start : start + window], axis=0).tolist() for start in range(len(p))]
    assert over_time(p, window).tolist() == expected


def test_recordings_and_devices_and_what_is_beyond_a_dropped_segment_are_no_neighbours() -> None:
    apart = heard([0.9, 0.9, 0.1], [0.9, 0.1, 0.1], window=3, segment=[0, 1, 2, 3, 4, 5])
    assert apart.smoothed[:, 0].tolist() == [0.9, 0.9, 0.1, 0.9, 0.1, 0.1]
    both = replace(apart, filename=("0.wav",) * 6, device=("a", "a", "a", "s4", "s4", "s4"))
    assert both.smoothed[:, 0].tolist() == [0.9, 0.9, 0.1, 0.9, 0.1, 0.1]
    gap = heard([0.9, 0.9, 0.1, 0.9, 0.1], window=3, segment=[0, 1, 2, 4, 5])
    assert gap.smoothed[:, 0].tolist() == [0.9, 0.9, 0.1, 0.9, 0.1]
    assert gap.events(np.arange(5)) == [Event(0.0, 2.0, "dog"), Event(4.0, 5.0, "dog")]


def test_decisions_are_made_over_time_and_the_network_is_judged_without(tmp_path: Path) -> None:
    annotated = {"0.wav": (Event(4.0, 9.0, "dog"),), "1.wav": ()}
    clips = [0.2, 0.8, 0.2, 0.2, 0.9, 0.9, 0.3, 0.9, 0.9, 0.2], [0.1, 0.1, 0.2, 0.1, 0.1, 0.95, 0.1, 0.1]
    label = np.zeros((18, 1), bool)
    label[4:9] = True
    alone, medians = (replace(heard(*clips, window=window), label=label) for window in (1, 3))
    before, after = (score_events(predictions, annotated, "test", GROUPS) for predictions in (alone, medians))
    assert (before["median_window"], after["median_window"]) == (1, 3)
    for name in ("mAP", "AUC", "d_prime", "log_loss"):
        assert before[name] == after[name], name
    assert before["event_based"]["f1"] == 0.0, "two halves and two that are none"
    assert before["accuracy"] < 1.0
    assert after["event_based"]["f1"] == after["segment_based"]["f1"] == after["accuracy"] == 1.0
    medians.write_csv(tmp_path / "predictions.csv")
    medians.write_events(tmp_path / "events.csv")
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["dog"]) for row in rows] == [*clips[0], *clips[1]]
    assert [row["predicted"] for row in rows] == [row["label"] for row in rows]
    assert (tmp_path / "events.csv").read_text().splitlines()[1:] == ["0.wav,a,4.0,9.0,dog"]


def test_the_window_of_the_validation_part_takes_out_false_alarms_of_others() -> None:
    validation, (test, annotated) = flickering(0)[0], flickering(1)
    thresholds, window = choose_decoding(validation)
    assert 3 <= window <= 7, "of events of at least six segments"
    alone = replace(test, thresholds=choose_thresholds(validation.probabilities, validation.label))
    before = sed_scores(alone.classes, alone.beside(annotated))[0]["event_based"]
    decided = replace(test, thresholds=thresholds, median_window=window)
    after = sed_scores(decided.classes, decided.beside(annotated))[0]["event_based"]
    assert before["error_rate"] > 1.3
    assert after["error_rate"] < 0.6
    assert after["insertion_rate"] < before["insertion_rate"] / 3
    assert after["f1"] > before["f1"] + 0.2


@pytest.mark.parametrize("seed", [2, 3, 4, 5])
def test_the_window_has_the_greatest_f1_with_thresholds_of_its_own(seed: int) -> None:
    validation = flickering(seed)[0]
    thresholds, window = choose_decoding(validation)
    f1 = {}
    for tried in range(1, 13, 2):  # up to half of the 25 segments
        smoothed = replace(validation, median_window=tried).smoothed
        active = smoothed >= choose_thresholds(smoothed, validation.label)
        hits = (active & validation.label).sum(axis=0)
        f1[tried] = np.mean(2 * hits / (active.sum(axis=0) + validation.label.sum(axis=0)))
    assert window == max(f1, key=f1.__getitem__) > 1
    smoothed = replace(validation, median_window=window).smoothed
    assert thresholds.tolist() == choose_thresholds(smoothed, validation.label).tolist()
    assert choose_decoding(replace(validation, thresholds=np.ones(2), median_window=9))[1] == window


@pytest.mark.parametrize(
    "clips",
    [
        [[0.1] * 4 + [0.9] * 5 + [0.1] * 4],  # medians of three and five decide the same
        [[0.9, 0.1, 0.9], [0.1, 0.9, 0.1]],  # too short for three
        [],
    ],
)
def test_the_shortest_of_equal_windows_is_taken(clips: list[list[float]]) -> None:
    assert choose_decoding(heard(*clips))[1] == 1


def test_a_window_is_no_longer_than_half_a_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    for segments, expected in ((5, 1), (6, 3)):
        clips = heard([0.9, 0.9, 0.2, *[0.9] * (segments - 3)], [0.3] * segments)
        clips.label[:segments] = True
        assert choose_decoding(clips)[1] == expected
    monkeypatch.setattr("system.scoring.events.LARGEST_WINDOW", 2)
    assert choose_decoding(clips)[1] == 1


def test_tags_without_a_time_have_no_medians() -> None:
    validation = flickering(0)[0]
    thresholds, window = choose_decoding(validation, timed=False)
    assert window == 1
    assert thresholds.tolist() == choose_thresholds(validation.probabilities, validation.label).tolist()
    assert have_times({"0.wav": (Event(0.0, 1.0, "dog"),), "1.wav": ()})
    assert not have_times({"0.wav": (Event(0.0, math.inf, "dog"),)})


def test_what_is_chosen_decides_the_test_part() -> None:
    (validation, _), (test, annotated) = flickering(0), flickering(1)
    heard, tested, nothing = (
        Segments(np.zeros((n, 1, 1)), part.label[:n].astype(np.float32), part.filename[:n], part.segment[:n],
                 part.device[:n], part.source[:n])
        for part, n in ((validation, 1000), (test, 1000), (test, 0))
    )  # fmt: skip
    data = PreparedData("made", ("dog", "rain"), GROUPS, nothing, heard, tested, "", 0, 0.4, annotated)
    logits = {"validation": logit(validation.probabilities), "test": logit(test.probabilities)}
    predictions, scores = scored(data, "test", logits, tiny.experiment())
    assert isinstance(predictions, EventPredictions)
    assert predictions.median_window == scores["median_window"] == choose_decoding(validation)[1] > 1
    assert scores["event_based"]["error_rate"] < 0.6
    of_checkpoint = scored(data, "test", logits, tiny.experiment(), (np.array([0.3, 0.4]), 9))[1]
    assert of_checkpoint["thresholds"] == {"dog": 0.3, "rain": 0.4}
    assert of_checkpoint["median_window"] == 9
    tags = {name: tuple(event._replace(offset=math.inf) for event in events) for name, events in annotated.items()}
    assert scored(replace(data, events=tags), "test", logits, tiny.experiment())[1]["median_window"] == 1
    scores = scored(replace(data, validation=nothing), "test", {"test": logits["test"]}, tiny.experiment())[1]
    assert (scores["median_window"], scores["thresholds"]) == (1, {"dog": 0.5, "rain": 0.5})
