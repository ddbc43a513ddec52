"""The test fold that systems are held against, and what one model's answers come to on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from submission.board.places import Places, places_of
from submission.board.resampling import SCORES, scores_of, source_sums
from submission.board.systems import System
from submission.board.tables import Answers, Key
from system.errors import ConfigError
from system.scoring.scenes import LOSS_FLOOR


@dataclass(frozen=True)
class HeldOut:
    """n labelled segments that every system of a board has answered."""

    keys: tuple[Key, ...]
    classes: tuple[str, ...]
    truth: np.ndarray  # (n,) class indices
    source: np.ndarray  # (n,) from 0
    groups: Mapping[str, tuple[tuple[str, ...], np.ndarray]]  # by what -> names, and (n,) which one each segment is in
    places: Places


@dataclass(frozen=True)
class Outcome:
    """What a model's answers come to on the test fold."""

    probabilities: np.ndarray  # (n, classes)
    decision: np.ndarray  # (n,) class indices
    correct: np.ndarray  # (n,) 0 or 1
    loss: np.ndarray  # (n,) nats
    impossible: int  # segments whose true class got the probability 0


def held_out(systems: Sequence[System], data_root: str | None) -> tuple[HeldOut, list[str]]:
    """The segments that all have answered, and what was left out for it."""
    models = [(system, model) for system in systems for model in system.models.values()]
    first = models[0][1].answers
    keys = [key for key in first.label if all(model.answers.label.get(key) == first.label[key] for _, model in models)]
    for system, model in models:
        if set(model.answers.classes) != set(first.classes):
            raise ConfigError(f"{systems[0].name} and {system.name} do not have the same classes, so nothing is common")
    if not keys:
        names = ", ".join(system.name for system in systems)
        raise ConfigError(f"--common: no segment with the same label was answered by all of {names}")
    notes = [
        f"{system.name}: {len(model.answers.label) - len(keys):,} of its {len(model.answers.label):,} segments are "
        "left out, as not every system answered them"
        for system, model in models
        if len(model.answers.label) > len(keys)
    ]
    number = {name: index for index, name in enumerate(first.classes)}
    specs = {spec if data_root is None else spec.changed(root=data_root) for _, model in models for spec in model.data}
    places = places_of({key[0] for key in keys}, sorted(specs, key=lambda spec: spec.model_dump_json()))
    truth = np.array([number[first.label[key]] for key in keys])
    return HeldOut(
        keys=tuple(keys),
        classes=first.classes,
        truth=truth,
        source=np.unique([places.source[key[0]] for key in keys], return_inverse=True)[1],
        groups=_groups(keys, truth, first.classes, places),
        places=places,
    ), notes


def _groups(
    keys: Sequence[Key], truth: np.ndarray, classes: Sequence[str], places: Places
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    device = [key[2] for key in keys]
    city = [places.city[key[0]] for key in keys] if places.city else []
    tested = np.unique(truth)
    found = {"class": (tuple(classes[c] for c in tested), np.searchsorted(tested, truth))}
    for by, values, known in (("device", device, places.known_devices), ("city", city, places.known_cities)):
        if len(set(values)) < 2:
            continue
        found[by] = _numbered(values)
        if known is not None:
            found[f"known {by}"] = _numbered(["known" if value in known else "unknown" for value in values])
    return found


def _numbered(values: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    names, index = np.unique(values, return_inverse=True)
    return tuple(names.tolist()), index


def outcome_of(answers: Answers, test: HeldOut) -> Outcome:
    """Hold one model's answers against the test fold."""
    rows = [answers.row[key] for key in test.keys]
    number = {name: index for index, name in enumerate(test.classes)}
    probabilities = answers.probabilities[rows][:, [answers.classes.index(name) for name in test.classes]]
    decision = np.array([number[answers.decision[row]] for row in rows])
    given = probabilities[np.arange(len(rows)), test.truth]
    return Outcome(
        probabilities=probabilities,
        decision=decision,
        correct=(decision == test.truth).astype(np.float64),
        loss=-np.log(np.clip(given, LOSS_FLOOR, 1.0)),
        impossible=int((given == 0).sum()),
    )


def scores_by_group(
    outcomes: Iterable[Outcome], test: HeldOut, names: Sequence[str], index: np.ndarray
) -> dict[str, dict[str, float]]:
    """Name of the group -> its scores and number of segments; the mean over splits."""
    of_splits = [source_sums(one.correct, one.loss, test.truth, index, len(test.classes)) for one in outcomes]
    scores = [scores_of(sums.counts, sums.hits, sums.losses) for sums in of_splits]
    counts = of_splits[0].counts.sum(axis=1).astype(int).tolist()
    means = {score: np.mean([one[score] for one in scores], axis=0).tolist() for score in SCORES}
    return {name: {**{s: means[s][i] for s in SCORES}, "n": counts[i]} for i, name in enumerate(names)}
