"""Putting systems in order by the rule of an edition; the rules themselves are data in system/editions.py.

A rule takes one value of a system as it is, or adds weighted ranks, or adds weighted values on a common scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import rankdata

from system.editions import Edition, RankTerm
from system.errors import ConfigError
from system.registry import unknown


@dataclass(frozen=True)
class Quantity:
    """How a value of a system is shown: `factor` x value with `digits` decimals, in `unit`."""

    label: str
    unit: str = ""
    factor: float = 1.0
    digits: int = 0

    def text(self, value: float) -> str:
        return f"{self.factor * value:,.{self.digits}f}"

    @property
    def headed(self) -> str:
        """`log loss (nats)`"""
        return self.label + (f" ({self.unit})" if self.unit else "")

    def told(self, value: float) -> str:
        """`log loss 0.512 nats`"""
        return f"{self.label} {self.text(value)} {self.unit}".rstrip()


QUANTITIES = {  # the scores that can rank on their own come first
    "accuracy": Quantity("accuracy", "%", 100, 1),
    "log_loss": Quantity("log loss", "nats", digits=3),
    "log_loss_macro": Quantity("macro log loss", "nats", digits=3),
    "params": Quantity("parameters"),
    "macs": Quantity("MACs"),
    "total_bytes": Quantity("size", "bytes"),
    "accuracy_inference": Quantity("float accuracy", "%", 100, 1),
    "accuracy_tflite": Quantity("INT8 accuracy", "%", 100, 1),
    "roc_auc_inference": Quantity("float ROC AUC", digits=3),
    "roc_auc_tflite": Quantity("INT8 ROC AUC", digits=3),
    "model_size_tflite_bytes": Quantity("size", "bytes"),
    "macs_inference": Quantity("float MACs"),
    "macs_tflite": Quantity("INT8 MACs"),
    "embedded_time_ms_preprocessing": Quantity("preprocessing on the device", "ms", digits=1),
    "embedded_time_ms_model": Quantity("model on the device", "ms", digits=1),
    "embedded_time_ms_total": Quantity("all on the device", "ms", digits=1),
    "embedded_ram_usage_bytes": Quantity("RAM on the device", "bytes"),
}
DECIMALS = 12  # beyond these two values are equal: sums of floating-point numbers differ there
SCORES = {"accuracy": True, "log_loss": False, "log_loss_macro": False}  # score -> whether higher is better


@dataclass(frozen=True)
class Rule:
    """How systems are put in order: `combine` is value, weighted_rank or formula."""

    combine: str
    terms: tuple[RankTerm, ...]
    text: str  # for people
    classes: tuple[str, ...] | None = None  # that the rule was made for
    splits: tuple[str, ...] = ()  # trainings that a system's scores are the mean of
    unverified: tuple[str, ...] = ()

    @property
    def higher_is_better(self) -> bool:
        """Of the points that `judge` gives."""
        return self.terms[0].higher_is_better if self.combine == "value" else self.combine == "formula"

    @property
    def score(self) -> str | None:
        """The score that ranks on its own, if one does."""
        return self.terms[0].score if self.combine == "value" else None

    @property
    def quantity(self) -> Quantity:
        """How the points are shown."""
        return QUANTITIES[self.score] if self.score else Quantity(self.combine.replace("_", " "), digits=3)


def rule_by(score: str) -> Rule:
    """Ranking by one of `SCORES`. Raises ConfigError for another score."""
    if score not in SCORES:
        raise ConfigError("--by: " + unknown("score", score, SCORES))
    return Rule("value", (RankTerm(score, higher_is_better=SCORES[score]),), f"by {QUANTITIES[score].label}")


def rule_of(edition: Edition) -> Rule:
    """The ranking of an edition."""
    if edition.ranking in SCORES:
        rule = rule_by(edition.ranking)
    else:
        weights = ", ".join(f"{term.weight:g} × {QUANTITIES[term.score].label}" for term in edition.ranking_terms)
        what = "the weighted mean of the ranks" if edition.ranking == "weighted_rank" else "the edition's formula"
        rule = Rule(edition.ranking, edition.ranking_terms, f"by {what} ({weights})")
    if edition.splits:
        rule = replace(rule, text=f"{rule.text}, the mean over {', '.join(edition.splits)}")
    return replace(rule, classes=edition.classes, splits=edition.splits, unverified=edition.unverified)


def with_weights(rule: Rule, settings: Sequence[str]) -> Rule:
    """The rule with other weights, given as `score=weight`; those not named keep theirs.

    Raises ConfigError for a score that the rule does not weigh, or a weight that is no number of 0 or more.
    """
    if not settings:
        return rule
    if rule.combine == "value":
        raise ConfigError(f"--weight {settings[0]}: systems are ranked {rule.text}, where nothing is weighted")
    weights = {term.score: term.weight for term in rule.terms}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in weights:
            raise ConfigError(f"--weight {setting}: " + unknown("score of this ranking", name, weights))
        weights[name] = _weight(setting, text)
    if not any(weights.values()):
        raise ConfigError("--weight: expected at least one weight above 0, found only zeros")
    terms = tuple(replace(term, weight=weights[term.score]) for term in rule.terms)
    return replace(rule, terms=terms, text=f"{rule.text}, with --weight {' '.join(settings)}")


def _weight(setting: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"--weight {setting}: expected score=weight, with a number of 0 or more")
    return value


@dataclass(frozen=True)
class Verdict:
    """What a rule says of each system, in the order they were given."""

    points: tuple[float | None, ...]  # None: the system lacks a value that another one has
    places: tuple[int | None, ...]  # 1 is best; equal points share a place
    left_out: tuple[str, ...]  # scores of the rule that no system has


def judge(rule: Rule, systems: Sequence[Mapping[str, float]]) -> Verdict:
    """Apply a rule to the values of each system.

    A term that no system has a value for is left out for all of them; a system that lacks a value which another one
    has is not ranked: its place would be a guess.
    """
    terms = [term for term in rule.terms if any(term.score in values for values in systems)]
    ranked = [i for i, values in enumerate(systems) if terms and all(term.score in values for term in terms)]
    points: list[float | None] = [None] * len(systems)
    places: list[int | None] = [None] * len(systems)
    if ranked:
        table = np.array([[systems[i][term.score] for term in terms] for i in ranked], dtype=np.float64)
        combined = _COMBINE[rule.combine](table.round(DECIMALS), terms).round(DECIMALS)
        order = rankdata(-combined if rule.higher_is_better else combined, method="min")
        for i, value, place in zip(ranked, combined.tolist(), order.tolist(), strict=True):
            points[i], places[i] = value, int(place)
    left_out = tuple(term.score for term in rule.terms if term not in terms)
    return Verdict(tuple(points), tuple(places), left_out)


def _value(table: np.ndarray, terms: Sequence[RankTerm]) -> np.ndarray:
    """(systems, terms) -> (systems,), as in the two functions below."""
    return table[:, 0]


def _weighted_rank(table: np.ndarray, terms: Sequence[RankTerm]) -> np.ndarray:
    """The weighted mean of the ranks; 1 is best, equal values share the better rank."""
    signs = np.array([-1.0 if term.higher_is_better else 1.0 for term in terms])
    weights = np.array([term.weight for term in terms])
    return rankdata(table * signs, method="min", axis=0) @ weights / weights.sum()


def _formula(table: np.ndarray, terms: Sequence[RankTerm]) -> np.ndarray:
    total = np.zeros(len(table))
    for values, term in zip(table.T, terms, strict=True):
        share = (values - term.zero) / (term.one - term.zero)
        total += term.weight * (np.maximum(share, 0.0) if term.floored else share)
    return total


_COMBINE = {"value": _value, "weighted_rank": _weighted_rank, "formula": _formula}
