"""search/run.py as a whole, on tiny data: what it leaves, how it goes on, what it refuses before anything is left."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search import impossible, space
from search import run as command
from search.known_designs import KNOWN_DESIGNS
from search.objective import Objective
from system import dataset, experiment
from system.checkpoint import load_checkpoint
from system.config import load_yaml
from system.errors import BudgetError, ConfigError, DataError, RunError
from system.models.network import complexity
from system.runs import load_experiment, locked
from tests import tiny
from tests.search.conftest import MadeUpFit

FEATURES = tiny.FEATURES.plain()
TINY = [
    "--set", f"data.segment_seconds={tiny.SECONDS}", "--device", "cpu",
    *(word for key in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels")
      for word in ("--set", f"features.{key}={FEATURES[key]}")),
]  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(dataset, "prepare", lambda *_: tiny.data(24, 12, 12))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "x"


def search(run: Path, *words: str, budget: str = "4k_params_200k_macs", trials: int = 2) -> dict[str, Any]:
    epochs = ("--epochs", "1", "--final-epochs", "1")
    command.main(["--budget", budget, "--run", str(run), "--trials", str(trials), *epochs, *TINY, *words])
    return json.loads((run / "search.json").read_text())


def test_what_a_search_leaves_and_that_the_same_command_ends_at_once(
    run: Path, fit: MadeUpFit, capsys: pytest.CaptureFixture[str]
) -> None:
    result = search(run)
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {
        "config.yaml", "study.db", "search.json", "pareto.csv", "pareto.png", "report.html", "best/config.yaml",
        "best/history.csv", "best/model.safetensors", "best/scores.json", "best/predictions.csv",
        "best/complexity.json",
    } <= files  # fmt: skip
    assert not [name for name in files if ".part" in name or name.endswith(".ckpt")]
    assert load_yaml(run / "config.yaml")["provenance"]["data_checksum"] == "0" * 64

    checkpoint = load_checkpoint(run / "best" / "model.safetensors")
    assert checkpoint.spec.model.plain() == result["best"]["spec"]
    assert checkpoint.spec.train.epochs == 1
    cost = json.loads((run / "best" / "complexity.json").read_text())
    assert (cost["params"], cost["macs"]) == (result["best"]["params"], result["best"]["macs"])
    assert cost["within_budget"] is True
    assert cost["params"] <= 4000
    assert cost["macs"] <= 200_000
    scores = json.loads((run / "best" / "scores.json").read_text())
    assert {"accuracy", "log_loss", "class_wise", "device_wise", "device_groups", "interval"} <= set(scores)
    assert (scores["split"], scores["n"]) == ("test", 12)
    with (run / "best" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert sum(float(rows[0][name]) for name in tiny.CLASSES) == pytest.approx(1)

    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.suffix != ".png"}
    capsys.readouterr()
    search(run)
    assert "nothing to do" in capsys.readouterr().out
    assert len(fit.trained) == 2
    assert {path: path.read_bytes() for path in before} == before


def test_other_settings_on_an_existing_run_are_refused_with_the_difference(run: Path, fit: MadeUpFit) -> None:
    run.mkdir(parents=True)
    fit.on_start = _stop
    with pytest.raises(KeyboardInterrupt):
        search(run)
    for words, said in (
        (("--seed", "1"), "seed: 0 there, 1 asked for"),
        (("--epochs", "2"), "train.epochs: 1 there, 2 asked for"),
        (("--budget", "64KiB"), "budget: 4k_params_200k_macs there, 64KiB asked for"),
        (("--view", "exact"), "view: strictest there, exact asked for"),
    ):
        with pytest.raises(RunError, match=f"{run} holds another experiment .*{said}"):
            search(run, *words)


def test_how_long_the_winner_is_trained_binds_no_trial(run: Path, fit: MadeUpFit) -> None:
    search(run)
    made = (run / "best" / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match=f"{run}/best: trained for 1 epochs, 2 asked for; give --final-epochs 1, or"):
        search(run, "--final-epochs", "2")
    assert (run / "best" / "model.safetensors").read_bytes() == made
    shutil.rmtree(run / "best")
    search(run, "--final-epochs", "2")
    assert len(fit.trained) == 2
    assert load_checkpoint(run / "best" / "model.safetensors").spec.train.epochs == 2


def test_a_winner_of_a_race_does_not_go_for_want_of_an_option(run: Path, fit: MadeUpFit) -> None:
    search(run, "--finalists", "2")
    made = (run / "best" / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match=f"{run}/best: won a race of 2, 1 asked for; give --finalists 2, or remove"):
        search(run)
    assert (run / "best" / "model.safetensors").read_bytes() == made


def test_trials_are_trained_by_the_recipe_but_for_their_length(run: Path, fit: MadeUpFit) -> None:
    search(run, "--epochs", "3", "--set", "train.learning_rate=0.02", "--set", "train.average=ema")
    winner = load_checkpoint(run / "best" / "model.safetensors").spec.train
    assert (winner.learning_rate, winner.average, winner.epochs) == (0.02, "ema", 1)
    assert {spec.train for spec in fit.trained} == {winner.changed(epochs=3)}


def _not_wanted(*_: Any) -> None:
    raise AssertionError("the data was read")


def _stop(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_better_winner_replaces_what_was_made_of_the_old_one(run: Path, fit: MadeUpFit) -> None:
    first = search(run, trials=1)
    for made in ("quant/brevitas", "devices/a"):
        (run / made).mkdir(parents=True)
    fit.loss = lambda spec: 0.01
    second = search(run, trials=2)
    assert second["best"]["number"] != first["best"]["number"]
    assert load_checkpoint(run / "best" / "model.safetensors").spec.model.plain() == second["best"]["spec"]
    assert not (run / "quant").exists()
    assert not (run / "devices").exists()


def test_a_kill_in_the_winner_s_training_costs_no_trial(
    run: Path, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "fit", _stop)
        with pytest.raises(KeyboardInterrupt):
            search(run)
    assert not (run / "best" / "scores.json").exists()
    search(run)
    assert (run / "best" / "scores.json").is_file()
    assert len(fit.trained) == 2


def test_a_relaxed_view_holds_to_the_end(run: Path, fit: MadeUpFit) -> None:
    """The winner may be over the budget in another view; its own decides, and is recorded."""
    first = space.spec_of(KNOWN_DESIGNS[0]).changed(width=4)
    limit = complexity(first, tiny.experiment().input_shape(), 3).macs_exact
    result = search(run, "--view", "exact", budget=f"{limit}_macs", trials=1)
    assert result["budget"]["view"] == "exact"
    assert result["best"]["macs"] > limit  # the largest of the views
    report = json.loads((run / "best" / "complexity.json").read_text())
    assert report["macs_exact"] == limit
    assert report["within_budget"] is True
    assert load_experiment(run / "best" / "config.yaml").view == "exact"


def test_a_dry_run_trains_nothing_and_leaves_no_run(
    run: Path, fit: MadeUpFit, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classes come from the lists of the data: no recording is read."""
    monkeypatch.setattr("search.dry_run.DRAWN", 20)
    monkeypatch.setattr(dataset, "classes_of", lambda *_: tiny.CLASSES)
    monkeypatch.setattr(dataset, "prepare", _not_wanted)
    command.main(["--budget", "4k_params_200k_macs", "--run", str(run), "--dry-run", "2", *TINY])
    assert "What 4k_params_200k_macs buys" in capsys.readouterr().out
    assert not run.parent.exists()
    assert fit.trained == []


