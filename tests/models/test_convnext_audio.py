"""ConvNeXt for audio (paper 004): counts, grids and layers of the paper, and what trains it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.budget import Budget
from system.complexity import Map
from system.features import LogMel
from system.models.catalog import CATALOG, model_spec
from system.models.convnext_audio import STEMS
from system.models.float_layers import FloatLayers
from system.models.hooked import count
from system.models.layers import FORMS, Add
from system.models.network import build, complexity
from system.models.reparam import deploy
from system.runs import load_experiment
from tests.models.variants import inputs, randomised

CONFIGS = Path(__file__).resolve().parents[2] / "system" / "configs"
TINY = model_spec("convnext_tiny")
NARROW, SHORT = TINY.changed(width=8), (1, 64, 160)

# name -> parameters, MACs, maps (freq, time) after the stem and the last stage: the authors' classes, counted
GOLDEN = {
    "convnext_tiny": (28_222_767, 19_949_418_240, (56, 252), (7, 31)),
    "convnext_small": (49_857_327, 38_976_232_704, (56, 252), (7, 31)),
    "convnext_tiny_56x56": (28_228_143, 4_462_393_344, (56, 56), (7, 7)),
    "convnext_tiny_112x112": (28_222_959, 17_783_331_072, (112, 112), (14, 14)),
    "convnext_tiny_504x28": (28_224_303, 19_538_541_312, (28, 504), (3, 63)),
    "convnext_tiny_504x56": (28_222_767, 40_006_569_984, (56, 504), (7, 63)),
    "convnext_113k": (113_130, 29_717_120, (64, 32), (8, 4)),
    "convnext_128k": (126_214, 27_843_200, (64, 32), (8, 4)),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_parameters_macs_and_grids_exactly(name: str) -> None:
    entry = CATALOG[name]
    assert entry.spec is not None
    cost = complexity(entry.spec, entry.shape, entry.classes, "train")
    with torch.device("meta"):
        network = build(entry.spec, entry.shape, entry.classes)
    stem, last = network.stem.map, network.stages[-1].map
    assert (cost.params, cost.macs_exact, stem[1:], last[1:]) == GOLDEN[name]
    assert sum(p.numel() for p in network.parameters()) == cost.params


def test_the_paper_has_five_stems() -> None:
    """Section 5; 252x56 is the network's own."""
    grids = {name: f"{time}x{freq}" for name, (_, _, (freq, time), _) in GOLDEN.items() if "_tiny_" in name}
    assert grids == {f"convnext_tiny_{grid}": grid for grid in STEMS}
    assert len(STEMS) == 4


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_128k_batch"])
def test_arithmetic_and_hooks_agree_at_full_size(name: str, form: Any) -> None:
    entry = CATALOG[name]
    assert entry.spec is not None
    cost = complexity(entry.spec, entry.shape, entry.classes, form)
    with torch.device("meta"):
        seen = count(build(entry.spec, entry.shape, entry.classes, form), entry.shape)
    for view in ("params", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "macs_fvcore"):
        assert getattr(seen, view) == getattr(cost, view), view


def test_the_published_macs_hold_the_front_end() -> None:
    """Table 3: 21.1 G, with the Fourier transform as two convolutions of 513 filters, and the mel filters."""
    bins, frames = 1024 // 2 + 1, 1001
    front_end = 2 * bins * 1024 * frames + bins * 224 * frames
    assert round((complexity(TINY, (1, 224, frames), 527, "train").macs_exact + front_end) / 1e9, 1) == 21.1
    assert round(front_end / 1e9, 3) == 1.167


def test_only_the_layer_scale_is_gone_when_deployed() -> None:
    """Its BatchNorm over bands becomes a gain and a shift per band, its LayerNorms stay."""
    train, merged, deployed = (complexity(TINY, (1, 224, 1001), 527, form).params for form in FORMS)
    blocks = zip(TINY.widths(), TINY.stages, strict=True)
    assert train == merged == deployed + sum(width * stage.depth for width, stage in blocks)


@pytest.mark.parametrize("name", ["convnext_128k", "convnext_128k_batch"])
def test_challenge_members_are_within_the_limits_in_every_view(name: str) -> None:
    cost = complexity(model_spec(name), CATALOG[name].shape, 10)
    assert Budget.parse("128k_params_30M_macs").excess(cost.totals()) == {}


def test_the_wider_member_is_within_the_limits_in_the_exact_view_only() -> None:
    cost = complexity(model_spec("convnext_113k"), (1, 256, 65), 10)
    assert Budget.parse("128k_params_30M_macs", "exact").excess(cost.totals()) == {}
    assert "macs" in Budget.parse("128k_params_30M_macs").excess(cost.totals())


def test_the_batch_norm_member_deploys_to_convolutions_additions_and_one_pooling() -> None:
    layers = complexity(model_spec("convnext_128k_batch"), (1, 256, 65), 10).layers
    assert {layer.kind for layer in layers} == {"conv", "depthwise", "relu", "add", "mean_and_max"}


# -- layers


def layer_norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """By hand, over channels: (B, C, F, T)"""
    centred = x - x.mean(dim=1, keepdim=True)
    x = centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-6)
    return x * layer.weight[:, None, None] + layer.bias[:, None, None]


