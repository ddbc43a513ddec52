"""Several classes at once: sigmoid probabilities of segments become tags of clips and events in time, and scores.

Tagging is scored over clips, whose probability of a class is that of their surest segment: mAP, AUC, d-prime (paper
004, Section 3). Events are scored by sed_eval, as DCASE does (Mesaros et al. 2016): F1 and error rate in segments of
one second, and of whole events within a collar of 200 ms, or half the event's length for its offset. Whether a class
sounds is decided by the median of its probabilities over some neighbouring segments, as the baselines of DCASE Task 4
do, against a threshold of its own; both are chosen on the validation part alone. Rankings and the log loss are of the
probabilities themselves: they judge the network, not what is decided.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import median_filter
from scipy.special import expit
from sklearn.metrics import precision_recall_curve

from system.data.folds import LABEL_SEPARATOR, Event
from system.errors import DataError
from system.files import write_csv
from system.scoring.bootstrap import bootstrap
from system.scoring.event_intervals import EventSums, event_intervals
from system.scoring.metrics import average_precision, d_prime, ranking_scores, resolved_auc, roc_auc, yes_no
from system.scoring.predictions import COLUMNS, PROBABILITY_FLOOR
from system.scoring.scenes import by_device, part_scores
from system.scoring.sed_scores import defined, sed_scores

LARGEST_WINDOW = 21  # segments of a median that are tried at most
EVENT_COLUMNS = ("filename", "device", "onset", "offset", "label")


def event_probabilities(logits: np.ndarray) -> np.ndarray:
    """(n, classes) logits -> probabilities by the sigmoid in float64, never nearer than 1e-9 to 0 or 1."""
    return np.clip(expit(np.asarray(logits, dtype=np.float64)), PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)


def over_time(probabilities: np.ndarray, window: int) -> np.ndarray:
    """(segments, classes) probabilities of one clip, each replaced by the median of the `window` segments around it.

    `window` is odd. Before its start and after its end a clip is taken to go on as it starts and ends.
    """
    return probabilities if window == 1 else median_filter(probabilities, size=(window, 1), mode="nearest")


def choose_thresholds(probabilities: np.ndarray, label: np.ndarray) -> np.ndarray:
    """(classes,) thresholds of the greatest F1 over segments: probabilities and label (n, classes).

    Half way between the two probabilities that the best decision separates; 0.5 for a class that does not occur.
    """
    thresholds = np.full(label.shape[1], 0.5)
    for c in np.flatnonzero(label.any(axis=0)):
        precision, recall, values = precision_recall_curve(label[:, c], probabilities[:, c])
        best = int(np.argmax(precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], 1e-12)))
        thresholds[c] = (values[best] + values[best - 1]) / 2 if best else values[best]
    return thresholds


def have_times(annotated: Mapping[str, Sequence[Event]]) -> bool:
    """Whether the events of every file name have an offset; tags without a time last for ever."""
    return all(math.isfinite(event.offset) for events in annotated.values() for event in events)


def decode(active: np.ndarray, segment: np.ndarray, classes: Sequence[str], seconds: float) -> list[Event]:
    """The events of one clip: runs of neighbouring segments where a class is active, in order of onset.

    active (n, classes) of bool, segment (n,) numbers within the clip, each of `seconds`.
    """
    roll = np.zeros((int(segment.max()) + 3, len(classes)), np.int8)
    roll[np.asarray(segment) + 1] = active
    change = np.diff(roll, axis=0)
    found = []
    for c, label in enumerate(classes):
        edges = zip(np.flatnonzero(change[:, c] > 0), np.flatnonzero(change[:, c] < 0), strict=True)
        found += [Event(round(start * seconds, 6), round(stop * seconds, 6), label) for start, stop in edges]
    return sorted(found)


@dataclass(frozen=True)
class EventPredictions:
    """Probabilities of several classes for n segments, with what is needed to score them."""

    classes: tuple[str, ...]
    filename: tuple[str, ...]
    segment: np.ndarray  # (n,) int, index of the segment within its clip
    device: tuple[str, ...]
    label: np.ndarray  # (n, classes) bool
    source: tuple[str, ...]  # recording location or upload: the unit of the bootstrap
    probabilities: np.ndarray  # (n, classes) float
    thresholds: np.ndarray  # (classes,)
    seconds: float  # length of a segment
    median_window: int = 1  # segments, see `over_time`
    clip_seconds: Mapping[str, float] = field(default_factory=dict)  # file name -> length of the recording

    @cached_property
    def smoothed(self) -> np.ndarray:
        """(n, classes) probabilities over time, which are decided by; a segment that was dropped is an end as well."""
        smoothed = np.empty_like(self.probabilities)
        for _, _, rows in self.clips():
            for stretch in np.split(rows, np.flatnonzero(np.diff(self.segment[rows]) != 1) + 1):
                smoothed[stretch] = over_time(self.probabilities[stretch], self.median_window)
        return smoothed

    @cached_property
    def active(self) -> np.ndarray:
        """(n, classes) of bool: which classes are predicted."""
        return self.smoothed >= self.thresholds

    def clips(self) -> Iterator[tuple[str, str, np.ndarray]]:
        """Every recording as it was heard: file name, device, and the (k,) rows of its segments, in order."""
        rows: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(zip(self.filename, self.device, strict=True)):
            rows.setdefault(key, []).append(row)
        for (filename, device), mine in rows.items():
            yield filename, device, np.array(mine)

    def events(self, rows: np.ndarray) -> list[Event]:
        """The predicted events of the clip with these rows; its last segment may be filled up by zeros."""
        end = self.clip_seconds.get(self.filename[rows[0]], math.inf)
        found = decode(self.active[rows], self.segment[rows], self.classes, self.seconds)
        return [event._replace(offset=min(event.offset, end)) for event in found]

    def beside(self, annotated: Mapping[str, Sequence[Event]]) -> list[tuple[Sequence[Event], Sequence[Event]]]:
        """Of each clip the annotated and the predicted events. `annotated`: file name -> its events."""
        return [(annotated[name], self.events(rows)) for name, _, rows in self.clips()]

    def write_csv(self, path: Path) -> None:
        """Write `filename,segment,device,label,predicted,<one column per class>`.

        `label` and `predicted` hold the classes joined by `|`, nothing where there are none; the columns of the
        classes hold their sigmoid probabilities as the network gives them, which do not sum to 1.
        """
        names = zip(
            self.filename, np.asarray(self.segment).tolist(), self.device, self._joined(self.label),
            self._joined(self.active), strict=True,
        )  # fmt: skip
        rows = zip(names, np.asarray(self.probabilities, dtype=np.float64).tolist(), strict=True)
        write_csv(path, (*COLUMNS, *self.classes), ((*name, *row) for name, row in rows))

    def write_events(self, path: Path) -> None:
        """Write the predicted events: `filename,device,onset,offset,label`, in seconds."""
        rows = ((name, device, *event) for name, device, mine in self.clips() for event in self.events(mine))
        write_csv(path, EVENT_COLUMNS, rows)

    def _joined(self, chosen: np.ndarray) -> list[str]:
        return [
            LABEL_SEPARATOR.join(name for name, yes in zip(self.classes, row, strict=True) if yes) for row in chosen
        ]


def choose_decoding(heard: EventPredictions, timed: bool = True) -> tuple[np.ndarray, int]:
    """(classes,) thresholds and the median window, in segments, with the greatest F1 over the segments that were heard.

    It is the mean of the classes that occur. Windows of up to half the longest recording are tried, the shortest of
    equals is taken; tags without a time (not `timed`) and no recordings have 1. What `heard` decides does not matter.
    """
    label = heard.label > 0
    occurs = label.any(axis=0)
    longest = max((len(rows) for _, _, rows in heard.clips()), default=0) if timed else 0
    tried = []
    for window in range(1, max(1, min(longest // 2, LARGEST_WINDOW)) + 1, 2):
        smoothed = replace(heard, median_window=window).smoothed
        thresholds = choose_thresholds(smoothed, label)
        active = smoothed >= thresholds
        f1 = 2 * (active & label).sum(axis=0)[occurs] / (active.sum(axis=0) + label.sum(axis=0))[occurs]
        tried.append((f1.sum(), thresholds, window))
    _, thresholds, window = max(tried, key=itemgetter(0))  # the first of equals
    return thresholds, window


def score_events(
    predictions: EventPredictions,
    annotated: Mapping[str, Sequence[Event]],
    split: str,
    device_groups: Mapping[str, str],
    seed: int = 0,
) -> dict[str, Any]:
    """The content of scores.json. `annotated`: file name -> its events; `device_groups` and `seed` as for a scene.

    `log_loss` is the mean binary cross-entropy in nats, `accuracy` of the decisions the mean of every class's true
    positive and true negative rate, those left out that no segment tells of: the mean of their balanced accuracies
    where each class sounds in some segments. Both are over segments, as is `n`. Where tags have no time there are no
    segment_based and event_based scores. `median_window` is in segments. Raises DataError if there is nothing to score.
    """
    if not len(predictions.filename):
        raise DataError(f"the {split} part holds no segment, so there is nothing to score")
    label, active = predictions.label > 0, predictions.active
    probabilities = np.asarray(predictions.probabilities, dtype=np.float64)
    correct = (active == label).astype(np.float64)
    loss = -np.log(np.where(label, probabilities, 1 - probabilities))
    truth = yes_no(label)
    device, source = np.array(predictions.device), np.array(predictions.source)
    clips = list(predictions.clips())
    surest = np.array([probabilities[rows].max(axis=0) for _, _, rows in clips])  # (clips, classes)
    tagged = tags([annotated[name] for name, _, _ in clips], predictions.classes)
    timed = have_times(annotated)
    detection, counts = sed_scores(predictions.classes, predictions.beside(annotated)) if timed else ({}, {})
    _, unit = np.unique([predictions.source[rows[0]] for _, _, rows in clips], return_inverse=True)
    per_class = {
        "average_precision": average_precision(surest, tagged),
        "auc": roc_auc(surest, tagged),
        "d_prime": d_prime(resolved_auc(surest, tagged)),
        **{key.replace("based", "f1"): values.pop("f1_class_wise") for key, values in detection.items()},
    }
    every = np.ones(len(label), dtype=bool)
    return {
        "split": split,
        "task": "events",
        **part_scores(every, correct, loss, truth),
        **ranking_scores(surest, tagged),
        "clips": len(clips),
        **detection,
        "thresholds": dict(zip(predictions.classes, predictions.thresholds.tolist(), strict=True)),
        "median_window": predictions.median_window,
        "class_wise": {
            name: {
                **part_scores(every, correct[:, c], loss[:, c], truth[:, c]),
                "n": int(label[:, c].sum()),  # segments where it sounds
                **{key: defined(values[c]) for key, values in per_class.items()},
            }
            for c, name in enumerate(predictions.classes)
        },
        **by_device(correct, loss, truth, device, device_groups),
        "interval": {
            **bootstrap(
                correct.ravel(), loss.ravel(), truth.ravel(), np.repeat(source, len(predictions.classes)), seed
            ),
            **event_intervals(EventSums(surest, tagged, counts, unit), seed),
        },
        "sources": len(np.unique(source)),
    }


def tags(annotated: Sequence[Sequence[Event]], classes: Sequence[str]) -> np.ndarray:
    """(clips, C) of bool: which classes sound in each clip with these events."""
    heard = ({event.label for event in events} for events in annotated)
    return np.array([[name in labels for name in classes] for labels in heard])