@pytest.mark.parametrize("budget", ["1_params", "10_macs", "100B", "64KiB_10B_activations"])
def test_an_impossible_budget_says_what_the_least_is_and_leaves_no_run(
    budget: str, run: Path, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impossible, "PROBES", 20)
    monkeypatch.setattr(dataset, "prepare", _not_wanted)
    with pytest.raises(BudgetError, match=f"nothing fits the budget {budget}: the smallest of .* over the limit of"):
        search(run, budget=budget)
    assert not run.parent.exists()
    assert fit.trained == []


def test_a_budget_that_fits_but_for_the_classes_is_refused_once_they_are_known(
    run: Path, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(impossible, "PROBES", 20)
    many = replace(tiny.data(24, 12, 12), classes=tuple(map(str, range(10**6))))
    monkeypatch.setattr(dataset, "prepare", lambda *_: many)
    with pytest.raises(BudgetError, match="nothing fits the budget 4k_params_200k_macs"):
        search(run)
    assert not run.parent.exists()


def test_mel_bands_that_hear_nothing_are_refused_before_any_data(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impossible, "PROBES", 20)
    monkeypatch.setattr(dataset, "prepare", _not_wanted)
    with pytest.raises(BudgetError, match=r"fits the input: features\.n_mels: expected bands that each read"):
        search(run, "--set", "features.n_mels=200")


def test_an_input_that_no_network_fits_is_told_and_leaves_no_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(impossible, "PROBES", 20)
    with pytest.raises((BudgetError, ConfigError), match="does not fit a map of"):
        search(run, "--set", "features.n_mels=1")
    assert not run.parent.exists()


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["--storage", "postgresql://someone:secret@127.0.0.1:9/db"], RunError, "--storage 127.0.0.1:9/db: the study"),
        (["--storage", "sqlite:////dev/null/study.db"], RunError, "the study cannot be opened"),
        (["--budget", "128k"], BudgetError, "budget '128k': cannot read '128k'; expected limits"),
        (["--set", "train.epoch=3"], ConfigError, "train.epoch: unknown key, did you mean 'epochs'"),
        (["--dataset", "csv"], ConfigError, "data.root: the data set csv needs a folder"),
        (["--set", "init.run=/a"], ConfigError, "init.run: a search draws other networks than /a holds"),
        (["--set", "distill.teachers=[/nowhere]"], RunError, "/nowhere: expected a run folder with best/model.safet"),
    ],
)
def test_a_refused_start_leaves_no_run(words: list[str], error: type[Exception], said: str, run: Path) -> None:
    with pytest.raises(error, match=said) as caught:
        search(run, *words)
    assert "secret" not in str(caught.value)
    assert not run.parent.exists()


