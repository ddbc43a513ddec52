"""Systems on the same segments: scores, intervals, order and neighbours, as plain data for terminal and page."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from submission.board import resampling
from submission.board.held_out import HeldOut, Outcome, held_out, outcome_of, scores_by_group
from submission.board.resampling import SCORES, SourceSums, source_sums
from submission.board.rules import QUANTITIES, Rule, judge
from submission.board.systems import Model, System
from submission.board.tables import Answers
from system.errors import ConfigError
from system.progress import progress
from system.scoring.bootstrap import RESAMPLES
from system.scoring.metrics import one_hot, roc_auc
from system.scoring.scenes import LOSS_FLOOR

Values = dict[str, Any]
OF_FLOAT = ("accuracy_inference", "roc_auc_inference")
OF_INT8 = ("accuracy_tflite", "roc_auc_tflite")


def boards(
    systems: Sequence[System],
    rule: Rule,
    measured: Mapping[str, Mapping[str, float]] | None = None,
    seed: int = 0,
    common: bool = False,
    data_root: str | None = None,
) -> list[Values]:
    """One board for each test fold among the systems, or a single one of the segments that all of them answered.

    `measured`: system -> quantity -> value, beside what the runs tell. `data_root` replaces that of the runs.
    Raises ConfigError for a system whose models were not tested on the same segments, or if none are common.
    """
    groups: dict[Any, list[System]] = {}
    for system in systems:
        answers = [model.answers for model in system.models.values()]
        if not common and any(_tested(other) != _tested(answers[0]) for other in answers[1:]):
            raise ConfigError(
                f"{system.name}: its splits ({', '.join(system.models)}) were not tested on the same segments"
            )
        groups.setdefault(None if common else _tested(answers[0]), []).append(system)
    return [_board(group, rule, measured or {}, seed, data_root) for group in groups.values()]


def _tested(answers: Answers) -> tuple[frozenset[Any], frozenset[str]]:
    return frozenset(answers.label.items()), frozenset(answers.classes)


def _board(
    systems: Sequence[System],
    rule: Rule,
    measured: Mapping[str, Mapping[str, float]],
    seed: int,
    data_root: str | None,
) -> Values:
    test, notes = held_out(systems, data_root)
    outcomes = [
        {split: outcome_of(model.answers, test) for split, model in system.models.items()} for system in systems
    ]
    sums = [
        [source_sums(one.correct, one.loss, test.truth, test.source, len(test.classes)) for one in of_splits.values()]
        for of_splits in outcomes
    ]
    units = len(sums[0][0].counts)
    with progress("drawing sources", RESAMPLES, unit="draws") as step:
        draws = resampling.bootstrap(sums, seed, step=step) if units > 1 else None
    rows: list[Values] = []
    for index, system in enumerate(systems):
        row = _row(system, outcomes[index], sums[index], test)
        row["interval"] = _intervals(row, sums[index], draws[index] if draws else None)
        row["values"] = {**_values(system, row, test, rule), **measured.get(system.name, {})}
        rows.append(row)
        notes += _notes_of(system, outcomes[index], rule)
    notes += test.places.notes
    verdict = judge(rule, [row["values"] for row in rows])
    for row, points, place in zip(rows, verdict.points, verdict.places, strict=True):
        row.update(points=points, place=place)
    notes = [*_rule_notes(rule, verdict.left_out, rows, test.classes), *notes]
    order = sorted(range(len(rows)), key=lambda i: (rows[i]["place"] is None, rows[i]["place"] or 0))
    neighbours = _neighbours([i for i in order if rows[i]["place"] is not None], rows, draws) if draws else []
    return {
        "rule": {
            "text": rule.text,
            "score": rule.score,
            "points": rule.quantity.label,
            "higher_is_better": rule.higher_is_better,
            "unverified": list(rule.unverified),
        },
        "n": len(test.keys),
        "clips": len({key[0] for key in test.keys}),
        "sources": units,
        "unit": test.places.unit,
        "resamples": RESAMPLES,
        "loss_floor": LOSS_FLOOR,
        "classes": list(test.classes),
        "groups": {by: list(names) for by, (names, _) in test.groups.items()},
        "splits": list(dict.fromkeys(split for row in rows for split in row["splits"])),
        "notes": list(dict.fromkeys(notes)),
        "systems": [rows[i] for i in order],
        "neighbours": neighbours,
    }


def _row(system: System, outcomes: Mapping[str, Outcome], sums: Sequence[SourceSums], test: HeldOut) -> Values:
    """Scores, in all and by group; a group's accuracy is the mean over the classes in it."""
    confusion = np.zeros((len(test.classes), len(test.classes)), dtype=np.int64)
    for outcome in outcomes.values():
        np.add.at(confusion, (test.truth, outcome.decision), 1)
    return {
        "name": system.name,
        "form": system.form,
        **resampling.point(sums),
        "splits": {
            split: resampling.point([part]) for split, part in zip(outcomes, sums, strict=True) if len(outcomes) > 1
        },
        "by": {
            by: scores_by_group(outcomes.values(), test, names, index) for by, (names, index) in test.groups.items()
        },
        "confusion": confusion.tolist(),  # a row is a true class; of several splits, their sum
    }


