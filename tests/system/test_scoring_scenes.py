"""Scores against scikit-learn, sed_eval and cases counted by hand, all from predictions.csv alone."""

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

from system.errors import DataError
from system.scoring.bootstrap import bootstrap, drawn_sources
from system.scoring.confusion import plot_confusion
from system.scoring.predictions import PROBABILITY_FLOOR, Predictions, floored, probabilities_of
from system.scoring.scenes import score

CLASSES = ("bus", "park", "tram", "metro station")
GROUPS = {"a": "real", "b": "real", "s1": "seen", "s4": "unseen"}


def made_up(n: int = 400, seed: int = 0, dtype: Any = np.float64, segments: int = 5) -> Predictions:
    generator = np.random.default_rng(seed)
    truth = generator.choice(len(CLASSES), size=n // segments, p=[0.5, 0.3, 0.15, 0.05]).repeat(segments)
    logits = generator.normal(size=(n, len(CLASSES))) + 1.5 * np.eye(len(CLASSES))[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    clip = np.arange(n) // segments
    return Predictions(
        classes=CLASSES,
        filename=tuple(f"audio/{i}, final.wav" for i in clip),
        segment=np.arange(n) % segments,
        device=tuple(list(GROUPS)[i % len(GROUPS)] for i in clip),
        label=tuple(CLASSES[i] for i in truth),
        source=tuple(f"place-{i // 3}" for i in clip),
        probabilities=probabilities.astype(dtype),
    )


def by_hand(labels: str, rows: list[list[float]], **changes: Any) -> Predictions:
    """Predictions over the classes x and y."""
    n = len(rows)
    base = Predictions(
        classes=("x", "y"),
        filename=tuple(f"{i}.wav" for i in range(n)),
        segment=np.zeros(n, dtype=np.int64),
        device=("a",) * n,
        label=tuple(labels),
        source=tuple(f"{i}.wav" for i in range(n)),
        probabilities=np.array(rows, dtype=float),
    )
    return replace(base, **changes)


def test_a_case_counted_by_hand() -> None:
    scores = score(by_hand("xxxy", [[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]), "test", {"a": "real"})
    losses = [-math.log(p) for p in (0.9, 0.8, 0.3, 0.6)]
    assert scores["accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert scores["log_loss"] == pytest.approx(sum(losses) / 4)
    assert scores["log_loss_macro"] == pytest.approx((sum(losses[:3]) / 3 + losses[3]) / 2)
    assert scores["n"] == 4
    assert scores["split"] == "test"
    assert scores["class_wise"]["x"] == pytest.approx({"accuracy": 2 / 3, "log_loss": sum(losses[:3]) / 3, "n": 3})
    assert scores["confusion"] == {"classes": ["x", "y"], "matrix": [[2, 1], [0, 1]]}
    assert "clip_accuracy" not in scores


def test_clip_accuracy_joins_log_probabilities_on_recorded_devices() -> None:
    # The segments of u.wav vote 2 : 1 for y, but their log probabilities add up to x.
    rows = [[0.99, 0.01], [0.4, 0.6], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]]
    predictions = by_hand(
        "xxxyx",
        rows,
        filename=("u", "u", "u", "v", "w"),
        segment=np.array([0, 1, 2, 0, 0]),
        device=("a",) * 4 + ("s1",),
    )
    assert score(predictions, "test", GROUPS)["clip_accuracy"] == 1.0
    everything = score(replace(predictions, device=("s1",) * 5), "test", GROUPS)
    assert everything["clip_accuracy"] == pytest.approx(0.75)  # no recorded device: x is right in 1 of 2, y in 1 of 1


def test_everything_again_from_the_file_with_scikit_learn(tmp_path: Path) -> None:
    from sklearn.metrics import balanced_accuracy_score, confusion_matrix, log_loss

    predictions = made_up()
    predictions.write_csv(tmp_path / "predictions.csv")
    scores = score(predictions, "test", GROUPS)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["filename", "segment", "device", "label", "predicted", *CLASSES]
    truth = np.array([row[3] for row in rows])
    guess = np.array([row[4] for row in rows])
    device = np.array([row[2] for row in rows])
    table = np.array([row[5:] for row in rows], dtype=float)

    def same(part: dict[str, Any], mask: np.ndarray) -> None:
        # scikit-learn wants the columns in alphabetical order
        order = np.argsort(CLASSES)
        loss = log_loss(truth[mask], table[mask][:, order], labels=sorted(CLASSES))
        assert part["log_loss"] == pytest.approx(loss, abs=1e-12)
        assert part["accuracy"] == pytest.approx(balanced_accuracy_score(truth[mask], guess[mask]), abs=1e-12)
        assert part["n"] == mask.sum()

    everything = np.ones(len(truth), dtype=bool)
    same(scores, everything)
    for name in CLASSES:
        mask = truth == name
        assert scores["class_wise"][name]["accuracy"] == pytest.approx((guess[mask] == name).mean())
        assert scores["class_wise"][name]["n"] == mask.sum()
    for name in GROUPS:
        same(scores["device_wise"][name], device == name)
    for group in ("real", "seen", "unseen"):
        same(scores["device_groups"][group], np.array([GROUPS[name] == group for name in device]))
    assert scores["confusion"]["matrix"] == confusion_matrix(truth, guess, labels=CLASSES).tolist()

    clips: dict[tuple[str, str, str], np.ndarray] = {}
    for row, values in zip(rows, table, strict=True):
        if GROUPS[row[2]] == "real":
            key = (row[0], row[2], row[3])
            clips[key] = clips.get(key, 0) + np.log(values)
    chosen = [CLASSES[int(total.argmax())] for total in clips.values()]
    assert scores["clip_accuracy"] == pytest.approx(balanced_accuracy_score([key[2] for key in clips], chosen))


def test_class_accuracies_agree_with_sed_eval() -> None:
    dcase_util = pytest.importorskip("dcase_util")
    sed_eval = pytest.importorskip("sed_eval")
    predictions = made_up(segments=1)
    scores = score(predictions, "test", GROUPS)

    def listed(labels: tuple[str, ...]) -> Any:
        rows = zip(predictions.filename, labels, strict=True)
        return dcase_util.containers.MetaDataContainer([{"filename": f, "scene_label": s} for f, s in rows])

    metrics = sed_eval.scene.SceneClassificationMetrics(scene_labels=list(CLASSES))
    metrics.evaluate(reference_scene_list=listed(predictions.label), estimated_scene_list=listed(predictions.predicted))
    class_wise = metrics.results_class_wise_metrics()
    for name in CLASSES:
        assert scores["class_wise"][name]["accuracy"] == pytest.approx(class_wise[name]["accuracy"]["accuracy"])
    average = metrics.results_class_wise_average_metrics()
    assert scores["accuracy"] == pytest.approx(average["accuracy"]["accuracy"])


def test_a_probability_of_zero_costs_what_it_costs_in_scikit_learn() -> None:
    from sklearn.metrics import log_loss

    rows = [[0.0, 1.0], [0.3, 0.7]]
    scores = score(by_hand("xy", rows), "test", {})
    assert scores["log_loss"] == pytest.approx(log_loss(["x", "y"], rows))
    json.dumps(scores, allow_nan=False)


def test_absent_classes_and_unknown_labels_do_not_count() -> None:
    scores = score(by_hand("xxx", [[0.9, 0.1]] * 3, label=("x", "", "x")), "validation", {})
    assert scores["accuracy"] == 1.0
    assert scores["n"] == 2
    assert list(scores["class_wise"]) == ["x"]
    assert scores["device_groups"] == {}
    json.dumps(scores, allow_nan=False)
    # and where nothing is known, nothing is scored
    with pytest.raises(DataError, match="no labelled segment"):
        score(by_hand("x", [[1.0, 0.0]], label=("",)), "test", {})
    with pytest.raises(DataError, match="z"):
        score(by_hand("z", [[1.0, 0.0]]), "test", {})


def width(interval: list[float]) -> float:
    return interval[1] - interval[0]


def test_the_interval_holds_the_score_and_is_deterministic() -> None:
    predictions = made_up()
    first, second = score(predictions, "test", GROUPS, seed=3), score(predictions, "test", GROUPS, seed=3)
    assert first == second
    assert score(predictions, "test", GROUPS, seed=4)["interval"] != first["interval"]
    for name in ("accuracy", "log_loss"):
        low, high = first["interval"][name]
        assert low <= first[name] <= high


def test_fewer_sources_make_the_interval_wider() -> None:
    """Ten copies of each segment: as sources of their own they narrow the interval by the root of ten."""
    predictions = made_up(120, segments=1)
    names = ("filename", "device", "label")
    tenfold = replace(
        predictions,
        segment=np.tile(predictions.segment, 10),
        probabilities=np.tile(predictions.probabilities, (10, 1)),
        source=tuple(map(str, range(1200))),
        **{name: getattr(predictions, name) * 10 for name in names},
    )
    together = replace(tenfold, source=tenfold.source[:120] * 10)
    apart, kept = (width(score(version, "test", GROUPS)["interval"]["log_loss"]) for version in (tenfold, together))
    assert kept / apart == pytest.approx(math.sqrt(10), rel=0.2)


def test_copies_of_segments_within_their_source_change_nothing() -> None:
    predictions = made_up(120)
    names = ("filename", "device", "label", "source")
    tripled = replace(
        predictions,
        segment=np.tile(predictions.segment, 3),
        probabilities=np.tile(predictions.probabilities, (3, 1)),
        **{name: getattr(predictions, name) * 3 for name in names},
    )
    one, three = (score(version, "test", GROUPS)["interval"] for version in (predictions, tripled))
    for name in ("accuracy", "log_loss"):
        assert one[name] == pytest.approx(three[name], abs=1e-12)


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(300):
        skill = np.clip(generator.normal(0.7, 0.15, size=80), 0, 1)  # sources differ
        correct = (generator.random((80, 10)) < skill[:, None]).astype(float).ravel()
        truth = np.tile([0, 1], 400)
        low, high = bootstrap(correct, 1 - correct, truth, np.arange(800) // 10, seed=trial, resamples=400)["accuracy"]
        covered += low <= 0.697 <= high  # the mean of the clipped normal
    assert 0.90 <= covered / 300 <= 0.99


def test_draws_in_several_pieces_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("system.scoring.bootstrap._CHUNK", 3 * 7)
    pieces = list(drawn_sources(7, 0, resamples=10))
    assert [len(piece) for piece in pieces] == [3, 3, 3, 1]
    assert all((piece.sum(axis=1) == 7).all() for piece in pieces)


def test_a_single_source_gives_a_finite_interval() -> None:
    predictions = made_up(40)
    scores = score(replace(predictions, source=("here",) * 40), "test", GROUPS)
    assert scores["interval"]["accuracy"] == pytest.approx([scores["accuracy"]] * 2)


@settings(max_examples=50, deadline=None)
@given(arrays(np.float32, (4, 6), elements=st.floats(-1e4, 1e4, width=32)))
def test_probabilities_are_safe_for_the_log_loss(logits: np.ndarray) -> None:
    probabilities = probabilities_of(logits)
    assert probabilities.min() > PROBABILITY_FLOOR / 2
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    assert np.allclose(floored(np.array([[0.0, 1.0], [0.25, 0.75]])), [[PROBABILITY_FLOOR, 1], [0.25, 0.75]])
    assert np.array_equal(probabilities.argmax(axis=1), logits.argmax(axis=1)) or (
        np.ptp(np.sort(logits, axis=1)[:, -2:], axis=1).min() < 1e-9
    )


def test_the_picture_is_written_whole(tmp_path: Path) -> None:
    plot_confusion(score(made_up(), "test", GROUPS), tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]


def test_a_class_with_dollar_signs_is_drawn_as_it_is_written(tmp_path: Path) -> None:
    scores = score(made_up(), "test", GROUPS)
    scores["confusion"]["classes"][0] = r"$\no$"
    plot_confusion(scores, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").is_file()