@pytest.mark.parametrize("words", [["--trials", "0"], ["--epochs", "1.5"], ["--view", "fvcore"], ["--device", "tpu"]])
def test_a_wrong_option_is_a_usage_error(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        search(run, *words)
    assert caught.value.code == 2
    assert f"error: argument {words[0]}" in capsys.readouterr().err
    assert not run.parent.exists()


def test_bits_of_weights_are_searched_within_bytes(
    run: Path, fit: MadeUpFit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    space = tmp_path / "bits.yaml"
    space.write_text("{block: inverted, activation: relu, norm: batch, weight_bits: [4, 4_inside]}")
    with pytest.raises(ConfigError, match=r"bits\.yaml: weight_bits needs --objective int8"):
        search(run, "--space", str(space))
    assert not run.exists()

    monkeypatch.setattr(Objective, "_quantized", lambda *_: {"log_loss": 0.5, "accuracy": 0.5})
    result = search(run, "--space", str(space), "--objective", "int8", budget="3kB", trials=3)
    trials = [trial for trial in result["trials"] if trial["state"] != "INFEASIBLE"]
    assert {trial["quant"]["weight_bits"] for trial in trials} == {4}
    assert len({json.dumps((trial["spec"], trial["quant"])) for trial in trials}) == 3
    best = load_checkpoint(run / "best" / "model.safetensors").spec
    assert best.quant.plain() == next(t["quant"] for t in trials if t["number"] == result["best"]["number"])
    assert [spec.quant.weight_bits for spec in fit.trained] == [4, 4, 4]
    cost = json.loads((run / "best" / "complexity.json").read_text())
    assert cost["within_budget"] is True
    assert cost["weight_bytes"] < cost["total_bytes"] <= 3000
    assert cost["weight_bits"] == (8 if best.quant.layer_bits else 4)
    assert "Its weights have 4 bits" in (run / "report.html").read_text()


def test_logits_of_the_first_training_part_are_too_few_for_finalists(run: Path, fit: MadeUpFit) -> None:
    train, path = tiny.data(24, 12, 12).train, run.parent.parent / "logits.npz"
    np.savez(path, filename=train.filename, classes=tiny.CLASSES, logits=np.zeros((24, 3)))
    words = ("--set", f"distill.teachers=[{path}]")
    said = r"logits\.npz: expected logits of every validation segment, as other seeds train on it; found none of audio/"
    with pytest.raises(DataError, match=said):
        search(run, *words, "--finalists", "2")
    assert not run.parent.exists()
    search(run, *words)


def test_a_run_in_use_is_refused(run: Path) -> None:
    run.mkdir(parents=True)
    with locked(run), pytest.raises(RunError, match="in use by another process"):
        search(run)


def test_the_default_run_is_named_after_data_budget_and_seed(run: Path, fit: MadeUpFit) -> None:
    fit.on_start = _stop
    with pytest.raises(KeyboardInterrupt):
        command.main(["--budget", "4k_params", "--seed", "7", *TINY])
    assert [path.name for path in run.parent.iterdir()] == ["made-4k_params-s7"]
