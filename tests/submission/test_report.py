"""The complexity report: what it counts, what it warns of, and that its page opens anywhere."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quant.graph import read_graph
from quant.graph_memory import peak_activations
from submission.adapt import counted
from submission.packing.package import pack
from submission.report.content import VIEWS, complexity_report, official_views
from submission.report.files import write_reports
from submission.report.markdown import markdown
from submission.report.page import bars_of, page
from submission.run_parts import COMPLEXITY_KEYS, load_run
from system.editions import EDITIONS
from system.files import read_json, write_json
from system.models.catalog import CATALOG
from system.models.network import complexity
from tests.submission.conftest import MakeRun, ask

Report = dict[str, Any]
BASELINE_FEATURES = {"sample_rate": 32000, "n_fft": 4096, "win_length": 3072, "hop_length": 500, "n_mels": 256}


def report_of(run: Path, edition: str = "2022") -> Report:
    rules = EDITIONS[edition]
    return complexity_report(rules, counted(rules, load_run(run, "brevitas")))


@pytest.fixture(scope="module")
def real(quantized_runs: dict[str, Path]) -> Report:
    """Of a run with an INT8 graph."""
    return report_of(quantized_runs["scenes"])


def test_it_holds_the_graphs_own_numbers(real: Report, quantized_runs: dict[str, Path]) -> None:
    run = quantized_runs["scenes"]
    cost = read_json(run / "quant/brevitas/complexity.json", "")
    assert {key: real[key] for key in (*COMPLEXITY_KEYS, "layers")} == {
        key: cost[key] for key in (*COMPLEXITY_KEYS, "layers")
    }
    assert list(real["bytes_by_type"]) == [
        "int8 weights", "int32 biases", "float32 scales", "uint8 zero points",
        "float32 parameters of norms and activations",
    ]  # fmt: skip
    assert sum(real["bytes_by_type"].values()) == real["total_bytes"]
    assert sum(layer["params"] for layer in real["layers"]) == real["params"]
    assert sum(layer["macs_exact"] for layer in real["layers"]) == real["macs_exact"]
    in_layers = sum(layer["bytes"] for layer in real["layers"])
    quantizers = real["bytes_by_type"]["uint8 zero points"]  # each with a scale of four bytes
    assert in_layers + 5 * quantizers == real["total_bytes"]
    peak = peak_activations(read_graph(run / "quant/brevitas/int8.onnx"))
    assert (real["peak_activation_bytes"], real["peak_activation_layer"]) == (peak.bytes, peak.layer)
    assert real["receptive_field"]["of_bands"] == 16
    assert real["limits"] == {"params": 128_000, "macs": 30_000_000}
    assert real["within_budget"] is True


def test_the_official_views_stand_side_by_side(real: Report, quantized_runs: dict[str, Path]) -> None:
    run = load_run(quantized_runs["scenes"], "brevitas")
    merged = complexity(run.spec.model, run.spec.input_shape(), 10, "merged").totals()
    views = {(view["tool"], view["batch_norm"]): view for view in real["views"]}
    assert len(views) == len(VIEWS) == 4
    assert views["torchinfo", "kept"]["macs"] == merged["macs_torchinfo"] < views["torchinfo", "folded"]["macs"]
    assert views["torchinfo", "kept"]["params"] == merged["params"] > views["torchinfo", "folded"]["params"]
    assert views["torchinfo", "folded"]["macs"] == real["macs_torchinfo"]
    assert views["exact", "folded"]["macs"] == real["macs_exact"]
    assert views["NeSsi on TFLite", "folded"]["macs"] == real["macs_nessi_tflite"]


def test_folding_the_norms_of_the_2024_baseline_lifts_one_view_over_the_limit(make_run: MakeRun) -> None:
    spec = CATALOG["dcase2024_baseline"].spec
    assert spec is not None
    folded = complexity(spec, (1, 256, 65), 10).totals()
    run = make_run(model=spec.plain(), features=BASELINE_FEATURES, complexity=folded)
    report = report_of(run, "2024")
    views = {(view["tool"], view["batch_norm"]): (view["params"], view["macs"]) for view in report["views"]}
    assert views["torchinfo", "kept"] == (61_148, 29_419_156)
    assert views["torchinfo", "folded"] == (59_794, 30_216_768)
    (warning,) = [text for text in report["warnings"] if "disagree" in text]
    assert "the limit of 30,000,000 MACs" in warning
    assert "torchinfo with BatchNorm kept 29,419,156" in warning
    assert "torchinfo with BatchNorm folded 30,216,768" in warning
    assert report["within_budget"] is False
    assert warning in markdown("title", report)


def test_every_view_above_the_limit_is_no_disagreement(make_run: MakeRun) -> None:
    large = dict.fromkeys(("macs", "macs_exact", "macs_torchinfo", "macs_nessi_tflite"), 40_000_000)
    spec = CATALOG["dcase2024_baseline"].spec
    assert spec is not None
    run = make_run(model=spec.changed(width=64).plain(), features=BASELINE_FEATURES, complexity=large)
    assert "every official view is above the limit of 30,000,000 MACs" in report_of(run)["warnings"]


def test_a_recording_of_several_segments_costs_as_often(quantized_runs: dict[str, Path]) -> None:
    rules = EDITIONS["2021A"]  # recordings of ten seconds
    one = official_views(load_run(quantized_runs["scenes"], "brevitas"))
    ten = official_views(counted(rules, load_run(quantized_runs["scenes"], "brevitas")))
    assert [view["macs"] for view in ten] == [10 * view["macs"] for view in one]
    assert [view["params"] for view in ten] == [view["params"] for view in one]


def test_as_markdown(real: Report) -> None:
    text = markdown("A title", real)
    assert text.startswith("# A title\n")
    for words in (
        f"| parameters, zeros included | {real['params']:,} | 128,000 (",
        f"is needed at {real['peak_activation_layer']}, while 8-bit maps are alive",
        f"sees all 16 mel bands (4,000 Hz; a field of {real['receptive_field']['bands']})",
        f"| all | {real['total_bytes']:,} |",
        "| torchinfo | kept |",
        f"| int8 weights | {real['weight_bytes']:,} |",
    ):
        assert words in text
    assert text.count("\n| ") >= len(real["layers"])


class Page(HTMLParser):
    """What a browser would do with the page: tags that are open, what is fetched, ids and their uses, texts."""

    VOID = ("meta", "rect", "wbr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.attributes if name == tag]


def test_the_page_is_whole_and_fetches_nothing(real: Report) -> None:
    text = page({"One": real, "Two": real})
    found = Page(text)
    assert found.open == []
    assert not found.all("script") + found.all("link") + found.all("img")
    assert not any({"src", "href"} & set(attributes) for _, attributes in found.attributes)
    assert "url(" not in text
    assert "@import" not in text
    assert "Content-Security-Policy" in text
    assert found.all("html")[0]["lang"] == "en"


def test_the_page_can_be_read_without_seeing_it(real: Report) -> None:
    found = Page(page({"One": real, "Two": real}))
    ids = [attributes["id"] for _, attributes in found.attributes if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = [
        attributes["aria-labelledby"] or "" for _, attributes in found.attributes if "aria-labelledby" in attributes
    ]
    assert used
    assert all(name in ids for names in used for name in names.split())
    figures = found.all("svg")
    assert len(figures) == 2
    assert all(figure["role"] == "img" for figure in figures)
    assert len(found.all("caption")) == len(found.all("table")) == 8
    assert all("scope" in attributes for attributes in found.all("th"))


def test_the_figure_has_a_bar_for_each_layer_that_costs_something(real: Report) -> None:
    found, bars = Page(page({"One": real})), bars_of(real)
    costly = [layer for layer in real["layers"] if layer["macs_exact"] or layer["bytes"]]
    assert [layer.name for layer in bars] == [layer["name"] for layer in costly]
    assert len(found.all("rect")) == 2 * len(bars)
    lengths = np.array([layer.lengths for layer in bars])
    numbers = np.array([layer.numbers for layer in bars])
    np.testing.assert_allclose(lengths, 240 * numbers / numbers.max(axis=0), atol=0.06)
    assert all(f"{layer['macs_exact']:,}" in found.text for layer in costly)


def test_names_are_escaped(real: Report) -> None:
    layers = [{**real["layers"][0], "name": "<script>alert(1)</script>"}]
    text = page({"<b>bold</b>": {**real, "layers": layers}})
    assert "<script>" not in text
    assert "<b>" not in text


@pytest.mark.parametrize("several", [False, True])
def test_what_an_older_run_does_not_tell_is_said(make_run: MakeRun, tmp_path: Path, several: bool) -> None:
    report = report_of(make_run())
    reports = {"A_B_task1_1": {"": report}} | ({"A_B_task1_2": {"split_5": report}} if several else {})
    write_reports(tmp_path, reports)
    content = json.loads((tmp_path / "complexity.json").read_text())
    told = content["systems"]["A_B_task1_2"]["split_5"] if several else content
    assert told["params"] == 120_000
    for text in ((tmp_path / "complexity.md").read_text(), Page((tmp_path / "complexity.html").read_text()).text):
        assert "tells no receptive field" in text
        assert "does not tell at which layer" in text
        assert "Energy is not measured: not recorded" in text
        assert ("A_B_task1_2, split_5: the INT8 model (brevitas) in edition 2022" in text) is several


def test_measured_energy_is_told(make_run: MakeRun) -> None:
    run = make_run()
    energy = {"joules": 0.0123, "joules_above_idle": 0.0045, "runs": 812, "counters": ["/sys/x"]}
    write_json(run / "quant/brevitas/parity.json", {"energy": energy})
    report = report_of(run)
    assert report["energy"] == energy
    assert "12.3 mJ of the whole processor" in markdown("t", report)
    assert "4.5 mJ above idling (mean of 812 runs" in Page(page({"t": report})).text


def test_the_files_stand_beside_the_package(quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    pack(ask("own", quantized_runs["scenes"], draft=True, out=tmp_path))
    assert {"complexity.json", "complexity.md", "complexity.html"} <= {path.name for path in tmp_path.iterdir()}
    assert Page((tmp_path / "complexity.html").read_text()).open == []
