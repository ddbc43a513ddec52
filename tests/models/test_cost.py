"""Arithmetic cost equals what counters see in a forward pass, in every view; the published numbers, exactly."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
import torchinfo
from torch.utils.flop_counter import FlopCounterMode

from system.complexity import Complexity
from system.models.catalog import CATALOG, model_spec
from system.models.counting import CostLayers
from system.models.entry import agrees
from system.models.hooked import count
from system.models.layers import FORMS, Form
from system.models.network import Network, build, complexity, weighted
from system.models.report import COUNTS, catalog_report
from tests.models import golden
from tests.models.variants import BASE, CASES, Case

BASELINE = (model_spec("dcase2024_baseline"), (1, 256, 65), 10)


def meta(case: Case, form: Form) -> tuple[Network, torch.Tensor]:
    spec, shape, classes = case
    with torch.device("meta"):
        return build(spec, shape, classes, form).eval(), torch.empty(1, *shape)


def weighted_layers(cost: Complexity) -> list[tuple[int, int]]:
    """Weights and values written of each layer that has weights, in the order of the layers."""
    return [(layer.weights, layer.output.size) for layer in cost.layers if layer.weights]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_arithmetic_is_what_is_seen_in_a_forward_pass(case: Case) -> None:
    spec, shape, classes = case
    costs = {form: complexity(spec, shape, classes, form) for form in FORMS}
    if costs["merged"] == costs["train"]:
        del costs["merged"]
    for form, cost in costs.items():
        seen = count(meta(case, form)[0], shape)
        assert {key: getattr(cost, key) for key in COUNTS} == {key: getattr(seen, key) for key in COUNTS}
        assert cost.macs == max(cost.macs_exact, cost.macs_torchinfo, cost.macs_nessi_tflite)
        assert cost.peak_activation_bytes() == seen.peak_activation_bytes()
        assert weighted_layers(cost) == weighted_layers(seen)  # in order: the memory depends on it


BY_TOOLS = {name: case for name, case in CASES.items() if name.startswith("catalog: ") or name.endswith(": base")}
NAMED = BY_TOOLS | {name: case for name, case in CASES.items() if name.startswith(f"{BASE.block}: ")}


@pytest.mark.parametrize("case", NAMED.values(), ids=NAMED)
def test_a_row_is_named_by_the_layer_that_has_its_weights(case: Case) -> None:
    """Bits of weights are given by layer: those of another one would be counted."""
    layers = CostLayers("deploy")
    names = dict(weighted(Network(layers, *case)))
    built = meta(case, "deploy")[0]
    counted = {row: layer.weights for row, layer in enumerate(layers.rows) if layer.weights}
    assert {row: built.get_parameter(f"{name}.conv.weight").numel() for row, name in names.items()} == counted


@pytest.mark.parametrize("case", BY_TOOLS.values(), ids=BY_TOOLS)
def test_the_arithmetic_is_what_the_real_tools_count(case: Case) -> None:
    """torchinfo, which is the official counter, and torch's own. fvcore: test_hooked.py."""
    for form in ("train", "deploy"):
        cost = complexity(*case, form)
        network, x = meta(case, form)
        official = torchinfo.summary(network, input_data=x, device="meta", verbose=0)
        assert (cost.params, cost.macs_torchinfo) == (official.total_params, official.total_mult_adds)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(x)
        attention = sum(layer.macs_exact for layer in cost.layers if layer.kind == "weighted_sum")
        assert cost.macs_exact == counter.get_total_flops() // 2 + attention


def test_the_official_baseline_exactly() -> None:
    """Folding BatchNorm lifts the torchinfo view over the limit of 30 million."""
    train, merged, deploy = (complexity(*BASELINE, form) for form in FORMS)
    assert merged == train  # no branches
    assert (train.params, train.macs_exact, train.macs_torchinfo) == (61_148, 29_416_448, 29_419_156)
    assert (deploy.params, deploy.macs_exact, deploy.macs_torchinfo) == (59_794, 29_416_448, 30_216_768)
    assert deploy.macs == 30_216_768


def test_audio_rep_inception_at_challenge_size_exactly() -> None:
    """The authors' class at these widths, before fusion and with all BatchNorm folded."""
    case = (model_spec("audio_rep_inception_128k"), (1, 256, 65), 10)
    train, _, deploy = (complexity(*case, form).params for form in FORMS)
    assert (train, deploy) == (133_534, 121_754)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (11_825_000, True), (11_829_999, True), (11_830_000, True), (11_839_999, True),  # rounded up, or cut off
        (11_824_999, False), (11_820_000, False), (11_840_000, False),  # 11.82, 11.82 and 11.84 either way
    ],
)  # fmt: skip
def test_a_printed_number_stands_for_what_rounds_to_it_or_is_cut_to_it(found: int, said: bool) -> None:
    assert agrees(found, 11_830_000) == said
    assert agrees(61_148, 61_148)
    assert not agrees(61_147, 61_148)
    assert not agrees(61_149, 61_148)


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.published and not entry.remark])
def test_published_counts_are_met(name: str) -> None:
    found = catalog_report([name])[name]
    for form, counts in CATALOG[name].published.items():
        assert {key: found[form][key] for key in counts if not agrees(found[form][key], counts[key])} == {}


def test_the_report_of_the_catalogue_has_every_model_and_key() -> None:
    report = catalog_report(list(CATALOG))
    assert set(report) == set(CATALOG)
    for name, entry in report.items():
        assert {"input", "spec", "train", "merged", "deploy", "published"} <= set(entry)
        spec = CATALOG[name].spec
        assert entry["spec"] is None if spec is None else entry["spec"]["block"] == spec.block
        assert entry["deploy"]["params"] <= entry["train"]["params"]


def test_every_count_is_what_it_was() -> None:
    """Golden numbers of every row in every form; a row that is meant to change or is new: see golden.py."""
    now, before = golden.found(), golden.read()
    new = {name for name, _ in now} - {name for name, _ in before}
    assert not new, "python -m tests.models.golden writes their counts down"
    assert {key: counts for key, counts in now.items() if counts != before[key]} == {}
    assert {name for name, _ in before} <= set(CATALOG)


def test_the_cost_takes_well_under_a_millisecond() -> None:
    def seconds() -> float:
        started = time.process_time()
        complexity(model_spec("kt_final"), (1, 80, 51), 10)
        return time.process_time() - started

    assert statistics.median(seconds() for _ in range(50)) < 2e-3  # 0.4 ms on a quiet machine


def test_the_cost_needs_no_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was made")

    for name in ("empty", "zeros", "ones", "tensor", "randn"):
        monkeypatch.setattr(torch, name, refuse)
    assert complexity(model_spec("kt_final"), (1, 80, 51), 10).params > 0


def test_attention_is_counted_where_the_official_tools_are_blind() -> None:
    spec = model_spec("kt_final")
    cost = complexity(spec, (1, 80, 51), 10)
    attended = [layer for layer in cost.layers if layer.kind == "weighted_sum"]
    assert len(attended) == 1
    assert attended[0].macs_exact == attended[0].inputs[0].size > 0
    assert attended[0].macs_torchinfo == attended[0].macs_nessi_tflite == 0
