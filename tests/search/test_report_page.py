"""report.html: everything in one file, and true to the study."""

from __future__ import annotations

import random
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState, create_trial

from search.fit_width import fit_width
from search.report import best_of, front_of
from search.report_page import importances, page, write_report
from search.report_plots import categories
from search.space import DEFAULT, spec_of, suggest
from search.storage import INFEASIBLE, REASON, record_of
from system.budget import Budget
from system.checkpoint import Checkpoint, save_checkpoint
from system.files import write_json
from system.models.network import build
from tests import tiny
from tests.search.conftest import RandomChoices

VOID = ("meta", "br", "img", "link", "wbr", "path", "use", "rect", "line", "circle")


class Outline(HTMLParser):
    """Ids, what is linked, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.wanted: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.wanted += [v for k, v in found.items() if k in ("src", "href", "xlink:href") and v]
        self.wanted += re.findall(r"url\((.*?)\)", " ".join(v for v in found.values() if v))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


BUDGET = Budget.parse("1500_params")
EXPERIMENT = tiny.experiment()


def made_study(count: int = 24) -> optuna.Study:
    """Draws of the space as a search records them, with made-up losses; every fourth is stopped early."""
    generator, study = random.Random(1), optuna.create_study()
    values = {row.name: CategoricalDistribution(row.values) for row in DEFAULT}
    for number in range(count):
        choices = suggest(RandomChoices(generator.choice))
        fitted = fit_width(spec_of(choices), BUDGET, EXPERIMENT.input_shape(), 3)
        state, loss = TrialState.PRUNED if number % 4 == 3 else TrialState.COMPLETE, generator.uniform(0.5, 1.5)
        attributes: dict[str, Any] = {"log_loss": loss, "accuracy": 0.5, "seconds": 2.0, "epochs": 3}
        if fitted.spec is None or fitted.cost is None:
            state, attributes = TrialState.PRUNED, {INFEASIBLE: True, REASON: fitted.reason, "limit": fitted.limit}
        else:
            attributes |= {"spec": fitted.spec.plain(), "params": fitted.cost.params, "macs": fitted.cost.macs}
        study.add_trial(
            create_trial(
                state=state,
                value=loss if state == TrialState.COMPLETE else None,
                params=choices,
                distributions={name: values[name] for name in choices},
                user_attrs=attributes,
            )
        )
    return study


Written = tuple[str, list[dict[str, Any]], Path, optuna.Study]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The page, what search.json would say, the run and the study."""
    run, study = tmp_path_factory.mktemp("run"), made_study()
    write_report(run, study, EXPERIMENT, 3, [BUDGET])
    return (run / "report.html").read_text(), [record_of(trial) for trial in study.trials], run, study


def test_the_page_stands_alone_and_is_well_formed(written: Written) -> None:
    text, *_ = written
    outline = Outline(text)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert {"script", "link", "img", "iframe"}.isdisjoint(outline.tags)
    assert all(target.startswith("#") and target[1:] in outline.ids for target in outline.wanted)
    assert "default-src 'none'" in text
    assert text.count("<svg") >= 3


def test_the_page_says_what_the_trials_say(written: Written) -> None:
    text, trials, *_ = written
    states = [trial["state"] for trial in trials]
    assert min(states.count(state) for state in ("COMPLETE", "PRUNED", "INFEASIBLE")) > 1
    assert f"{states.count('COMPLETE')} trials finished, {states.count('PRUNED')} stopped early" in text
    assert f"{states.count('INFEASIBLE')} draws did not fit" in text
    told = text.partition("by the limit that fails\nfirst: ")[2].partition(".")[0]
    by_limit = [trial["limit"] for trial in trials if trial["state"] == "INFEASIBLE"]
    assert f"params {by_limit.count('params')}" in told
    best = best_of(trials)
    assert best is not None
    assert f"<td>{best['log_loss']:.4f}</td>" in text
    assert f"<td>{best['params']:,}</td><td>1,500</td>" in text
    assert "Not trained yet" in text
    assert "Beside the network of KT" in text


