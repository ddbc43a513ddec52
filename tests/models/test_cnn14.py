"""PANNs' networks and their depthwise variants (paper 004, Section 4), counted on the meta device: 80 M weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from system.models.catalog import CATALOG
from system.models.hooked import count
from tests.models.variants import inputs

# name -> parameters, MACs: the authors' classes and PANNs' own, counted
GOLDEN = {
    "cnn6": (4_837_455, 9_933_434_368),
    "cnn6next": (3_373_135, 8_767_757_824),
    "cnn6next_repo": (3_337_935, 5_988_118_400),
    "cnn14": (80_753_615, 20_041_926_656),
    "cnn14sep": (30_470_543, 5_994_125_312),
}


def made(name: str, classes: int = 527) -> nn.Module:
    make = CATALOG[name].module
    assert make is not None
    return make(classes)


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_and_macs_exactly(name: str) -> None:
    entry = CATALOG[name]
    with torch.device("meta"):
        network = made(name)
    assert sum(p.numel() for p in network.parameters()) == GOLDEN[name][0]
    cost = count(network, entry.shape)
    assert (cost.params, cost.macs_exact) == GOLDEN[name]
    assert network.eval()(torch.empty(2, *entry.shape, device="meta")).shape == (2, 527)


def test_the_published_macs_hold_the_front_end() -> None:
    """Table 3, CNN14: 21.2 G, with the Fourier transform, the mel filters, and two per value that a BatchNorm wrote."""
    bins, frames = 1024 // 2 + 1, 1001
    with torch.device("meta"):
        cost = count(made("cnn14"), CATALOG["cnn14"].shape)
    norms = cost.macs_fvcore - cost.macs_exact
    total = cost.macs_exact + 2 * bins * 1024 * frames + bins * 64 * frames + norms
    assert round(total / 1e9, 1) == 21.2


def test_the_second_convolution_of_cnn14sep_is_depthwise_with_no_1x1_after_it() -> None:
    with torch.device("meta"):
        plain, separate = ([m for m in made(n).modules() if isinstance(m, nn.Conv2d)] for n in ("cnn14", "cnn14sep"))
    assert [conv.groups for conv in plain] == [1] * 12
    assert [conv.groups for conv in separate] == [1, 64, 1, 128, 1, 256, 1, 512, 1, 1024, 1, 2048]
    assert {conv.kernel_size for conv in plain + separate} == {(3, 3)}


def test_cnn6next_multiplies_channels_in_its_depthwise_convolutions() -> None:
    """Table 2: 7x7 with a multiplier of two, then 1x1 to four times the width and back."""
    with torch.device("meta"):
        convs = [m for m in made("cnn6next").modules() if isinstance(m, nn.Conv2d)]
    wide = [conv for conv in convs if conv.kernel_size == (7, 7)]
    assert [(conv.in_channels, conv.out_channels, conv.groups) for conv in wide] == [
        (1, 64, 1), (64, 128, 64), (128, 256, 128), (256, 512, 256),
    ]  # fmt: skip
    assert [conv.out_channels for conv in convs if conv.kernel_size == (1, 1)] == [
        256, 64, 512, 128, 1024, 256, 2048, 512,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["cnn6", "cnn6next", "cnn6next_repo"])
def test_the_small_ones_compute_logits_with_a_gradient_for_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    network = made(name, classes=3).train()
    x = inputs((1, 64, 48), batch=3)
    logits = network(x)
    F.cross_entropy(logits, torch.arange(3)).backward()
    assert logits.shape == (3, 3)
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    network.eval()
    with torch.inference_mode():
        assert network(inputs((1, 64, 80), batch=2)).shape == (2, 3)  # any length
        assert not torch.allclose(network(x)[0], network(x)[1])


def test_the_maximum_over_time_counts_as_much_as_the_mean() -> None:
    """Mean over frequency first, then both over time, added (PANNs)."""
    network = made("cnn6", classes=3).eval()
    network.blocks = nn.Identity()
    network.hidden = nn.Identity()
    network.classify = nn.Identity()
    x = inputs((1, 64, 20)).abs()
    with torch.inference_mode():
        over_frequency = x.mean(dim=2) / (1 + 1e-5) ** 0.5  # fresh statistics: mean 0, variance 1
        expected = over_frequency.max(dim=2).values + over_frequency.mean(dim=2)
        assert torch.allclose(network(x), expected, atol=1e-5)
