"""What every network of the catalogue that a module builds keeps to, as those with a specification do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchinfo
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from system.errors import MissingPackage
from system.models import from_packages
from system.models.catalog import CATALOG, Entry
from system.models.forms import converted, fresh
from system.models.hooked import count
from system.models.layers import FORMS
from system.models.report import catalog_report
from tests.models.variants import CLASSES, MODULES, inputs, randomised

SHAPE = (1, 64, 64)  # their layers are whatever the map is
every_module = pytest.mark.parametrize("name", MODULES)


def made(name: str) -> nn.Module:
    entry = CATALOG[name]
    assert entry.module is not None
    try:
        return randomised(entry.module(CLASSES))
    except MissingPackage as error:
        pytest.skip(str(error))


@every_module
def test_logits_have_their_shape_and_every_parameter_a_gradient(name: str) -> None:
    torch.manual_seed(0)
    network = made(name).train()
    logits = network(inputs(SHAPE, batch=3))
    assert logits.shape == (3, CLASSES)
    F.cross_entropy(logits, torch.arange(3) % CLASSES).backward()
    unreached = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not unreached


@every_module
def test_builds_on_the_meta_device_and_is_counted_as_the_tools_count(name: str) -> None:
    made(name)
    entry = CATALOG[name]
    for form in FORMS if entry.merge is not None else ("train", "deploy"):
        with torch.device("meta"):
            network, x = fresh(entry, form).eval(), torch.empty(1, *entry.shape)
        assert {p.device.type for p in network.parameters()} == {"meta"}
        assert network(x).shape == (1, entry.classes)
        cost = count(network, entry.shape)
        official = torchinfo.summary(network, input_data=x, device="meta", verbose=0)
        assert cost.params == official.total_params == sum(p.numel() for p in network.parameters())
        assert cost.macs_torchinfo == official.total_mult_adds
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(x)
        assert cost.macs_exact == counter.get_total_flops() // 2


@every_module
def test_all_forms_give_the_same_logits(name: str) -> None:
    network = made(name)
    x = inputs(SHAPE, louder=10)
    with torch.inference_mode():
        expected = network(x)
        scale = expected.abs().max()
        assert expected.std(dim=0).max() > 1e-3 * scale  # the inputs are told apart
        norms = []
        for form in FORMS:
            changed = converted(CATALOG[name], network, form).eval()
            assert (changed(x) - expected).abs().max() < 1e-4 * scale
            norms.append(sum(isinstance(part, nn.BatchNorm2d) for part in changed.modules()))
        assert norms[-1] <= 1  # one that stands beside no convolution
        assert norms[0] > norms[-1] or norms[0] == 1


def test_merging_leaves_one_kernel_and_the_original_as_it_was() -> None:
    entry = CATALOG["replknet_31t"]
    network = made("replknet_31t")
    before = sum(p.numel() for p in network.parameters())
    merged = converted(entry, network, "merged")
    assert sum(p.numel() for p in network.parameters()) == before
    assert not any(isinstance(part, nn.Conv2d) and part.kernel_size == (5, 5) for part in merged.modules())
    assert any(isinstance(part, nn.Conv2d) and part.kernel_size == (5, 5) for part in network.modules())


def test_a_missing_package_is_named_and_stops_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Any:
        raise ModuleNotFoundError(name="timm")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(MissingPackage, match=r"'resnet50' is defined by the package timm: pip install 'tinyscene"):
        from_packages.resnet50(10)
    assert set(catalog_report(["resnet50"])["resnet50"]) == {"missing"}


def test_an_entry_has_a_spec_or_a_module() -> None:
    with pytest.raises(ValueError, match="either a spec or a module"):
        Entry("nowhere")
