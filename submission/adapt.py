"""A run as an edition sees it: its costs per recording, its classes by the edition's names, its segments joined."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from submission.event_rows import EventRows
from submission.run_parts import COMPLEXITY_KEYS, RunParts, budget_of
from system.config import load_yaml
from system.editions import EDITIONS, Edition
from system.errors import ConfigError, RunError
from system.registry import unknown
from system.runs import first_run
from system.scoring.predictions import Predictions, floored, probabilities_of
from system.scoring.scenes import score

UNKNOWN = "(none)"  # in a label map: the classes of the edition that the run does not know


def inferences_per_recording(edition: Edition, run: RunParts) -> int:
    """How often the model runs for one recording of the edition: recordings are cut as in system/data/audio.py."""
    seconds = edition.segment_seconds or run.spec.data.segment_seconds
    return max(1, math.floor(seconds / run.spec.data.segment_seconds + 0.5))


def counted(edition: Edition, run: RunParts) -> RunParts:
    """The run with its costs as the edition counts them: MACs are those of one recording."""
    times = inferences_per_recording(edition, run)
    costs = dict(run.complexity)
    costs |= {key: costs[key] * times for key in COMPLEXITY_KEYS if key.startswith("macs")}
    costs["inferences"] = times
    # A parameter that is zero has one byte at least; those of the biases have more.
    costs["bytes_nonzero"] = costs["total_bytes"] - (costs["params"] - costs["params_nonzero"])
    return replace(run, complexity=costs)


def limited_costs(edition: Edition, costs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the edition's limits are held against: `costs` of `counted`."""
    return costs if edition.limits_count_zeros else {**costs, "total_bytes": costs["bytes_nonzero"]}


def check_fits(edition: Edition, run: RunParts, part: str = "") -> None:
    """Raise BudgetError with the excess of each quantity, RunError for a run of another task, a longer segment or more
    training data than the edition gives, or the training list of another `part`.
    """
    if isinstance(run.predictions, EventRows) != edition.events:
        tasks = {False: "one class for each recording", True: "sound events, several at a time"}
        fitting = [key for key, one in EDITIONS.items() if one.classes is None and one.events != edition.events]
        raise RunError(
            f"{run.folder} was trained on {tasks[not edition.events]}, edition {edition.key} is of "
            f"{tasks[edition.events]}: give --edition {' or '.join(fitting)}"
        )
    if run.spec.data.refit and not edition.may_refit:
        raise RunError(
            f"{run.folder} was trained on the whole development set, which edition {edition.key} forbids: its test "
            f"part is for testing alone; pack {first_run(run.folder, run.spec)}"
        )
    own = {_plain(split): split for split in edition.splits}.get(_listed(run), part)
    if own != part:
        raise RunError(
            f"{run.folder} was trained on {run.spec.data.train_list}: expected as --run {own}={run.folder}, found as "
            f"{part}"
        )
    seconds = run.spec.data.segment_seconds
    if edition.segment_seconds is not None and seconds > edition.segment_seconds:
        raise RunError(
            f"{run.folder} classifies segments of {seconds:g} s, edition {edition.key} gives recordings of "
            f"{edition.segment_seconds:g} s: train with --set data.segment_seconds={edition.segment_seconds:g}"
        )
    budget = budget_of(edition, run)
    if budget is not None:
        budget.check(limited_costs(edition, run.complexity), f"the INT8 model of {run.folder}")


def unlisted(edition: Edition, run: RunParts, part: str = "") -> str | None:
    """What to say of a run on TAU 2022 whose training list is not named as the subset that the edition wants.

    Its fold1_train.csv may well have been replaced by that subset's rows, so this is no error.
    """
    whole = edition.splits[-1] if edition.splits else ""
    subset = edition.training_subset or (part if part in edition.splits and part != whole else "")
    if not subset or run.spec.data.dataset != "tau2022" or _listed(run) == _plain(subset):
        return None
    named = run.spec.data.train_list or "fold1_train.csv"
    return (
        f"{run.folder} was trained on {named}: edition {edition.key} disqualifies what was trained on more than its "
        f"{subset} (--set data.train_list={_plain(subset)}.csv)"
    )


def _listed(run: RunParts) -> str:
    return _plain(Path(run.spec.data.train_list or "").stem)


def _plain(subset: str) -> str:
    """`split_25` and its file split25.csv are written differently."""
    return subset.replace("_", "")


