"""Quantized layers that shrink a map: pooling, means, attention. Read three ways, as all (quant/layers.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quant.integer import Integers, convolution, global_average
from quant.layers import QuantAdd, QuantLayer
from quant.quantizers import Quantizer, Quantizers
from quant.ties import mean_grid
from quant.writer import CHANNELS_FIRST, CHANNELS_LAST, Symbol, pads
from system.complexity import Map
from system.models.layers import mean_over_frequency, mean_over_map, stack_frequency, weighted_over_time
from system.models.maps import Pair


class MaxPool(QuantLayer):
    """The largest integer stands for the largest value: no quantizer."""

    def __init__(self, out: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> None:
        super().__init__(out)
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def simulate(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel, self.stride, self.padding)

    def compute(self, x: Integers) -> Integers:
        return x._replace(q=self.simulate(x.q))

    def write(self, x: Symbol) -> Symbol:
        return x.moved("MaxPool", kernel_shape=self.kernel, strides=self.stride, pads=pads(self.padding))


class TimeMaximum(QuantLayer):
    """(B, C, 1, T) -> (B, C, 1, 1)"""

    def simulate(self, x: Tensor) -> Tensor:
        return x.amax(dim=3, keepdim=True)

    def compute(self, x: Integers) -> Integers:
        return x._replace(q=self.simulate(x.q))

    def write(self, x: Symbol) -> Symbol:
        return x._replace(tensor=x.writer.reduce("ReduceMax", x.tensor, 3))


class AveragePool(QuantLayer):
    """A depthwise convolution with equal weights, made when the graph is loaded: nothing is stored.

    ONNX Runtime's QLinearAveragePool is nineteen times slower.
    """

    quantize: Quantizer

    def __init__(self, out: Map, kernel: Pair, stride: Pair, padding: Pair, make: Quantizers) -> None:
        super().__init__(out)
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.quantize = make.activation(False)
        self.scale = torch.tensor(1 / (kernel[0] * kernel[1]))

    def simulate(self, x: Tensor) -> Tensor:
        return self.quantize(F.avg_pool2d(x, self.kernel, self.stride, self.padding))

    def compute(self, x: Integers) -> Integers:
        channels, grid = self.map.channels, self.quantize.grid()
        weight, scale = torch.ones(channels, 1, *self.kernel), self.scale.expand(channels)
        return convolution(x, weight, scale, None, grid, self.stride, self.padding, (1, 1), channels)

    def write(self, x: Symbol) -> Symbol:
        channels = self.map.channels
        ones = x.writer.filled(np.int8(1), channels, 1, *self.kernel)
        return x.writer.convolve(
            x, self.quantize.grid(), ones, x.writer.constant(self.scale), kernel_shape=self.kernel,
            strides=self.stride, pads=pads(self.padding), group=channels,
        )  # fmt: skip


class GlobalAverage(QuantLayer):
    quantize: Quantizer

    def __init__(self, out: Map, count: int, make: Quantizers) -> None:
        super().__init__(out)
        self.count = count  # of values in each mean
        self.quantize = make.activation(False)

    def simulate(self, x: Tensor) -> Tensor:
        return self.quantize(mean_over_map(x))

    def compute(self, x: Integers) -> Integers:
        return global_average(x, mean_grid(x.grid, self.count, self.quantize.grid()))

    def write(self, x: Symbol) -> Symbol:
        grid = mean_grid(x.grid, self.count, self.quantize.grid())
        return x.writer.quantize(x.writer.add("GlobalAveragePool", x.real()), grid)


class FrequencyAverage(GlobalAverage):
    """(B, C, F, T) -> (B, C, 1, T), as a global average of frames beside channels: nothing is moved in memory."""

    def simulate(self, x: Tensor) -> Tensor:
        return self.quantize(mean_over_frequency(x))

    def compute(self, x: Integers) -> Integers:
        y = super().compute(x._replace(q=x.q.permute(0, 3, 1, 2).flatten(1, 2).unsqueeze(3)))  # (B, T*C, F, 1)
        return y._replace(q=y.q.reshape(-1, self.map.time, 1, self.map.channels).permute(0, 3, 2, 1))

    def write(self, x: Symbol) -> Symbol:
        channels, _, time = self.map
        x = x.moved("Transpose", perm=CHANNELS_LAST).moved("Reshape", x.writer.shape(0, -1, 1, time * channels))
        y = super().write(x.moved("Transpose", perm=CHANNELS_FIRST)).moved("Transpose", perm=CHANNELS_LAST)
        return y.moved("Reshape", x.writer.shape(0, 1, time, channels)).moved("Transpose", perm=CHANNELS_FIRST)


class StackFrequency(QuantLayer):
    """(B, C, F, T) -> (B, C*F, 1, T)"""

    def simulate(self, x: Tensor) -> Tensor:
        return stack_frequency(x)

    def compute(self, x: Integers) -> Integers:
        return x._replace(q=stack_frequency(x.q))

    def write(self, x: Symbol) -> Symbol:
        return x.moved("Reshape", x.writer.shape(0, *self.map))


class MeanAndMax(QuantLayer):
    """Mean over frequency, then maximum plus mean over time: a sum, a comparison, a sum, an addition of integers."""

    def __init__(self, x: Map, make: Quantizers) -> None:
        super().__init__(Map(x.channels, 1, 1))
        self.over_frequency = FrequencyAverage(Map(x.channels, 1, x.time), x.freq, make)
        self.maximum = TimeMaximum(self.map)
        self.mean = GlobalAverage(self.map, x.time, make)
        self.add = QuantAdd(self.map, None, make)

    def simulate(self, x: Any) -> Any:
        x = self.over_frequency(x)
        return self.add(self.maximum(x), self.mean(x))

    compute = write = simulate


class Attend(QuantLayer):
    """Self-attentive pooling: the softmax of the scores and the sum weighted by it are real, the result is quantized.

    (B, C, 1, T), (B, 1, 1, T) -> (B, C, 1, 1)
    """

    quantize: Quantizer

    def __init__(self, out: Map, make: Quantizers) -> None:
        super().__init__(out)
        self.quantize = make.activation(False)

    def simulate(self, x: Tensor, score: Tensor) -> Tensor:
        return self.quantize(weighted_over_time(x, score))

    def compute(self, x: Integers, score: Integers) -> Integers:
        return self.quantize.grid().nearest(weighted_over_time(x.real, score.real))

    def write(self, x: Symbol, score: Symbol) -> Symbol:
        add = x.writer.add
        weighted = add("Mul", x.real(), add("Softmax", score.real(), axis=-1))
        return x.writer.quantize(x.writer.reduce("ReduceSum", weighted, -1), self.quantize.grid())
