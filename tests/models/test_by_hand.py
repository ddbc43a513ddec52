"""Three deployed networks counted a second time, from layer lists written out by hand, without the project's layers.

The rules are those at the top of system/complexity.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from system.models.catalog import CATALOG
from system.models.network import complexity


class Conv(NamedTuple):
    inputs: int
    outputs: int
    taps: int
    positions: int  # freq x time of its output
    groups: int = 1
    bias: bool = True

    @property
    def weights(self) -> int:
        return self.inputs // self.groups * self.outputs * self.taps


def pointwise(inputs: int, outputs: int, positions: int) -> Conv:
    return Conv(inputs, outputs, 1, positions)


def depthwise(channels: int, taps: int, positions: int) -> Conv:
    return Conv(channels, channels, taps, positions, groups=channels)


class ByHand(NamedTuple):
    """A network: what it computes, and what else its file and NeSsi's TFLite view hold."""

    convs: list[Conv]
    quantizers: int  # of activations, besides one for each convolution
    tflite: int  # additions, poolings and means
    peak: int  # values alive at once
    attention: int = 0  # multiply-adds that only `exact` sees


def inverted(width: int, hidden: int, outputs: int, taps: int, before: int, after: int) -> list[Conv]:
    return [pointwise(width, hidden, before), depthwise(hidden, taps, after), pointwise(hidden, outputs, after)]


def kt_final() -> ByHand:
    """80x51 -> 40x51 -> 20x25 -> 10x12; widths 24, 44, 66; one, two, three blocks; Swish in each block and the stem."""
    grids, widths = (40 * 51, 20 * 25, 10 * 12), (24, 44, 66)
    convs = [Conv(1, 24, 25, grids[0])]
    for stage, (width, positions) in enumerate(zip(widths, grids, strict=True)):
        if stage:
            convs.append(Conv(widths[stage - 1], width, 4, positions))
        for _ in range(stage + 1):
            convs += inverted(width, 2 * width, width, 25, positions, positions)
    vector = 66 * 10  # channels x bands, over 12 frames
    convs += [depthwise(vector, 1, 12), Conv(vector, 1, 1, 12, bias=False), pointwise(vector, 10, 1)]
    maps = [width * positions for width, positions in zip(widths, grids, strict=True)]
    blocks = 6
    return ByHand(
        convs,
        quantizers=1 + 2 * (1 + blocks) + blocks + 3 + 1 + 1,  # input, Swish, sums, ResNorm, tanh, weighted sum
        # a sum per block; ResNorm per stage: a mean, a mean of squares, a sum, and epsilon once a band
        tflite=sum((n + 1) * m for n, m in enumerate(maps)) + 3 * sum(maps) + 40 + 20 + 10,
        peak=maps[0] + 3 * 2 * maps[0],  # the block's input, and Swish's: what it reads, its gate, what it writes
        attention=vector * 12,
    )


def dcase2024_baseline() -> ByHand:
    """256x65 -> 128x33 -> 64x17 -> 64x9 -> 32x9; ReLU in place; shortcuts where the width stays."""
    a, b, c, d = 128 * 33, 64 * 17, 64 * 9, 32 * 9
    convs = [
        Conv(1, 8, 9, a), Conv(8, 32, 9, b),
        *inverted(32, 64, 32, 9, b, b), *inverted(32, 64, 32, 9, b, b), *inverted(32, 64, 32, 9, b, c),
        *inverted(32, 64, 56, 9, c, d), *inverted(56, 120, 56, 9, d, d), *inverted(56, 120, 104, 9, d, d),
        pointwise(104, 10, d),
    ]  # fmt: skip
    sums = 2 * 32 * b + 32 * c + 56 * d
    return ByHand(
        convs,
        quantizers=1 + 4 + 1 + 1,  # input, sums, the pooled shortcut, the mean
        tflite=sums + 9 * 32 * c + 10 * d,
        peak=32 * b + 64 * b + 64 * b,  # the block's input, before and after the depthwise convolution
    )


def audio_rep_inception_128k() -> ByHand:
    """256x65 -> 64x17 -> 32x9 -> 16x5 -> 8x3; widths 20, 32, 48, 64; 2, 2, 2, 1 blocks; ReLU in place."""
    grids, widths, depths = (64 * 17, 32 * 9, 16 * 5, 8 * 3), (20, 32, 48, 64), (2, 2, 2, 1)
    convs, before, sums = [Conv(1, 20, 35, 128 * 33)], 20, 0
    for width, positions, depth in zip(widths, grids, depths, strict=True):
        for _ in range(depth):
            convs += [pointwise(before, width, positions), depthwise(width, 21, positions)]
            convs += [depthwise(width, 21, positions), pointwise(width, 4 * width, positions)]
            convs.append(pointwise(4 * width, width, positions))
            if before != width:
                convs.append(pointwise(before, width, positions))
            before = width
            sums += width * positions
    convs.append(pointwise(64, 10, 1))
    return ByHand(
        convs,
        quantizers=1 + sum(depths) + 1,  # input, sums, the mean
        tflite=9 * 20 * grids[0] + sums + 64 * grids[3],
        peak=20 * grids[0] + 80 * grids[0] + 20 * grids[0],  # the block's input, expansion, projection
    )


@pytest.mark.parametrize("made", [kt_final, dcase2024_baseline, audio_rep_inception_128k], ids=lambda f: f.__name__)
def test_every_count_of_the_deployed_network(made: Callable[[], ByHand]) -> None:
    entry, hand = CATALOG[made.__name__], made()
    assert entry.spec is not None
    cost = complexity(entry.spec, entry.shape, entry.classes)
    biases = sum(conv.outputs for conv in hand.convs if conv.bias)
    multiplied = sum(conv.weights * conv.positions for conv in hand.convs)
    assert cost.params == sum(conv.weights for conv in hand.convs) + biases
    assert cost.macs_exact == multiplied + hand.attention
    assert cost.macs_torchinfo == multiplied + sum(conv.outputs * conv.positions for conv in hand.convs if conv.bias)
    assert cost.macs_nessi_tflite == multiplied + hand.tflite
    assert cost.macs_fvcore == multiplied
    assert cost.weight_bytes == sum(conv.weights for conv in hand.convs)
    scales = sum(conv.outputs for conv in hand.convs)
    assert cost.total_bytes == cost.weight_bytes + 4 * biases + 4 * scales + 5 * (hand.quantizers + len(hand.convs))
    assert cost.peak_activation_bytes() == hand.peak