def block(x: Tensor, layer: Any) -> Tensor:
    """As ConvNeXt is often written: channels last, pointwise layers as matrices."""
    y = F.conv2d(x, layer.depthwise.conv.weight, layer.depthwise.conv.bias, padding=3, groups=x.shape[1])
    y = layer_norm(y, layer.norm.norm).permute(0, 2, 3, 1)
    y = F.gelu(F.linear(y, layer.expand.conv.weight.flatten(1), layer.expand.conv.bias))
    y = F.linear(y, layer.project.conv.weight.flatten(1), layer.project.conv.bias)
    return x + (layer.project.norm.gain * y).permute(0, 3, 1, 2)


def written_out(network: Any, x: Tensor) -> Tensor:
    """Paper 004, Sections 2 and 5, for the 252x56 stem: (B, 1, F, T) -> (B, classes)"""
    bands = network.band_norm.norm
    x = (x - bands.running_mean[:, None]) / torch.sqrt(bands.running_var + 1e-5)[:, None]
    x = x * bands.weight[:, None] + bands.bias[:, None]
    stem = network.stem.conv.conv
    x = F.conv2d(F.pad(x, (4, 4)), stem.weight, stem.bias, stride=4)
    x = layer_norm(x, network.stem.norm.norm)
    for stage in network.stages:
        if stage.down is not None:
            conv = stage.down.conv.conv
            x = F.conv2d(layer_norm(x, stage.down.norm.norm), conv.weight, conv.bias, stride=2)
        for layer in stage.blocks:
            x = block(x, layer)
    x = x.mean(dim=2)  # (B, C, T)
    x = (x.max(dim=2).values + x.mean(dim=2))[:, :, None, None]
    x = layer_norm(x, network.head.norm.norm).flatten(1)
    return F.linear(x, network.head.classify.conv.weight.flatten(1), network.head.classify.conv.bias)


def test_the_network_is_the_papers_written_out() -> None:
    torch.manual_seed(0)
    network = randomised(build(NARROW, SHORT, 5)).double()
    x = inputs(SHORT, batch=2).double()
    with torch.inference_mode():
        expected = written_out(network, x)
        assert (network(x) - expected).abs().max() < 1e-10 * expected.abs().max()
        assert (deploy(network, NARROW, SHORT, 5)(x) - expected).abs().max() < 1e-10 * expected.abs().max()
    assert expected.std() > 0.1


def test_any_length_gives_logits() -> None:
    """Pooling takes what time there is; the parameters do not depend on it."""
    network = randomised(build(NARROW, SHORT, 5))
    with torch.inference_mode():
        assert network(inputs((1, 64, 401))).shape == (3, 5)


def test_bands_are_normalized_each_on_its_own() -> None:
    network = build(NARROW, SHORT, 5).train()
    assert network.band_norm is not None
    level = torch.linspace(-50, -5, 64)[:, None]
    y = network.band_norm(inputs(SHORT, batch=8) * level.abs() + level)
    assert torch.allclose(y.mean(dim=(0, 1, 3)), torch.zeros(64), atol=1e-4)
    assert torch.allclose(y.var(dim=(0, 1, 3)), torch.ones(64), atol=1e-2)


# -- training


def test_layer_scale_starts_so_small_that_a_block_is_the_identity() -> None:
    network = build(NARROW, SHORT, 5).eval()
    layer = network.stages[0].blocks[0]
    x = inputs(network.stem.map)
    with torch.inference_mode():
        assert 0 < (layer(x) - x).abs().max() < 1e-3
    assert torch.equal(layer.project.norm.gain, torch.full((8,), 1e-6))


def test_drop_path_rises_linearly_to_the_rate_of_the_last_block() -> None:
    network = build(NARROW.changed(drop_path=0.4), SHORT, 5)
    found = [layer.add.drop_path for stage in network.stages for layer in stage.blocks]
    assert found == pytest.approx([0.4 * i / 17 for i in range(18)])
    unused = [m.drop_path for m in build(NARROW, SHORT, 5, "deploy").modules() if isinstance(m, Add)]
    assert unused == [0.0] * 18


def test_drop_path_leaves_whole_branches_out_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    add = FloatLayers("train").add(Map(2, 3, 4), Map(2, 3, 4))
    add.drop_path = 0.4
    x, other = torch.ones(4000, 2, 3, 4), torch.full((4000, 2, 3, 4), 5.0)
    y = add(x, other) - other
    assert y.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert torch.equal(y.amax(dim=(1, 2, 3)), y.amin(dim=(1, 2, 3)))  # all of a clip or nothing
    assert y.mean().item() == pytest.approx(1.0, abs=0.03)
    assert torch.equal(add.eval()(x, other), x + other)


# -- front end


def test_the_front_end_is_the_papers_up_to_a_factor() -> None:
    """10 log10(max(S, 1e-10)), as PANNs and the paper have it; the factor goes with the standardization."""
    spec = load_experiment(CONFIGS / "convnext_tiny.yaml")
    assert spec.input_shape() == CATALOG["convnext_tiny"].shape
    front_end = LogMel(spec.features)
    time = torch.arange(32000) / 32000
    loud = 0.3 * torch.sin(2 * torch.pi * 440 * time) + 0.01 * torch.randn(32000, generator=torch.Generator())
    samples = torch.stack([loud, 1e-5 * loud])  # the second is partly below the floor
    power = front_end.mel(samples)
    theirs = 10 * torch.log10(power.clamp(min=1e-10))
    ours = front_end(samples) * 10 / torch.log(torch.tensor(10.0))
    apart = (ours - theirs).abs()
    assert apart[power > 1e-7].max() < 0.01  # dB
    assert apart.max() <= 10 * torch.log10(torch.tensor(2.0)) + 1e-3  # where S is the floor itself
    assert (power < 1e-10).any()
    assert (power > 1e-7).any()