def test_the_same_study_gives_the_same_page(written: Written, tmp_path: Path) -> None:
    text, _, run, study = written
    write_report(tmp_path, study, EXPERIMENT, 3, [BUDGET])
    assert (tmp_path / "report.html").read_text().replace(tmp_path.name, run.name) == text


def test_a_study_without_a_finished_trial_has_a_page(tmp_path: Path) -> None:
    trials = [{"number": 0, "state": "FAILED", "seconds": 1.0, "reason": "<b>broken</b>", "choices": {}, "limit": ""}]
    text = page(tmp_path, trials, {}, tiny.experiment(), 3, [Budget.parse("1k_params")])
    assert "No trial has finished yet" in text
    assert "failed 1 times: &lt;b&gt;broken" in text
    assert "1 s of training" in text
    assert "but the winner's test score" in text
    assert Outline(text).open == []


def test_the_page_of_a_front_speaks_of_no_winner(tmp_path: Path) -> None:
    levels = [Budget.parse(text) for text in ("1k_params", "2k_params")]
    assert "winner" not in page(tmp_path, [], {}, tiny.experiment(), 3, levels)


def test_the_winner_s_test_score_stands_beside_its_validation_score(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, trials, _, study = written
    best = best_of(trials)
    assert best is not None
    final = EXPERIMENT.changed(model=best["spec"])
    network = build(final.model, final.input_shape(), 3)
    (tmp_path / "best").mkdir()
    saved = Checkpoint(final, tiny.CLASSES, 0.0, 1.0, network.state_dict())
    save_checkpoint(tmp_path / "best" / "model.safetensors", saved)
    scores = {"accuracy": 0.625, "log_loss": 0.875, "n": 1200, "validation": {"accuracy": 0.75, "log_loss": 0.5}}
    write_json(tmp_path / "best" / "scores.json", scores)
    write_json(tmp_path / "quant" / "brevitas" / "parity.json", {"latency_ms": {"fp32": 0.5, "int8": 0.4321}})
    race = {"number": 5, "log_loss": 1.5, "seeds": 3, "log_loss_new_seeds": 0.625, "accuracy_new_seeds": 0.875}
    write_json(tmp_path / "finalists.json", {"finalists": [race], "trainings": []})
    monkeypatch.setattr("quant.cost_table.estimator", lambda: lambda cost: 0.25)
    write_report(tmp_path, study, EXPERIMENT, 3, [Budget.parse("1500_params_1ms_latency")])
    text = (tmp_path / "report.html").read_text()
    assert "Trained: accuracy 62.5 %, log loss\n0.875 nats on the test fold (1,200 segments)" in text
    assert "accuracy 75.0 %, log loss\n0.500 nats on the validation part" in text
    assert '<th scope="row">5</th><td>1.5000</td><td>3</td><td>0.6250</td><td>87.5</td>' in text
    assert "0.250 ms estimated" in text
    assert "0.432 ms measured on the integer file of\nbrevitas" in text
    assert "<td>0.25</td><td>1.0</td><td>25.0 %</td>" in text


def test_importance_is_found_where_there_is_one() -> None:
    generator, study = random.Random(0), optuna.create_study()
    values = {row.name: CategoricalDistribution(row.values) for row in DEFAULT}
    for number in range(40):
        choices = suggest(RandomChoices(generator.choice))
        loss = 1.0 + (choices["activation"] == "relu") + 0.001 * number
        rows = {name: values[name] for name in choices}
        study.add_trial(create_trial(params=choices, distributions=rows, value=loss))
        if number == 4:
            assert importances(study) == {}  # too few
    found = importances(study)
    assert sum(found.values()) <= 1 + 1e-6
    assert max(found, key=found.__getitem__) == "activation"
    assert "branches" not in found  # a choice that not all networks make


def test_the_front_and_the_categories() -> None:
    trials = [{"macs": m, "log_loss": loss} for m, loss in ((3, 1.0), (1, 2.0), (2, 2.5), (2, 1.5), (4, 1.0))]
    assert [(t["macs"], t["log_loss"]) for t in front_of(trials, "macs")] == [(1, 2.0), (2, 1.5), (3, 1.0)]
    assert categories([3, 11, None, 5]) == ["–", "3", "5", "11"]
    assert categories(["b", "a", "b"]) == ["a", "b"]
