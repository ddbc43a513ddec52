"""The rules of the editions, against the numbers that the organisers published."""

from __future__ import annotations

import re

import pytest

from system.budget import Budget
from system.editions import DEVICES_2025, EDITIONS, SCENES, Edition

LIMITS = {  # as the rules state them
    "2020B": {"bytes": 512_000},
    "2021A": {"bytes": 131_072},
    "2022": {"params": 128_000, "macs": 30_000_000},
    "2023": {"bytes": 128_000, "macs": 30_000_000},
    "2024": {"bytes": 128_000, "macs": 30_000_000},
    "2025": {"bytes": 128_000, "macs": 30_000_000},
}
ROWS = {"2020B": 8_640, "2021A": 7_920, "2022": 118_800, "2023": 118_800, "2024": 135_730, "2025": 178_930}


def test_the_editions_that_there_are() -> None:
    assert {"2020B", "2021A", "2022", "2023", "2024", "2025", "biodcase2026", "own"} <= set(EDITIONS)


def test_a_new_edition_has_its_published_numbers_here() -> None:
    told = {key for key, edition in EDITIONS.items() if edition.evaluation_rows is not None}
    assert told == set(ROWS), "ROWS and LIMITS above hold what the organisers published, by another hand"


@pytest.mark.parametrize("key", LIMITS)
def test_limits_and_rows(key: str) -> None:
    edition = EDITIONS[key]
    assert edition.limits is not None
    assert Budget.parse(edition.limits).limits() == LIMITS[key]
    assert edition.evaluation_rows == ROWS[key]
    assert edition.limits_count_zeros == (key not in ("2020B", "2021A"))
    assert edition.evaluation_list == "evaluation_setup/fold1_test.csv"


@pytest.mark.parametrize("edition", EDITIONS.values(), ids=list(EDITIONS))
def test_every_edition_is_told_whole(edition: Edition) -> None:
    assert edition.budget_name in (f"dcase{edition.key.lower()}", edition.key)
    assert edition.classes is None or len(set(edition.classes)) == len(edition.classes) >= 3
    assert (edition.evaluation_list is None) == (edition.evaluation_rows is None) == (edition.evaluation_name is None)
    assert edition.ranking in ("accuracy", "log_loss_macro") or edition.ranking_terms
    assert all("?" not in text for text in edition.unverified)


def test_classes_and_devices() -> None:
    assert EDITIONS["2020B"].classes == ("indoor", "outdoor", "transportation")
    assert all(EDITIONS[key].classes == SCENES == tuple(sorted(SCENES)) for key in ("2021A", "2022", "2025"))
    assert EDITIONS["2025"].complexity_devices == DEVICES_2025
    assert len(DEVICES_2025) == 13
    assert EDITIONS["2024"].splits == ("split_5", "split_10", "split_25", "split_50", "split_100")
    assert len(EDITIONS["biodcase2026"].classes or ()) == 11


def test_the_published_formula_of_biodcase() -> None:
    """submission/rank_submissions/rank_formula.txt of the organisers, on their PyTorch baseline's results."""
    told = {
        "accuracy_inference": 0.5647, "accuracy_tflite": 0.5628, "roc_auc_inference": 0.8921, "roc_auc_tflite": 0.8923,
        "model_size_tflite_bytes": 111_408, "macs_inference": 23_326_923, "macs_tflite": 23_315_232,
        "embedded_time_ms_preprocessing": 3.02, "embedded_time_ms_model": 1484.87, "embedded_time_ms_total": 1492.35,
        "embedded_ram_usage_bytes": 202_540,
    }  # fmt: skip
    by_hand = (
        (0.5647 - 0.56) / 0.44 + 2 * (0.5628 - 0.56) / 0.44
        + 0.5 * (0.8921 - 0.89) / 0.08 + 0.5 * (0.8923 - 0.89) / 0.08
        + 0.5 * (4_755_032 - 111_408) / (4_755_032 - 42_232) + 0.3 * 1.0
        + 0.5 * (567_313_754 - 23_315_232) / (567_313_754 - 3_911_888) + 0.3 * (477.46 - 3.02) / 236.34
        + 0.4 * (2000 - 1484.87) / 1712.47 + 0.5 * (2000 - 1492.35) / 1712.47 + 0.5 * (1e6 - 202_540) / (1e6 - 95_900)
    )  # fmt: skip
    total = 0.0
    for term in EDITIONS["biodcase2026"].ranking_terms:
        points = (told[term.score] - term.zero) / (term.one - term.zero)
        total += term.weight * (max(points, 0) if term.floored else points)
        assert term.higher_is_better == (term.one > term.zero)
    assert total == pytest.approx(by_hand)


def test_the_weights_of_2023_are_a_mean_and_told_as_unverified() -> None:
    edition = EDITIONS["2023"]
    assert sum(term.weight for term in edition.ranking_terms) == 1
    assert [term.higher_is_better for term in edition.ranking_terms] == [True, False, False]
    assert any("weights" in text for text in edition.unverified)


def test_names_of_an_evaluation_list() -> None:
    edition = EDITIONS["2022"]
    names = edition.evaluation_names(12)
    assert names[0] == "0.wav"
    assert names[11] == "11.wav"
    pattern = edition.evaluation_pattern or ""
    assert all(re.fullmatch(pattern, name) for name in names)
    assert not any(re.fullmatch(pattern, name) for name in ("x.wav", "1xwav", "airport-lisbon-1.wav", ".wav"))
    assert EDITIONS["own"].evaluation_pattern is None
