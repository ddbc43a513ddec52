"""Arithmetic cost equals what counters see in a forward pass, in every view; the published numbers, exactly."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
import torch
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from system.models.catalog import CATALOG, model_spec
from system.models.layers import FORMS, Add, Apply, Attend, Branches, ResNorm, mean_over_map
from system.models.network import Network, Shape, build, complexity
from system.models.report import catalog_report
from tests.models.variants import CASES, Case, inputs

BASELINE = (model_spec("dcase2024_baseline"), (1, 256, 65), 10)


def hooked(network: Network, shape: Shape) -> tuple[int, int]:
    """Exact MACs and MACs by NeSsi's rule for TFLite files, seen by hooks while the network runs.

    Convolutions by torch's own counter. NeSsi adds the kernel's area per output of a pooling, the inputs of a
    mean, the outputs of an addition; ResNorm is two means, an addition of epsilon per band and an addition.
    """
    attention, rest = 0, 0

    def see(module: nn.Module, x: tuple[torch.Tensor, ...], y: torch.Tensor) -> None:
        nonlocal attention, rest
        if isinstance(module, Attend):
            attention += x[0].numel()
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            kernel: Any = module.kernel_size
            rest += kernel[0] * kernel[1] * y.numel()
        elif isinstance(module, Apply) and module.function is mean_over_map:
            rest += x[0].numel()
        elif isinstance(module, Branches):
            rest += len(module.convs) * y.numel()
        elif isinstance(module, Add):
            rest += y.numel()
        elif isinstance(module, ResNorm):
            rest += 3 * y.numel() + y.shape[2]

    for module in network.modules():
        module.register_forward_hook(see)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(inputs(shape, batch=1))
    convolutions = counter.get_total_flops() // 2
    return convolutions + attention, convolutions + rest


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_cost_equals_a_counted_forward_pass(case: Case, form: Any) -> None:
    spec, shape, classes = case
    cost = complexity(spec, shape, classes, form)
    network = build(spec, shape, classes, form).eval()
    assert cost.params == sum(p.numel() for p in network.parameters())
    official = torchinfo.summary(network, input_size=(1, *shape), device="cpu", verbose=0)
    assert (cost.params, cost.macs_torchinfo) == (official.total_params, official.total_mult_adds)
    assert (cost.macs_exact, cost.macs_nessi_tflite) == hooked(network, shape)
    assert cost.macs_fvcore == sum(layer.macs_fvcore for layer in cost.layers)
    assert cost.macs == max(cost.macs_exact, cost.macs_torchinfo, cost.macs_nessi_tflite)


def test_the_official_baseline_exactly() -> None:
    """facts/dcase.md 4.3: folding BatchNorm lifts the torchinfo view over the limit of 30 million."""
    train, merged, deploy = (complexity(*BASELINE, form) for form in FORMS)
    assert merged == train  # no branches
    assert (train.params, train.macs_exact, train.macs_torchinfo) == (61_148, 29_416_448, 29_419_156)
    assert (deploy.params, deploy.macs_exact, deploy.macs_torchinfo) == (59_794, 29_416_448, 30_216_768)
    assert deploy.macs == 30_216_768


def test_audio_rep_inception_at_challenge_size_exactly() -> None:
    """facts/architectures.md B.4: 133,534 parameters train, 121,754 fused with all BatchNorm folded."""
    case = (model_spec("audio_rep_inception_128k"), (1, 256, 65), 10)
    train, _, deploy = (complexity(*case, form).params for form in FORMS)
    assert (train, deploy) == (133_534, 121_754)


@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.published and not entry.remark])
def test_published_counts_are_met(name: str) -> None:
    found = catalog_report([name])[name]
    for form, counts in CATALOG[name].published.items():
        assert {key: found[form][key] for key in counts} == counts


def test_the_report_of_the_catalogue_has_every_model_and_key() -> None:
    report = catalog_report(list(CATALOG))
    assert set(report) == set(CATALOG)
    for name, entry in report.items():
        assert {"input", "spec", "train", "merged", "deploy", "published"} <= set(entry)
        assert entry["spec"]["block"] == model_spec(name).block
        assert entry["deploy"]["params"] < entry["train"]["params"]


def test_the_cost_takes_well_under_a_millisecond() -> None:
    def seconds() -> float:
        started = time.perf_counter()
        complexity(model_spec("kt_final"), (1, 80, 51), 10)
        return time.perf_counter() - started

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