def _intervals(row: Values, sums: Sequence[SourceSums], draws: Mapping[str, np.ndarray] | None) -> Values:
    """95 % intervals by score; None where there is a single source."""
    if draws is None:
        return {"bootstrap": dict.fromkeys(SCORES), "jackknife": dict.fromkeys(SCORES)}
    left_out = resampling.jackknife(sums)
    return {
        "bootstrap": {score: resampling.percentile_interval(draws[score]) for score in SCORES},
        "jackknife": {score: resampling.jackknife_interval(row[score], left_out[score], score) for score in SCORES},
    }


def _values(system: System, row: Values, test: HeldOut, rule: Rule) -> dict[str, float]:
    """What the rule may ask of a system: its scores, its costs, and those that only some editions ask for."""
    values = {**system.costs, **{score: row[score] for score in SCORES}}
    asked = {term.score for term in rule.terms}
    models = list(system.models.values())
    if asked & {*OF_FLOAT, *OF_INT8} and len(models) == 1:
        if models[0].form.startswith("INT8"):
            values.update(zip(OF_INT8, _accuracy_and_auc(models[0].answers, test), strict=True))
        if (before := models[0].float_answers) is not None and all(key in before.row for key in test.keys):
            values.update(zip(OF_FLOAT, _accuracy_and_auc(before, test), strict=True))
    return values


def _accuracy_and_auc(answers: Answers, test: HeldOut) -> tuple[float, float]:
    """Macro accuracy, and the mean of the classes' areas under their ROC curves."""
    outcome = outcome_of(answers, test)
    everything = np.zeros(len(test.keys), dtype=int)
    sums = source_sums(outcome.correct, outcome.loss, test.truth, everything, len(test.classes))
    auc = float(np.nanmean(roc_auc(outcome.probabilities, one_hot(test.truth, len(test.classes)))))
    return resampling.point([sums])["accuracy"], auc


def _neighbours(
    order: Sequence[int], rows: Sequence[Values], draws: Sequence[Mapping[str, np.ndarray]]
) -> list[Values]:
    """Each system against the next one: difference (better minus next), its 95 % interval, p, and p by Holm."""
    pairs = list(pairwise(order))
    p_values = {score: [resampling.p_value(draws[a][score] - draws[b][score]) for a, b in pairs] for score in SCORES}
    adjusted = {score: resampling.holm(values) for score, values in p_values.items()}
    return [
        {
            "better": rows[a]["name"],
            "next": rows[b]["name"],
            **{
                score: {
                    "difference": rows[a][score] - rows[b][score],
                    "interval": resampling.percentile_interval(draws[a][score] - draws[b][score]),
                    "p": p_values[score][number],
                    "p_holm": adjusted[score][number],
                }
                for score in SCORES
            },
        }
        for number, (a, b) in enumerate(pairs)
    ]


def _rule_notes(rule: Rule, left_out: Sequence[str], rows: Sequence[Values], classes: Sequence[str]) -> list[str]:
    def told(names: Iterable[str]) -> str:
        return ", ".join(QUANTITIES[name].label for name in names)

    notes = []
    if rule.classes is not None and set(rule.classes) != set(classes):
        notes.append(f"the edition's {len(rule.classes)} classes are others; only its way of ranking is used here")
    if left_out:
        notes.append(f"left out of the ranking, as no system has a value: {told(left_out)} (give --measured FILE.yaml)")
    for row in rows:
        if row["place"] is None:
            missing = [t.score for t in rule.terms if t.score not in row["values"] and t.score not in left_out]
            notes.append(f"{row['name']} is not ranked, as it has no {told(missing)} (give --measured FILE.yaml)")
    if {*OF_FLOAT, *OF_INT8} & {term.score for term in rule.terms}:
        notes.append("the float model stands for the edition's inference model, the INT8 ONNX file for its TFLite file")
    return notes


def _notes_of(system: System, outcomes: Mapping[str, Outcome], rule: Rule) -> list[str]:
    notes = []
    if set(rule.splits) != set(system.models) and rule.splits:
        given = ", ".join(split or "a single training" for split in system.models)
        notes.append(f"{system.name}: the edition asks for {', '.join(rule.splits)}; found {given}")
    for split, outcome in outcomes.items():
        name = f"{system.name} {split}".strip()
        model: Model = system.models[split]
        if outcome.impossible:
            notes.append(
                f"{name}: {outcome.impossible:,} segments have the probability 0 for their true class; each counts "
                f"-ln({LOSS_FLOOR:.1e}) = {-np.log(LOSS_FLOOR):.1f} nats"
            )
        if differing := model.answers.not_most_probable:
            notes.append(
                f"{name}: in {differing:,} rows the chosen class is not the most probable one; the choice counts"
            )
    return notes
