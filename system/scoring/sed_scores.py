"""Scores of events in time by sed_eval, as DCASE scores them (Mesaros et al. 2016), and each clip's part in them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from system.data.folds import Event
from system.progress import progress

RESOLUTION_SECONDS = 1.0  # of the segment-based scores
COLLAR_SECONDS = 0.2  # of the event-based scores: how far an onset may be off
LENGTH_SHARE = 0.5  # of an event's length that its offset may be off, if that is more than the collar
COUNTED = {  # what sed_eval adds up: true positives, annotated, found, errors
    "segment_based": (("Ntp",), ("Nref",), ("Nsys",), ("S", "D", "I")),
    "event_based": (("Ntp",), ("Nref",), ("Nsys",), ("Nsubs", "Nfn", "Nfp")),
}


def sed_scores(
    classes: Sequence[str], clips: Sequence[tuple[Sequence[Event], Sequence[Event]]]
) -> tuple[dict[str, dict[str, Any]], dict[str, np.ndarray]]:
    """`segment_based` and `event_based` scores over all clips, each the annotated and the found events, and all classes
    together; and each clip's part in them: (clips, 4) true positives, annotated, found, errors.

    Shares run from 0 to 1, error rates may exceed 1. A class that is never predicted has an F1 of 0; `f1_macro` is
    the mean over the classes that are annotated.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # dcase_util imports pkg_resources
        from sed_eval.sound_event import EventBasedMetrics, SegmentBasedMetrics
    counters = {
        "segment_based": SegmentBasedMetrics(list(classes), time_resolution=RESOLUTION_SECONDS),
        "event_based": EventBasedMetrics(list(classes), t_collar=COLLAR_SECONDS, percentage_of_length=LENGTH_SHARE),
    }
    so_far: dict[str, list[list[float]]] = {name: [[0.0] * 4] for name in counters}
    with progress("scoring events", len(clips), unit="clips") as step:
        for annotated, found in clips:
            reference, estimated = _for_sed_eval(annotated), _for_sed_eval(found)
            for kind, counter in counters.items():
                counter.evaluate(reference, estimated)
                so_far[kind].append([sum(counter.overall[key] for key in keys) for keys in COUNTED[kind]])
            step(1)
    scores: dict[str, dict[str, Any]] = {}
    for name, counter in counters.items():
        counter.empty_system_output_handling = "zero_score"
        overall = counter.results_overall_metrics()
        f1 = [row["f_measure"]["f_measure"] for row in counter.results_class_wise_metrics().values()]
        counted = [value for value in f1 if not math.isnan(value)]
        scores[name] = {
            "f1": defined(overall["f_measure"]["f_measure"]),
            "precision": defined(overall["f_measure"]["precision"]),
            "recall": defined(overall["f_measure"]["recall"]),
            "f1_macro": float(np.mean(counted)) if counted else None,
            **{key: defined(value) for key, value in overall["error_rate"].items()},
            "f1_class_wise": f1,
        }
    scores["segment_based"]["time_resolution"] = RESOLUTION_SECONDS
    scores["event_based"] |= {"t_collar": COLLAR_SECONDS, "percentage_of_length": LENGTH_SHARE}
    return scores, {kind: np.diff(values, axis=0) for kind, values in so_far.items()}


def _for_sed_eval(events: Sequence[Event]) -> list[dict[str, Any]]:
    return [{"event_onset": onset, "event_offset": offset, "event_label": label} for onset, offset, label in events]


def defined(value: float) -> float | None:
    """A number as JSON can hold it: None for what is not defined."""
    return float(value) if math.isfinite(value) else None
