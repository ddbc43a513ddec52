"""report.html: everything in one file, and true to the study."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from search.report_page import importances, page, write_report
from search.report_plots import categories, front_of
from system.budget import Budget
from system.files import write_json
from tests import tiny
from tests.search.conftest import MadeUpFit, Search

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


@pytest.fixture
def written(search: Search) -> tuple[str, dict[str, Any], Path]:
    result = search.until(9)
    write_report(search.run, search.study, search.plan.experiment, 3, search.plan.budget)
    return (search.run / "report.html").read_text(), result, search.run


def test_the_page_stands_alone_and_is_well_formed(written: tuple[str, dict[str, Any], Path]) -> None:
    text, *_ = written
    outline = Outline(text)
    assert outline.open == []
    assert len(set(outline.ids)) == len(outline.ids)
    assert {"script", "link", "img", "iframe"}.isdisjoint(outline.tags)
    assert all(target.startswith("#") and target[1:] in outline.ids for target in outline.wanted)
    assert "default-src 'none'" in text
    assert text.count("<svg") >= 3


def test_the_page_says_what_search_json_says(written: tuple[str, dict[str, Any], Path]) -> None:
    text, result, _ = written
    states = [trial["state"] for trial in result["trials"]]
    assert f"{states.count('COMPLETE')} trials finished, {states.count('PRUNED')} stopped early" in text
    assert f"{states.count('INFEASIBLE')} draws did not fit" in text
    told = text.partition("by the limit that fails\nfirst: ")[2].partition(".")[0]
    by_limit = [trial["limit"] for trial in result["trials"] if trial["state"] == "INFEASIBLE"]
    assert f"params {by_limit.count('params')}" in told
    best = result["best"]
    assert f"<td>{best['log_loss']:.4f}</td>" in text
    assert f"<td>{best['params']:,}</td><td>1,500</td>" in text
    assert "Not trained yet" in text
    assert "Beside the network of KT" in text


def test_the_same_study_gives_the_same_page(search: Search) -> None:
    search.until(6)
    pages = []
    for _ in range(2):
        write_report(search.run, search.study, search.plan.experiment, 3, search.plan.budget)
        pages.append((search.run / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_a_study_without_a_finished_trial_has_a_page(tmp_path: Path) -> None:
    trials = [{"number": 0, "state": "FAILED", "seconds": 1.0, "reason": "<b>broken</b>", "choices": {}, "limit": ""}]
    text = page(tmp_path, trials, {}, tiny.experiment(), 3, Budget.parse("1k_params"))
    assert "No trial has finished yet" in text
    assert "failed 1 times: &lt;b&gt;broken" in text
    assert Outline(text).open == []


def test_the_winner_s_test_score_stands_beside_its_validation_score(
    written: tuple[str, dict[str, Any], Path], search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    from system.experiment import train_and_report

    *_, result, run = written
    final = search.plan.experiment.changed(model=result["best"]["spec"])
    scores = train_and_report(final, tiny.data(24, 12, 12), run / "best", "cpu")
    (run / "quant" / "brevitas").mkdir(parents=True)
    write_json(run / "quant" / "brevitas" / "parity.json", {"latency_ms": {"fp32": 0.5, "int8": 0.4321}})
    monkeypatch.setattr("quant.latency.estimator", lambda: lambda cost: 0.25)
    write_report(run, search.study, search.plan.experiment, 3, Budget.parse("1500_params_1ms_latency"))
    text = (run / "report.html").read_text()
    assert f"Trained: accuracy {100 * scores['accuracy']:.1f} %" in text
    assert f"{scores['validation']['log_loss']:.3f} nats on the validation part" in text
    assert "0.250 ms estimated" in text
    assert "0.432 ms measured on the integer file of\nbrevitas" in text
    assert "<td>0.25</td><td>1.0</td><td>25.0 %</td>" in text


def test_importance_is_found_where_there_is_one(search: Search, fit: MadeUpFit) -> None:
    fit.loss = lambda spec: 1.0 + (spec.model.activation == "relu") + 0.01 * len(fit.trained)
    search.until(4)
    assert importances(search.study) == {}  # too few
    search.until(30)
    found = importances(search.study)
    assert sum(found.values()) <= 1 + 1e-6
    assert max(found, key=found.__getitem__) == "activation"


def test_the_front_and_the_categories() -> None:
    trials = [{"macs": m, "log_loss": loss} for m, loss in ((3, 1.0), (1, 2.0), (2, 2.5), (2, 1.5), (4, 1.0))]
    assert [(t["macs"], t["log_loss"]) for t in front_of(trials, "macs")] == [(1, 2.0), (2, 1.5), (3, 1.0)]
    assert categories([3, 11, None, 5]) == ["–", "3", "5", "11"]
    assert categories(["b", "a", "b"]) == ["a", "b"]
