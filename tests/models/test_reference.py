"""Challenge baselines, peers and the foreign networks: their parts against the papers' formulas, and their counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.complexity import Map
from system.errors import ConfigError
from system.models.blocks import BLOCKS
from system.models.catalog import CATALOG, model_spec
from system.models.entry import agrees
from system.models.float_layers import FloatLayers
from system.models.layers import Form, SubBandNorm
from system.models.network import build, complexity
from system.models.norms import GlobalResponse
from system.models.reference import CP_RESNET_C32, bc_resnet
from system.models.report import entry_cost
from tests.models.variants import BASE, CLASSES, inputs, randomised

# name -> parameters and exact MACs of the authors' classes, run by others
AUTHORS = {
    "dcase2022_baseline": (46_118, 29_203_560),
    "dcase2024_baseline": (61_148, 29_416_448),
    "cp_mobile": (126_952, 28_889_088),
    "cp_resnet_c32": (127_684, 28_839_120),
    "bc_resnet_1": (9_232, 2_482_156),
    "bc_resnet_2": (27_284, 7_323_672),
    "bc_resnet_3": (54_168, 14_524_548),
    "bc_resnet_6": (187_812, 50_283_336),
    "bc_resnet_8": (321_068, 85_919_328),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_parameters_and_macs_of_the_authors_classes(name: str) -> None:
    cost = entry_cost(CATALOG[name], "train")
    assert (cost.params, cost.macs_exact) == AUTHORS[name]


@pytest.mark.parametrize(
    ("name", "form", "classes", "frames", "params", "macs"),
    [
        ("slow_fast", "train", 44, 416, 26_060_000, 4_500_000_000),
        ("resnet50", "train", 44, 416, 23_590_000, 4_270_000_000),
        ("inception_next_tiny", "train", 44, 416, 24_000_000, 4_430_000_000),
        ("replknet_31t", "merged", 44, 416, 29_180_000, 6_330_000_000),
        ("slow_fast", "train", 397, 400, 26_880_000, 4_330_000_000),
        ("inception_next_tiny", "train", 397, 416, 24_270_000, 4_430_000_000),
        ("replknet_31t", "merged", 397, 416, 29_360_000, 6_330_000_000),
    ],
)
def test_the_other_data_sets_of_the_papers(
    name: str, form: Form, classes: int, frames: int, params: int, macs: int
) -> None:
    """Paper 000, Table 2, paper 001, Table III (EPIC-SOUNDS) and IV (EPIC-KITCHENS-100: 97 verbs and 300 nouns)."""
    if name in ("resnet50", "inception_next_tiny"):
        pytest.importorskip("timm", reason="timm is not installed")
    cost = entry_cost(replace(CATALOG[name], classes=classes, shape=(1, 128, frames)), form)
    assert agrees(cost.params, params)
    assert agrees(cost.macs_fvcore, macs)


def norm(x: Tensor, layer: Any) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)


def conv_norm(x: Tensor, layer: Any, **options: Any) -> Tensor:
    return norm(F.conv2d(x, layer.conv.weight, None, **options), layer.norm)


def test_global_response_normalization_by_numpy() -> None:
    """gain * (x * n) + shift + x, n = |x|_2 over the map / mean over channels (ConvNeXt V2; CP-Mobile's class)."""
    layer = randomised(GlobalResponse(Map(4, 5, 6))).double()
    a = inputs((4, 5, 6)).double().numpy()
    size = np.sqrt((a * a).sum(axis=(2, 3), keepdims=True))
    relative = size / (size.mean(axis=1, keepdims=True) + 1e-6)
    gain, shift = layer.gain.item(), layer.shift.item()
    with torch.inference_mode():
        found = layer(torch.from_numpy(a)).numpy()
    assert np.abs(found - (gain * (a * relative) + shift + a)).max() < 1e-12
    assert np.abs(found - a).max() > 0.1


def test_sub_spectral_normalization_is_a_batch_norm_per_part_of_the_frequency_axis() -> None:
    layer = randomised(FloatLayers("train").sub_band_norm(Map(3, 10, 4), 5))
    assert isinstance(layer, SubBandNorm)
    x = inputs((3, 10, 4))
    batch_norm: Any = layer.norm
    assert batch_norm.num_features == 15
    scale = (batch_norm.weight / torch.sqrt(batch_norm.running_var + batch_norm.eps)).reshape(3, 5)
    shift = batch_norm.bias.reshape(3, 5) - batch_norm.running_mean.reshape(3, 5) * scale
    with torch.inference_mode():
        found = layer(x)
        for channel in range(3):
            for band in range(10):
                expected = x[:, channel, band] * scale[channel, band // 2] + shift[channel, band // 2]
                assert torch.allclose(found[:, channel, band], expected, atol=1e-5)


def test_sub_bands_that_do_not_divide_a_map_are_refused_where_they_are_declared() -> None:
    rule = r"^model\.sub_bands: must divide the bands of every map .* found 5 for a map of 64x65 \(freq x time\)$"
    for make in (build, complexity):
        with pytest.raises(ConfigError, match=rule):
            make(bc_resnet(1).changed(stem_stride=(4, 1)), (1, 256, 65), CLASSES)
        make(bc_resnet(1).changed(sub_bands=4), (1, 256, 65), CLASSES)


def test_groups_that_do_not_divide_the_channels_are_refused() -> None:
    for make in (build, complexity):
        with pytest.raises(ConfigError, match=r"^model\.groups: must divide a block.s channels, 32 before .*found 3$"):
            make(CP_RESNET_C32.changed(groups=3), (1, 256, 43), 10)


@pytest.mark.parametrize(("channels", "stride", "dilation"), [(4, (1, 1), 1), (4, (1, 1), 4), (6, (2, 1), 2)])
def test_the_broadcasted_residual_block(channels: int, stride: tuple[int, int], dilation: int) -> None:
    """BC-ResNet, equation 2: x + f2(x) + broadcast(f1(mean over frequency of f2(x))); no x where the width changes."""
    spec = BASE.changed(block="broadcast", sub_bands=5, dilation=dilation, block_dropout=0.1)
    x = inputs((4, 10, 12))
    block: Any = randomised(BLOCKS["broadcast"](FloatLayers("train"), Map(4, 10, 12), channels, stride, spec))
    with torch.inference_mode():
        y = x if channels == 4 else F.relu(conv_norm(x, block.widen))
        y = F.conv2d(y, block.over_frequency.conv.weight, None, stride, padding=(1, 0), groups=channels)
        y = block.sub_band_norm(y)
        z = y.mean(dim=2, keepdim=True)
        z = F.silu(conv_norm(z, block.over_time, padding=(0, dilation), dilation=(1, dilation), groups=channels))
        y = y + F.conv2d(z, block.mix.conv.weight)
        expected = F.relu(y + x) if channels == 4 else F.relu(y)
        assert torch.allclose(block(x), expected, atol=1e-5)


def test_the_block_of_cp_mobile_normalizes_the_sum_and_then_rectifies() -> None:
    spec = BASE.changed(block="cp_mobile", norm="grn", shortcut="identity")
    x = inputs((4, 9, 8))
    for stride in ((1, 1), (2, 2)):
        block: Any = randomised(BLOCKS["cp_mobile"](FloatLayers("train"), Map(4, 9, 8), 4, stride, spec))
        with torch.inference_mode():
            y = F.relu(conv_norm(x, block.expand))
            y = conv_norm(F.relu(conv_norm(y, block.depthwise, stride=stride, padding=1, groups=8)), block.project)
            y = y + (x if stride == (1, 1) else F.avg_pool2d(x, 3, stride, 1))
            assert torch.allclose(block(x), F.relu(block.norm.norm(y)), atol=1e-5)


def test_the_kernels_of_cp_resnet_stop_its_receptive_field() -> None:
    """rho = 8 of the authors: 3x3 3x3 until the third stage's first convolution, but for the first block's second."""
    network = build(CP_RESNET_C32, (1, 256, 43), 10)
    kernels = [
        (block.first.conv.kernel_size[0], block.second.conv.kernel_size[0], block.first.conv.groups)
        for stage in network.stages
        for block in stage.blocks
    ]
    assert kernels == [(3, 1, 1), (3, 3, 1), (3, 3, 2), (3, 1, 1)]
    assert [tuple(stage.map) for stage in network.stages] == [
        (32, 63, 10), (32, 31, 10), (64, 15, 10), (92, 15, 10),
    ]  # fmt: skip


def test_the_dcase_2022_baseline_is_the_first_row_of_kt() -> None:
    assert model_spec("dcase2022_baseline") == model_spec("kt_baseline")
    deploy = entry_cost(CATALOG["dcase2022_baseline"], "deploy")
    assert deploy.macs_nessi_tflite / 29_234_920 == pytest.approx(1, abs=2e-4)  # NeSsi on the published TFLite file


def test_resnorm_follows_each_stage_of_bc_resnet() -> None:
    spec = model_spec("bc_resnet_1_resnorm")
    network = build(spec, (1, 40, 101), 12)
    assert [type(stage.norm).__name__ for stage in network.stages] == ["ResNorm"] * 4
    assert spec.changed(norm="batch") == bc_resnet(1)


def test_the_slow_pathway_reads_every_fourth_frame() -> None:
    make = CATALOG["slow_fast"].module
    assert make is not None
    network: Any = make(CLASSES).eval()
    seen: list[tuple[int, ...]] = []
    for path in (network.slow, network.fast):
        path.register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape)))
    with torch.inference_mode():
        network(inputs((1, 128, 512), batch=1))
    assert seen == [(1, 1, 128, 128), (1, 1, 128, 512)]
    assert not any(isinstance(m, nn.Conv2d) and min(m.kernel_size) > 1 for m in network.stages.modules())  # separable
