"""Several classes at once: decoding, thresholds and scores on cases counted by hand."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from system.data.folds import Event
from system.errors import DataError, FormatError
from system.scoring.events import (
    EventPredictions,
    choose_thresholds,
    decode,
    event_probabilities,
    score_events,
)
from system.scoring.predictions import Predictions
from system.scoring.sed_scores import sed_scores

CLASSES = ("dog", "rain", "siren")
GROUPS = {"a": "real", "s4": "unseen"}


def heard(*rolls: list[str], **changes: Any) -> EventPredictions:
    """One clip of one-second segments for each list; a segment is written as the initials of what is predicted."""
    rows = [(f"{clip}.wav", number, text) for clip, roll in enumerate(rolls) for number, text in enumerate(roll)]
    active = np.array([[name[0] in text for name in CLASSES] for _, _, text in rows])
    base = EventPredictions(
        classes=CLASSES,
        filename=tuple(name for name, _, _ in rows),
        segment=np.array([number for _, number, _ in rows]),
        device=("a",) * len(rows),
        label=active,
        source=tuple(name for name, _, _ in rows),
        probabilities=np.where(active, 0.9, 0.1),
        thresholds=np.full(len(CLASSES), 0.5),
        seconds=1.0,
    )
    return replace(base, **changes)


def test_neighbouring_segments_are_one_event() -> None:
    active = np.array([[1, 0], [1, 1], [0, 0], [1, 1]], dtype=bool)
    found = decode(active, np.arange(4), ("dog", "rain"), 0.4)
    assert found == [Event(0.0, 0.8, "dog"), Event(0.4, 0.8, "rain"), Event(1.2, 1.6, "dog"), Event(1.2, 1.6, "rain")]


def test_a_segment_that_was_dropped_ends_an_event() -> None:
    found = decode(np.ones((3, 1), dtype=bool), np.array([0, 1, 3]), ("dog",), 1.0)
    assert found == [Event(0.0, 2.0, "dog"), Event(3.0, 4.0, "dog")]
    assert decode(np.zeros((3, 1), dtype=bool), np.array([0, 1, 3]), ("dog",), 1.0) == []


@settings(max_examples=30, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.just(2))))
def test_events_tell_what_was_active(active: np.ndarray) -> None:
    again = np.zeros_like(active)
    for onset, offset, label in decode(active, np.arange(len(active)), ("dog", "rain"), 0.25):
        again[round(onset / 0.25) : round(offset / 0.25), ("dog", "rain").index(label)] = True
    assert np.array_equal(again, active)


def test_thresholds_have_the_greatest_f1() -> None:
    probabilities = np.array([[0.1, 0.3], [0.2, 0.6], [0.4, 0.7], [0.8, 0.2]])
    label = np.array([[0, 0], [1, 0], [1, 0], [1, 0]])
    assert choose_thresholds(probabilities, label) == pytest.approx([0.15, 0.5])
    generator = np.random.default_rng(0)
    probabilities, label = generator.random((300, 1)), generator.integers(0, 2, (300, 1))
    probabilities = 0.7 * probabilities + 0.3 * label * generator.random((300, 1))
    (threshold,) = choose_thresholds(probabilities, label)
    best = max(f1_score(label, probabilities >= value) for value in np.unique(probabilities))
    assert f1_score(label, probabilities >= threshold) == pytest.approx(best)


def test_probabilities_never_reach_0_or_1() -> None:
    found = event_probabilities(np.array([[-800.0, 0.0, 800.0]], np.float32))
    assert found.tolist() == [[1e-9, 0.5, 1 - 1e-9]]


def test_segments_and_events_counted_by_hand() -> None:
    """Annotated: a dog 0.1 to 1.0, rain 2.5 to 3.5. Predicted: the dog in second 0, rain in seconds 3 and 4."""
    predictions = heard(["d", "", "", "r", "r"])
    annotated = {"0.wav": (Event(0.1, 1.0, "dog"), Event(2.5, 3.5, "rain"))}
    found, _ = sed_scores(predictions.classes, predictions.beside(annotated))
    # seconds: dog 0 hit, rain 3 hit; rain 2 missed, rain 4 too much
    segments = found["segment_based"]
    assert (segments["precision"], segments["recall"], segments["f1"]) == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert (segments["deletion_rate"], segments["insertion_rate"]) == pytest.approx((1 / 3, 1 / 3))
    assert segments["error_rate"] == pytest.approx(2 / 3)
    assert segments["f1_macro"] == pytest.approx((1 + 1 / 2) / 2)  # the siren is not annotated
    # events: the dog's onset is 100 ms off, the rain's 500 ms
    events = found["event_based"]
    assert (events["precision"], events["recall"], events["f1"]) == (0.5, 0.5, 0.5)
    assert events["error_rate"] == pytest.approx(1.0)  # one missed and one too much of two
    assert (events["t_collar"], events["percentage_of_length"]) == (0.2, 0.5)


def test_a_class_that_is_never_predicted_counts_as_zero() -> None:
    predictions = heard(["d", ""], [""])
    annotated = {"0.wav": (Event(0.0, 1.0, "dog"),), "1.wav": (Event(0.0, 1.0, "rain"),)}
    found, _ = sed_scores(predictions.classes, predictions.beside(annotated))
    assert found["segment_based"]["f1_macro"] == found["event_based"]["f1_macro"] == 0.5
    assert found["segment_based"]["f1"] == pytest.approx(2 / 3)


def test_a_perfect_run() -> None:
    predictions = heard(["d", "dr", "", "s"], ["r", "", "s", "s"], ["", ""])
    annotated = {
        "0.wav": (Event(0, 2, "dog"), Event(1, 2, "rain"), Event(3, 4, "siren")),
        "1.wav": (Event(0, 1, "rain"), Event(2, 4, "siren")),
        "2.wav": (),
    }
    found = score_events(predictions, annotated, "test", GROUPS)
    assert (found["task"], found["n"], found["clips"], found["sources"]) == ("events", 10, 3, 3)
    assert found["accuracy"] == found["mAP"] == found["AUC"] == 1.0
    assert found["segment_based"]["f1"] == found["event_based"]["f1"] == 1.0
    assert found["segment_based"]["error_rate"] == found["event_based"]["error_rate"] == 0.0
    assert found["log_loss"] == pytest.approx(-math.log(0.9))
    assert found["thresholds"] == dict.fromkeys(CLASSES, 0.5)
    assert found["class_wise"]["siren"]["n"] == 3
    assert found["class_wise"]["siren"]["event_f1"] == 1.0
    json.dumps(found, allow_nan=False)


def made_up(n: int = 300, seed: int = 0) -> tuple[EventPredictions, dict[str, tuple[Event, ...]]]:
    generator = np.random.default_rng(seed)
    label = generator.random((n, 3)) < (0.5, 0.2, 0.05)
    filename = tuple(f"{i // 5}.wav" for i in range(n))
    predictions = EventPredictions(
        classes=CLASSES,
        filename=filename,
        segment=np.arange(n) % 5,
        device=tuple("a" if i // 5 % 2 else "s4" for i in range(n)),
        label=label,
        source=tuple(f"place-{i // 15}" for i in range(n)),
        probabilities=event_probabilities(generator.normal(size=(n, 3)) + 2.0 * label - 1.0),
        thresholds=np.array([0.5, 0.4, 0.3]),
        seconds=1.0,
    )
    annotated = {name: tuple(decode(label[rows], predictions.segment[rows], CLASSES, 1.0))
                 for name, _, rows in predictions.clips()}  # fmt: skip
    return predictions, annotated


def test_scores_against_scikit_learn() -> None:
    predictions, annotated = made_up()
    found = score_events(predictions, annotated, "test", GROUPS)
    label, active = predictions.label, predictions.active
    each = [log_loss(label[:, c], predictions.probabilities[:, c]) for c in range(3)]
    balanced = [balanced_accuracy_score(label[:, c], active[:, c]) for c in range(3)]
    assert found["log_loss"] == pytest.approx(np.mean(each))
    assert found["accuracy"] == pytest.approx(np.mean(balanced))
    assert [row["log_loss"] for row in found["class_wise"].values()] == pytest.approx(each)
    assert [row["accuracy"] for row in found["class_wise"].values()] == pytest.approx(balanced)
    # segments of a second on the annotated grid: the F1 of the segments, all decisions pooled
    assert found["segment_based"]["f1"] == pytest.approx(f1_score(label.ravel(), active.ravel()))
    assert found["segment_based"]["f1_macro"] == pytest.approx(f1_score(label, active, average="macro"))
    assert set(found["device_wise"]) == {"a", "s4"}
    assert set(found["device_groups"]) == {"real", "unseen"}
    assert found["device_wise"]["a"]["n"] == 150
    for name in ("accuracy", "log_loss"):
        low, high = found["interval"][name]
        assert low < found[name] < high
    assert found == score_events(predictions, annotated, "test", GROUPS)


def test_a_clip_is_tagged_by_its_surest_segment() -> None:
    label = np.array([[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=bool)
    probabilities = np.array([[0.3, 0.1, 0.1], [0.2, 0.1, 0.1], [0.25, 0.1, 0.1], [0.25, 0.1, 0.1]])
    predictions = heard(["", ""], ["", ""], label=label, probabilities=probabilities)
    found = score_events(predictions, {"0.wav": (Event(0, 1, "dog"),), "1.wav": ()}, "test", GROUPS)
    assert found["class_wise"]["dog"]["average_precision"] == 1.0  # 0.3 before 0.25; their means are equal
    assert found["class_wise"]["rain"]["average_precision"] is None
    assert found["mAP"] == 1.0


def test_tags_without_a_time_have_no_event_scores() -> None:
    predictions = heard(["d", "d"], ["r", "r"])
    annotated = {"0.wav": (Event(0.0, math.inf, "dog"),), "1.wav": (Event(0.0, math.inf, "rain"),)}
    found = score_events(predictions, annotated, "test", GROUPS)
    assert found["mAP"] == 1.0
    assert "segment_based" not in found
    assert "event_based" not in found
    assert "event_f1" not in found["class_wise"]["dog"]


def test_every_device_is_a_recording_of_its_own() -> None:
    one = heard(["d", ""])
    both = replace(
        one,
        filename=one.filename * 2,
        segment=np.tile(one.segment, 2),
        device=("a", "a", "s4", "s4"),
        label=np.tile(one.label, (2, 1)),
        source=one.source * 2,
        probabilities=np.concatenate([one.probabilities, np.full((2, 3), 0.1)]),
    )
    found = score_events(both, {"0.wav": (Event(0, 1, "dog"),)}, "test", GROUPS)
    assert found["clips"] == 2
    assert found["event_based"]["recall"] == 0.5


def test_nothing_to_score() -> None:
    empty = replace(heard(["d"]), filename=(), segment=np.zeros(0), device=(), source=())
    with pytest.raises(DataError, match="test part holds no segment"):
        score_events(empty, {}, "test", GROUPS)


def test_files(tmp_path: Path) -> None:
    predictions = heard(["d", "dr", ""])
    predictions.write_csv(tmp_path / "predictions.csv")
    predictions.write_events(tmp_path / "events.csv")
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["filename", "segment", "device", "label", "predicted", *CLASSES]
    assert [row[3:5] for row in rows[1:]] == [["dog", "dog"], ["dog|rain", "dog|rain"], ["", ""]]
    assert rows[2][5:] == ["0.9", "0.9", "0.1"]
    assert (tmp_path / "events.csv").read_text().splitlines() == [
        "filename,device,onset,offset,label",
        "0.wav,a,0.0,2.0,dog",
        "0.wav,a,1.0,2.0,rain",
    ]
    shorter = heard(["", "d"], ["d"], clip_seconds={"0.wav": 1.6})
    shorter.write_events(tmp_path / "events.csv")
    assert (tmp_path / "events.csv").read_text().splitlines()[1:] == ["0.wav,a,1.0,1.6,dog", "1.wav,a,0.0,1.0,dog"]
    with pytest.raises(FormatError, match=r"line 3: expected one predicted class.*found 'dog\|rain'"):
        Predictions.read_csv(tmp_path / "predictions.csv")
