"""The command: who is ranked on what, in which order, and what it says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from submission.leaderboard import main
from system.editions import EDITIONS, SCENES
from system.errors import ConfigError, FormatError, RunError, TinySceneError
from system.scoring.scenes import score
from tests.submission import ranked

BAD, MIDDLE, GOOD = (ranked.fold(skill, seed) for seed, skill in enumerate((0.5, 1.5, 3.0)))


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three runs, in an order that no rule gives."""
    monkeypatch.chdir(tmp_path)
    ranked.run(Path("middle"), MIDDLE, costs={**ranked.COSTS, "macs": 20_000})
    ranked.run(Path("good"), GOOD, costs={**ranked.COSTS, "total_bytes": 9_000, "macs": 90_000})
    ranked.run(Path("bad"), BAD, costs={**ranked.COSTS, "total_bytes": 500})


RUNS = ["middle", "good", "bad"]


def boards(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def board(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    found = boards(capsys, *words)
    assert len(found) == 1
    return found[0]


def names(found: dict[str, Any]) -> list[str]:
    return [row["name"] for row in found["systems"]]


def refused(error: type[TinySceneError], said: str, *words: str) -> None:
    with pytest.raises(error, match=said):
        main(list(words))


def test_scores_are_those_of_the_runs_own_files(capsys: pytest.CaptureFixture[str]) -> None:
    found = board(capsys, *RUNS)
    assert names(found) == ["good", "middle", "bad"]
    assert (found["n"], found["clips"], found["sources"], found["unit"]) == (60, 60, 12, "recording location")
    groups = {"a": "real", "s1": "seen", "s4": "unseen"}
    for row, predictions in zip(found["systems"], (GOOD, MIDDLE, BAD), strict=True):
        expected = score(predictions, "test", groups)
        for key in ("accuracy", "log_loss", "log_loss_macro"):
            assert row[key] == pytest.approx(expected[key])
        for key in ("accuracy", "log_loss"):
            assert row["interval"]["bootstrap"][key] == pytest.approx(expected["interval"][key])
            low, high = row["interval"]["jackknife"][key]
            assert low <= row[key] <= high
        for by, told in (("class", "class_wise"), ("device", "device_wise")):
            for name, values in expected[told].items():
                assert {key: row["by"][by][name][key] for key in values} == pytest.approx(values)
        known = score(replace(predictions, label=[c if d != "s4" else "" for c, d in
            zip(predictions.label, predictions.device, strict=True)]), "test", {})  # fmt: skip
        assert row["by"]["known device"]["known"]["accuracy"] == pytest.approx(known["accuracy"])
        assert row["by"]["known device"]["unknown"]["n"] == 20
        assert set(row["by"]["city"]) == set(ranked.CITIES)
        assert row["by"]["known city"]["unknown"] == row["by"]["city"]["vienna"]
        assert row["confusion"] == expected["confusion"]["matrix"]


def test_neighbours_are_compared_in_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    found = board(capsys, *RUNS)
    assert [(pair["better"], pair["next"]) for pair in found["neighbours"]] == [("good", "middle"), ("middle", "bad")]
    rows = {row["name"]: row for row in found["systems"]}
    for pair in found["neighbours"]:
        for key in ("accuracy", "log_loss", "log_loss_macro"):
            told = pair[key]
            assert told["difference"] == pytest.approx(rows[pair["better"]][key] - rows[pair["next"]][key])
            assert told["interval"][0] <= told["difference"] <= told["interval"][1]
            assert told["p"] <= told["p_holm"] <= 1
            crosses = told["interval"][0] < 0 < told["interval"][1]
            assert crosses == (told["p"] > 0.05)
    ranked.run(Path("twin"), GOOD)
    twins = next(pair for pair in board(capsys, *RUNS, "twin")["neighbours"] if pair["next"] == "twin")
    assert twins["accuracy"]["p"] == twins["log_loss"]["p"] == 1.0


@pytest.mark.parametrize("key", [key for key, rules in EDITIONS.items() if not rules.events])
def test_every_edition_ranks(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = board(capsys, *RUNS, "--edition", key)
    assert sorted(row["place"] for row in found["systems"]) == [1, 2, 3]
    assert found["rule"]["unverified"] == list(EDITIONS[key].unverified)
    of_scenes = set(EDITIONS[key].classes or SCENES) == set(SCENES)
    assert any("classes are others" in note for note in found["notes"]) != of_scenes
    points = [row["points"] for row in found["systems"]]
    assert points == sorted(points, reverse=found["rule"]["higher_is_better"])


def test_the_rank_of_2023_weighs_what_a_system_costs(capsys: pytest.CaptureFixture[str]) -> None:
    found = board(capsys, *RUNS, "--edition", "2023")
    assert {row["name"]: row["points"] for row in found["systems"]} == {"middle": 1.75, "good": 2.0, "bad": 2.25}
    only = board(capsys, *RUNS, "--edition", "2023", "--weight", "macs=0", "--weight", "total_bytes=0")
    assert names(only) == ["good", "middle", "bad"]
    assert found["notes"] == [], "every system has every value, and nothing is impossible"


def test_float_and_int8_models_of_a_run_are_scored_each_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    """Where an edition asks for both, as BioDCASE does; the areas by scikit-learn, each class against the others."""
    GOOD.write_csv(Path("bad/best/predictions.csv"))
    (row,) = board(capsys, "bad", "--edition", "biodcase2026")["systems"]
    truth = [GOOD.classes.index(label) for label in GOOD.label]
    for form, predictions in (("inference", GOOD), ("tflite", BAD)):
        area = roc_auc_score(truth, predictions.probabilities, multi_class="ovr", average="macro")
        assert row["values"][f"accuracy_{form}"] == pytest.approx(score(predictions, "test", {})["accuracy"])
        assert row["values"][f"roc_auc_{form}"] == pytest.approx(area)


def test_a_foreign_file_is_ranked_and_costs_are_told_for_it(capsys: pytest.CaptureFixture[str]) -> None:
    ranked.output(Path("Lee_X_task1_1.output.csv"), GOOD)
    foreign = "Lee_X_task1_1.output.csv"
    found = board(capsys, "bad", foreign, "--edition", "2025")
    assert names(found) == [foreign, "bad"]
    assert found["systems"][0]["accuracy"] == pytest.approx(score(GOOD, "test", {})["accuracy"])
    unranked = board(capsys, "bad", foreign, "--edition", "2023")
    assert [row["place"] for row in unranked["systems"]] == [1, None]
    assert any("not ranked, as it has no size, MACs" in note for note in unranked["notes"])
    Path("costs.yaml").write_text(yaml.safe_dump({foreign: {"total_bytes": 10, "macs": 10}}))
    told = board(capsys, "bad", foreign, "--edition", "2023", "--measured", "costs.yaml")
    assert names(told) == [foreign, "bad"]
    Path("costs.yaml").write_text("{Lee: {macs: 1}, bad: {mac: 1, macs: many}}")
    for said in ("unknown system 'Lee'", "did you mean 'macs'", "bad.macs: expected a number"):
        refused(ConfigError, said, "bad", foreign, "--measured", "costs.yaml")


def test_five_splits_are_one_system_with_the_mean_of_its_scores(capsys: pytest.CaptureFixture[str]) -> None:
    splits = EDITIONS["2024"].splits
    trained = [ranked.fold(skill, seed=7) for skill in (0.5, 1, 1.5, 2, 2.5)]
    for split, predictions in zip(splits, trained, strict=True):
        ranked.output(Path(f"Lee_X_task1_1.output.{split}.csv"), predictions)
        ranked.run(Path(split), predictions)
    files = [f"Lee_X_task1_1.output.{split}.csv" for split in splits]
    found = board(capsys, "good", *files, *(f"mine:{split}={split}" for split in splits), "--edition", "2024")
    assert set(names(found)) == {"good", "Lee_X_task1_1", "mine"}
    accuracies = [score(predictions, "test", {})["accuracy"] for predictions in trained]
    for row in found["systems"][1:]:
        assert row["accuracy"] == pytest.approx(np.mean(accuracies))
        assert [values["accuracy"] for values in row["splits"].values()] == pytest.approx(accuracies)
        assert sum(map(sum, row["confusion"])) == 5 * 60
    assert [note for note in found["notes"] if "split_5, split_10" in note] == [
        "good: the edition asks for split_5, split_10, split_25, split_50, split_100; found a single training"
    ]
    ranked.run(Path("split_5"), ranked.part(trained[0], slice(0, 30)))
    refused(ConfigError, "not tested on the same segments", *(f"mine:{split}={split}" for split in splits))


def test_folds_of_one_data_set_are_pooled(capsys: pytest.CaptureFixture[str]) -> None:
    ranked.run(Path("fold1"), ranked.part(MIDDLE, slice(0, 35)))
    ranked.run(Path("fold2"), ranked.part(MIDDLE, slice(35, 60)), costs={**ranked.COSTS, "params": 2000})
    found = board(capsys, "good", "both:fold1", "both:fold2")
    pooled = next(row for row in found["systems"] if row["name"] == "both")
    assert pooled["accuracy"] == pytest.approx(score(MIDDLE, "test", {})["accuracy"])
    assert pooled["values"]["params"] == 2000
    refused(ConfigError, "60 segments such as .* are answered twice", "both:good", "both:middle")


def test_other_test_folds_are_other_boards(capsys: pytest.CaptureFixture[str]) -> None:
    ranked.run(Path("half"), ranked.part(GOOD, slice(0, 30)))
    found = boards(capsys, "middle", "half", "bad")
    assert [names(one) for one in found] == [["middle", "bad"], ["half"]]
    common = board(capsys, "middle", "half", "bad", "--common")
    assert common["n"] == 30
    assert names(common)[0] == "half"
    assert "middle: 30 of its 60 segments are left out, as not every system answered them" in common["notes"]
    ranked.run(Path("rest"), ranked.part(GOOD, slice(30, 60)))
    refused(ConfigError, "no segment", "half", "rest", "--common")


def test_a_float_run_is_ranked_as_it_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    ranked.run(Path("float"), GOOD, backend=None)
    row = board(capsys, "float", "--edition", "2023")["systems"][0]
    assert row["form"] == "float"
    assert row["values"]["total_bytes"] == 4 * ranked.COSTS["params"]


def test_every_int8_model_of_a_run_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    GOOD.write_csv(Path("bad/quant/onnxruntime/predictions.csv"))
    assert names(board(capsys, "bad")) == ["bad (INT8 onnxruntime)", "bad (INT8 brevitas)"]
    assert names(board(capsys, "bad", "--backend", "brevitas")) == ["bad"]
    refused(RunError, r"quant/other/predictions\.csv does not exist; .*--backend other", "bad", "--backend", "other")


def test_an_impossible_truth_is_counted_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    values = GOOD.probabilities.copy()
    values[0] = np.eye(10)[3]
    ranked.output(Path("x.csv"), replace(GOOD, probabilities=values))
    found = board(capsys, "bad", "x.csv")
    assert any("1 segments have the probability 0 for their true class; each counts" in note for note in found["notes"])


def test_the_seed_decides_the_draws(capsys: pytest.CaptureFixture[str]) -> None:
    first, again, other = (board(capsys, "bad", "--seed", seed)["systems"][0]["interval"] for seed in "114")
    assert first == again != other
    assert first["jackknife"] == other["jackknife"]


def test_one_location_has_no_interval(capsys: pytest.CaptureFixture[str]) -> None:
    ranked.run(Path("one"), ranked.part(GOOD, slice(0, 5)))
    found = board(capsys, "one", "--html", "one.html")
    assert found["sources"] == 1
    assert found["systems"][0]["interval"]["bootstrap"]["accuracy"] is None


def test_the_table_says_what_it_rests_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*RUNS, "--edition", "2023"]) == 0
    told = capsys.readouterr()
    assert "60 segments of 60 clips, 10 classes; ranked by the weighted mean of the ranks" in told.out
    assert "bootstrap over 12 recording locations" in told.out
    assert "unknown devices" in told.out
    assert "unknown cities" in told.out
    assert "good - bad" in told.out or "good - middle" in told.out or "middle - good" in told.out
    assert "unverified: the weights 0.5, 0.25 and 0.25" in told.err


def test_a_name_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    ranked.run(Path("[red]x$y$"), GOOD)
    assert main(["[red]x$y$", "bad", "--html", "x.html"]) == 0
    assert "[red]x$y$" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "said", "words"),
    [
        (RunError, "nothing does not exist; expected a run folder", ["nothing"]),
        (RunError, r"config\.yaml does not exist; .*train", ["."]),
        (ConfigError, "unknown edition '2032'", ["good", "--edition", "2032"]),
        (ConfigError, "give one of them", ["good", "--edition", "2022", "--by", "accuracy"]),
        (ConfigError, "unknown score 'acc'", ["good", "--by", "acc"]),
    ],
)
def test_mistakes(error: type[TinySceneError], said: str, words: list[str]) -> None:
    refused(error, said, *words)


def test_runs_that_are_not_whole(tmp_path: Path) -> None:
    Path("good/quant/brevitas/predictions.csv").write_text("filename\n")
    refused(FormatError, r"predictions\.csv, line 1: expected the columns", "good")
    Path("good/quant/brevitas/predictions.csv").unlink()
    Path("good/best/predictions.csv").unlink()
    refused(RunError, r"best/predictions\.csv does not exist", "good")
    Path("bad/quant/brevitas/events.csv").write_text("")
    refused(RunError, "predicts sound events, which are ranked among themselves", "bad", "middle")
