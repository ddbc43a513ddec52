"""Every edition's ranking, as data: by hand where the formula is known, and better values never rank lower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from submission.board.rules import QUANTITIES, SCORES, Rule, judge, rule_by, rule_of, with_weights
from system.editions import EDITIONS, RankTerm
from system.errors import ConfigError

RULES: dict[str, Rule] = {
    **{key: rule_of(edition) for key, edition in EDITIONS.items()},
    **{s: rule_by(s) for s in SCORES},
}
BEST = {  # 2026: a value for each term, and what it counts by birdnet-team/BioDCASE-Tiny-2026, rank_formula.txt
    "accuracy_inference": (0.78, 0.5),
    "accuracy_tflite": (0.78, 2 * 0.5),
    "roc_auc_inference": (0.93, 0.5 * 0.5),
    "roc_auc_tflite": (0.89, 0.0),
    "model_size_tflite_bytes": (42_232, 0.5),
    "macs_inference": (23_326_923, 0.3),
    "macs_tflite": (900_000_000, 0.0),  # not below 0
    "embedded_time_ms_preprocessing": (477.46 - 118.17, 0.3 * 0.5),
    "embedded_time_ms_model": (3000.0, 0.0),  # not below 0
    "embedded_time_ms_total": (287.53, 0.5),
    "embedded_ram_usage_bytes": (95_900, 0.5),
}


def values_for(rule: Rule, seed: int) -> dict[str, float]:
    """Plausible values for every term."""
    generator = np.random.default_rng(seed)
    shares = ("accuracy", "roc_auc")
    return {
        term.score: float(generator.random() if term.score.startswith(shares) else generator.integers(1, 10**6))
        for term in rule.terms
    }


@pytest.mark.parametrize("name", RULES)
def test_a_better_value_never_lowers_the_place(name: str) -> None:
    rule = RULES[name]
    for seed in range(5):
        others = [values_for(rule, 100 * seed + i) for i in range(4)]
        mine = values_for(rule, 100 * seed + 9)
        before = judge(rule, [mine, *others]).places[0]
        for term in rule.terms:
            better = {**mine, term.score: mine[term.score] * (1.2 if term.higher_is_better else 0.8)}
            after = judge(rule, [better, *others]).places[0]
            assert before is not None
            assert after is not None
            assert after <= before


@pytest.mark.parametrize("name", RULES)
def test_every_term_can_be_shown_and_is_named_in_the_text(name: str) -> None:
    rule = RULES[name]
    assert rule.terms
    assert all(QUANTITIES[term.score].label in rule.text for term in rule.terms)
    assert rule.quantity.text(0.5)


def test_the_published_formula_of_2026_by_hand() -> None:
    rule = rule_of(EDITIONS["biodcase2026"])
    assert {term.score for term in rule.terms} == set(BEST)
    points = judge(rule, [{name: value for name, (value, _) in BEST.items()}]).points[0]
    assert points == pytest.approx(sum(share for _, share in BEST.values()), abs=1e-4)


def test_the_weighted_rank_of_2023_by_hand() -> None:
    systems = [
        {"accuracy": 0.6, "total_bytes": 100_000, "macs": 20e6},  # ranks 1, 3, 3
        {"accuracy": 0.5, "total_bytes": 10_000, "macs": 5e6},  # ranks 2, 1, 2
        {"accuracy": 0.4, "total_bytes": 20_000, "macs": 1e6},  # ranks 3, 2, 1
    ]
    verdict = judge(rule_of(EDITIONS["2023"]), systems)
    assert verdict.points == pytest.approx((2.0, 1.75, 2.25))
    assert verdict.places == (2, 1, 3)
    only = with_weights(rule_of(EDITIONS["2023"]), ["total_bytes=0", "macs=0"])
    assert judge(only, systems).places == (1, 2, 3)
    assert "--weight" in only.text


def test_equal_values_share_a_place() -> None:
    systems: list[dict[str, float]] = [
        {"log_loss": 1.0},
        {"log_loss": 0.5},
        {"log_loss": 1.0 + 1e-16},
        {"log_loss": 2.0},
    ]
    assert judge(rule_by("log_loss"), systems).places == (2, 1, 2, 4)


def test_what_no_system_has_is_left_out_and_who_lacks_something_is_not_ranked() -> None:
    rule = rule_of(EDITIONS["2023"])
    verdict = judge(rule, [{"accuracy": 0.5, "macs": 1e6}, {"accuracy": 0.6, "macs": 2e6}, {"accuracy": 0.9}])
    assert verdict.left_out == ("total_bytes",)
    assert verdict.places == (2, 1, None)  # 0.5 x 2 + 0.25 x 1 against 0.5 x 1 + 0.25 x 2
    assert verdict.points[2] is None
    assert judge(rule, [{}, {}]).places == (None, None)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["acuracy=1"], "did you mean 'accuracy'"),
        (["accuracy=much"], "a number of 0 or more"),
        (["accuracy=-1"], "a number of 0 or more"),
        (["accuracy=nan"], "a number of 0 or more"),
        (["accuracy"], "a number of 0 or more"),
        (["accuracy=0", "total_bytes=0", "macs=0"], "only zeros"),
    ],
)
def test_wrong_weights(settings: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        with_weights(rule_of(EDITIONS["2023"]), settings)


def test_a_plain_score_has_no_weights_and_must_be_known() -> None:
    with pytest.raises(ConfigError, match="nothing is weighted"):
        with_weights(rule_by("accuracy"), ["accuracy=2"])
    with pytest.raises(ConfigError, match="did you mean 'accuracy'"):
        rule_by("acuracy")


def test_an_edition_is_ranked_without_code() -> None:
    """A new entry of data is all it takes."""
    terms: dict[str, Any] = {"ranking": "formula", "ranking_terms": (RankTerm("accuracy", 2.0, zero=0.5, one=1.0),)}
    rule = rule_of(replace(EDITIONS["own"], key="2031", **terms))
    assert judge(rule, [{"accuracy": 0.75}, {"accuracy": 1.0}]).points == (1.0, 2.0)


@pytest.mark.parametrize("key", ["2021A", "2022"])
def test_a_ranking_log_loss_is_the_mean_over_classes(key: str) -> None:
    rule = rule_of(EDITIONS[key])
    assert (rule.score, rule.higher_is_better) == ("log_loss_macro", False)
    assert any("averaged over classes" in text for text in rule.unverified)
