"""Blocks, pooling and down-sampling against the papers' formulas, written out with torch.nn.functional or numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from system.complexity import Map
from system.models.blocks import BLOCKS
from system.models.float_layers import FloatLayers
from system.models.heads import AttentivePooling
from system.models.network import Network, build
from system.spec import ModelSpec, StageSpec
from tests.models.variants import BASE, CLASSES, SMALL, inputs, randomised

IN = Map(4, 9, 8)


def norm(x: Tensor, layer: Any) -> Tensor:
    return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)


def conv_norm(x: Tensor, layer: Any, stride: Any = 1, padding: Any = 0, groups: int = 1) -> Tensor:
    return norm(F.conv2d(x, layer.conv.weight, None, stride, padding, groups=groups), layer.norm)


def made(spec: ModelSpec, channels: int, stride: tuple[int, int]) -> Any:
    torch.manual_seed(0)
    return randomised(BLOCKS[spec.block](FloatLayers("train"), IN, channels, stride, spec))  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "stride"), [(4, (1, 1)), (6, (2, 2)), (4, (2, 1))])
def test_the_inverted_bottleneck_of_kt(channels: int, stride: tuple[int, int]) -> None:
    """1x1 to E x C, depthwise, 1x1 (KT, Figure 1), with only the middle activation (Section 2.7)."""
    spec = BASE.changed(kernel_size=(3, 5), expansion=2.0, activation="silu", activations_kept=("depthwise",))
    block, x = made(spec, channels, stride), inputs(IN)
    with torch.inference_mode():
        y = conv_norm(x, block.expand)
        assert y.shape[1] == 8
        y = F.silu(conv_norm(y, block.depthwise, stride, padding=(1, 2), groups=8))
        y = conv_norm(y, block.project)
        other = x if (channels, stride) == (4, (1, 1)) else conv_norm(x, block.shortcut.layer, stride)
        assert torch.allclose(block(x), y + other, atol=1e-5)


@pytest.mark.parametrize(("channels", "stride"), [(4, (1, 1)), (6, (2, 2))])
def test_the_audio_rep_inception_next_block(channels: int, stride: tuple[int, int]) -> None:
    """Paper 001, Section III-B: head, branches over time with identity, the same over frequency, expand, project."""
    spec = BASE.changed(block="rep_inception", branches=(3, 7, 5), expansion=4.0)
    block, x = made(spec, channels, stride), inputs(IN)
    with torch.inference_mode():
        h = F.relu(conv_norm(x, block.head, stride))
        y = h
        for size, conv, after in zip((7, 5, 3), block.over_time.convs, block.over_time.norms, strict=True):
            assert conv.weight.shape == (channels, 1, 1, size)
            y = y + norm(F.conv2d(h, conv.weight, padding=(0, size // 2), groups=channels), after)
        y = F.relu(y)
        z = y
        for size, conv, after in zip((7, 5, 3), block.over_frequency.convs, block.over_frequency.norms, strict=True):
            assert conv.weight.shape == (channels, 1, size, 1)
            z = z + norm(F.conv2d(y, conv.weight, padding=(size // 2, 0), groups=channels), after)
        z = F.relu(conv_norm(F.relu(z), block.expand))
        assert z.shape[1] == 4 * channels
        z = conv_norm(z, block.project)
        other = x if channels == 4 else conv_norm(x, block.shortcut.layer, stride)
        assert torch.allclose(block(x), F.relu(z + other), atol=1e-5)


def test_an_identity_only_block_of_another_width_has_no_shortcut_and_keeps_its_last_activation() -> None:
    block = made(BASE.changed(shortcut="identity"), 6, (1, 1))
    x = inputs(IN)
    with torch.inference_mode():
        assert block(x).min() == 0.0
        assert torch.equal(block(x), block.project(block.depthwise(block.expand(x))))


def test_an_identity_only_block_with_a_stride_pools_its_shortcut() -> None:
    """DCASE 2024/25 baseline: average pooling 3x3."""
    block = made(BASE.changed(shortcut="identity", activations_kept=()), 4, (2, 1))
    x = inputs(IN)
    with torch.inference_mode():
        main = block.project(block.depthwise(block.expand(x)))
        assert torch.allclose(block(x) - main, F.avg_pool2d(x, 3, (2, 1), 1), atol=1e-5)


def test_attentive_pooling_by_numpy() -> None:
    """KT, Section 2.9: a grouped 1x1 with tanh, a vector, softmax over time, the weighted sum of channels x bands."""
    torch.manual_seed(0)
    pool = randomised(AttentivePooling(FloatLayers("train"), Map(3, 2, 7), BASE))  # type: ignore[type-var]
    x = inputs((3, 2, 7), batch=2) * 3
    with torch.inference_mode():
        found = pool(x).numpy()
    stacked = x.numpy().reshape(2, 6, 7)
    scale, shift = (p.detach().numpy().reshape(1, 6, 1) for p in (pool.hidden.conv.weight, pool.hidden.conv.bias))
    vector = pool.score.conv.weight.detach().numpy().reshape(6)
    score = np.einsum("c,bct->bt", vector, np.tanh(stacked * scale + shift))
    weight = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
    assert np.allclose(found.reshape(2, 6), np.einsum("bct,bt->bc", stacked, weight), atol=1e-5)
    assert weight.std() > 0.05


def _stage_input(downsampling: str) -> tuple[Network, Tensor, Tensor]:
    spec = BASE.changed(downsampling=downsampling, stages=(StageSpec(), StageSpec(stride=(2, 3), ratio=1.5)))
    torch.manual_seed(0)
    network = randomised(build(spec, SMALL, CLASSES))
    x = inputs(network.stages[0].map)
    with torch.inference_mode():
        return network, x, network.stages[1](x)


def test_separate_downsampling_is_a_norm_and_a_convolution_as_wide_as_its_stride() -> None:
    network, x, y = _stage_input("separate")
    stage: Any = network.stages[1]
    with torch.inference_mode():
        down = F.conv2d(norm(x, stage.down.norm), stage.down.conv.weight, stage.down.conv.bias, stride=(2, 3))
        assert stage.down.conv.weight.shape == (6, 4, 2, 3)
        assert torch.allclose(stage.blocks(down), y, atol=1e-5)


def test_pooled_downsampling_is_max_pooling() -> None:
    network, x, y = _stage_input("pool")
    stage: Any = network.stages[1]
    with torch.inference_mode():
        assert torch.allclose(stage.blocks(F.max_pool2d(x, (2, 3))), y, atol=1e-5)


def test_strided_downsampling_is_left_to_the_first_block() -> None:
    network, _, y = _stage_input("strided")
    stage: Any = network.stages[1]
    assert stage.down is None
    assert stage.blocks[0].depthwise.conv.stride == (2, 3)
    assert y.shape[1:] == stage.map