def class_map(run_classes: Sequence[str], edition: Edition, path: Path | None) -> dict[str, str]:
    """Run class -> edition class: the same names, or those of a --label-map file.

    The file may name classes that the run does not know, as the value or list of values of `(none)`.
    Raises ConfigError unless every class of the run is mapped and every other class of the edition reached.
    """
    if edition.classes is None:
        if path is not None:
            raise ConfigError(f"edition {edition.key} keeps the run's own classes; leave --label-map out")
        return {name: name for name in run_classes}
    if path is None:
        if set(run_classes) != set(edition.classes):
            raise ConfigError(
                f"the run's classes ({', '.join(run_classes)}) are not the {len(edition.classes)} of edition "
                f"{edition.key} ({', '.join(edition.classes)}); give --label-map FILE, with run class: edition class"
            )
        return {name: name for name in run_classes}
    mapping = {str(key): value for key, value in load_yaml(path).items()}
    told = mapping.pop(UNKNOWN, [])
    unknown_to_run = told if isinstance(told, list) else [told]
    faults = [f"{name}: is not mapped" for name in run_classes if name not in mapping]
    faults += [unknown("class of the run", name, run_classes) for name in mapping if name not in run_classes]
    faults += [
        f"{name}: " + unknown("class of the edition", target, edition.classes)
        for name, target in (*mapping.items(), *((UNKNOWN, target) for target in unknown_to_run))
        if target not in edition.classes
    ]
    reached = [*mapping.values(), *unknown_to_run]
    faults += [f"no class is mapped to {name} ({UNKNOWN}: [{name}] if so meant)" for name in edition.classes
               if name not in reached]  # fmt: skip
    if faults:
        raise ConfigError(f"{path}: " + "; ".join(faults))
    return mapping


def converted(
    probabilities: np.ndarray, run_classes: Sequence[str], mapping: Mapping[str, str], classes: Sequence[str]
) -> np.ndarray:
    """(n, run classes) -> (n, edition classes): the probabilities of classes mapped to one are added."""
    matrix = np.zeros((len(run_classes), len(classes)))
    for row, name in enumerate(run_classes):
        matrix[row, list(classes).index(mapping[name])] = 1.0
    return np.asarray(probabilities, dtype=np.float64) @ matrix


def as_recordings(predictions: Predictions) -> Predictions:
    """Segments of one recording on one device joined, by the mean of their log probabilities."""
    keys = list(zip(predictions.filename, predictions.device, strict=True))
    names = list(dict.fromkeys(keys))
    position = {key: index for index, key in enumerate(names)}
    rows = np.array([position[key] for key in keys])
    _, first = np.unique(rows, return_index=True)
    return replace(
        predictions,
        filename=tuple(name for name, _ in names),
        device=tuple(device for _, device in names),
        segment=np.zeros(len(names), dtype=np.int64),
        label=tuple(predictions.label[i] for i in first),
        source=tuple(predictions.source[i] for i in first),
        probabilities=joined(rows, np.log(floored(predictions.probabilities)), len(names)),
    )


def joined(rows: np.ndarray, logs: np.ndarray, recordings: int) -> np.ndarray:
    """(segments, classes) log probabilities -> (recordings, classes) probabilities, by the mean over a recording.

    `rows` (segments,) is each segment's recording. Raises RunError if a recording has no segment.
    """
    total = np.zeros((recordings, logs.shape[1]))
    np.add.at(total, rows, logs)
    count = np.bincount(rows, minlength=recordings)
    if not count.all():
        raise RunError(f"{int((count == 0).sum())} of {recordings} recordings gave no segment to classify")
    return probabilities_of(total / count[:, None])


def with_classes(run: RunParts, mapping: Mapping[str, str], classes: Sequence[str]) -> RunParts:
    """The run as if it had been trained on the edition's classes and tested on whole recordings.

    Scores are computed anew where this changes the predictions.
    """
    old = run.predictions
    if isinstance(old, EventRows):  # their editions keep a run's own classes and segments
        return run
    changed = any(name != target for name, target in mapping.items()) or tuple(classes) != old.classes
    if changed:
        old = replace(
            old,
            classes=tuple(classes),
            label=tuple(mapping[label] if label else "" for label in old.label),
            probabilities=converted(old.probabilities, old.classes, mapping, classes),
        )
    if run.complexity["inferences"] > 1:
        old, changed = as_recordings(old), True
    if changed:
        scores = score(old, str(run.scores.get("split", "test")), {}, run.spec.seed)
        run = replace(run, predictions=old, scores=scores)
    return run
