"""Quantized layers. Each is one operator that is read three ways, by what it is called with:

    real tensors    `simulate`  training with quantization: real arithmetic on values that lie on a grid
    Integers        `compute`   the frozen network: the runtime's own integers (quant/integer.py)
    Symbol          `write`     the ONNX graph, node by node (quant/writer.py)

Weights are int8 with a scale per output channel, biases int32, activations uint8 with a scale and a zero point per
tensor. Every weighted sum ends in an activation, which begins with a quantizer. The forms of the operators are those
that ran fastest as integers under ONNX Runtime 1.31 (benchmarks/operator_latency.py).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from quant.activations import Activation, activation
from quant.integer import Grid, Integers, addition, convolution
from quant.quantizers import BYTES, Quantizers, WeightForm
from quant.ties import summands
from quant.writer import CHANNELS_FIRST, CHANNELS_LAST, Symbol, pads
from system.complexity import Map
from system.models.layers import Layer
from system.models.maps import Pair, sub_band_map

FOLD_OVER_TIME = 11  # from this kernel on, and only where channels fill no whole vectors, two transposes pay
VECTOR = 16  # channels that the runtime's depthwise kernel takes at once; others one by one


class QuantLayer(Layer):
    path = ""  # its name in the network, and in the graph

    def forward(self, x: Any, *others: Any) -> Any:
        if isinstance(x, Tensor):
            return self.simulate(x, *others)
        if isinstance(x, Integers):
            return self.compute(x, *others)
        x.writer.scope = self.path.replace(".", "/")
        return self.write(x, *others)

    def simulate(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def compute(self, *inputs: Any) -> Any:
        raise NotImplementedError

    def write(self, *inputs: Any) -> Any:
        raise NotImplementedError


class Input(QuantLayer):
    """Where a network becomes integers, once it is `frozen`."""

    frozen = False

    def __init__(self, out: Map, make: Quantizers) -> None:
        super().__init__(out)
        self.quantize = make.activation(False)

    def simulate(self, x: Tensor) -> Tensor | Integers:
        return self.quantize.grid().nearest(x) if self.frozen else self.quantize(x)

    def write(self, x: Symbol) -> Symbol:
        return x.writer.quantize(x.tensor, self.quantize.grid())


class Output(QuantLayer):
    """(B, classes, 1, 1) -> real (B, classes) on the grid of the last quantizer."""

    def simulate(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def compute(self, x: Integers) -> Tensor:
        return x.real.flatten(1)

    def write(self, x: Symbol) -> str:
        return x.writer.add("Flatten", x.real())


class Passed(QuantLayer):
    """The map as it is."""

    def simulate(self, x: Any) -> Any:
        return x

    compute = write = simulate


class QuantConv(QuantLayer):
    """Convolution with its bias, activation."""

    conv: Any
    act: Activation

    def __init__(
        self, out: Map, x: Map, make: Quantizers, kernel: Pair = (1, 1), stride: Pair = (1, 1),
        padding: Pair = (0, 0), dilation: Pair = (1, 1), groups: int = 1, act: str | None = None, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(out)
        self.kernel, self.geometry, self.groups = kernel, (stride, padding, dilation), groups
        shape = (x.channels, out.channels, kernel, stride, padding, dilation, groups)
        self.convolution = partial(make.convolution, *shape, bias=bias)
        self.store(BYTES)
        self.act = activation(act, make.activation)

    def store(self, form: WeightForm) -> None:
        """Fresh weights, to be stored so."""
        self.form, self.conv = form, self.convolution(form=form)

    def simulate(self, x: Tensor) -> Tensor:
        return self.act.simulate(self.conv(x))

    def integers(self, x: Grid) -> tuple[Tensor, Tensor, Tensor | None]:
        """Integer weights, their scales, and the bias in steps of input times weight.

        Scales are raised where a bias would not fit int32: channels whose weights are all but zero.
        """
        weight, scale = self.conv.integers()
        if self.conv.bias is None:
            return weight, scale, None
        bias = self.conv.bias.detach()
        least = bias.abs() / (x.scale * 2.0**30)
        raised = torch.maximum(scale, least)
        weight = torch.round(weight * (scale / raised)[:, None, None, None])
        return weight, raised, torch.round(bias / (x.scale * raised))

    def compute(self, x: Integers) -> Integers:
        y = convolution(x, *self.integers(x.grid), self.act.first.grid(), *self.geometry, self.groups)
        return self.act.compute(y)

    def write(self, x: Symbol) -> Symbol:
        weight, scale, bias = self.integers(x.grid)
        tensors = [x.writer.weight(weight, self.form.bits), x.writer.constant(scale, "weight_scale")]
        if bias is not None:
            tensors += [x.writer.constant(bias.to(torch.int32), "bias")]
        folded = self.folded_axis()
        y = self.convolve(x, tensors, self.groups) if folded is None else self.convolve_folded(x, tensors, folded)
        return self.act.write(y)

    def convolve(self, x: Symbol, tensors: list[str], groups: int) -> Symbol:
        """QLinearConv of the input by [weights, their scales, bias]: integers in, integers out."""
        stride, padding, dilation = self.geometry
        return x.writer.convolve(
            x, self.act.first.grid(), *tensors, kernel_shape=self.kernel, strides=stride, pads=pads(padding),
            dilations=dilation, group=groups,
        )  # fmt: skip

    def folded_axis(self) -> int | None:
        """The axis (2 frequency, 3 time) along which a depthwise kernel slides over the other's positions at once.

        The runtime keeps channels innermost and spends most of a flat depthwise kernel on finding its inputs, for
        each position anew. One axis can stand beside the channels, which makes few positions of many channels.
        Frequency is outermost: folding time into the channels costs nothing; the other way costs two transposes.
        """
        (_, freq, time), (stride, padding, _) = self.map, self.geometry
        if self.groups == 1 or not self.groups == self.map.channels == self.conv.in_channels:
            return None
        if self.kernel[0] > 1 and self.kernel[1] == 1 and stride[1] == 1 and not padding[1] and time > 1:
            return 2
        flat = self.kernel[0] == 1 and stride[0] == 1 and not padding[0] and freq > 1
        return 3 if flat and self.kernel[1] >= FOLD_OVER_TIME and self.groups % VECTOR else None

    def convolve_folded(self, x: Symbol, tensors: list[str], axis: int) -> Symbol:
        """The same sums, with the axis that the kernel does not slide along beside the channels.

        Weights are stored once and repeated when the graph is loaded (Tile).
        """
        channels, freq, time = self.map
        repeated, slid = (time, freq) if axis == 2 else (freq, time)
        repeats = [(repeated, 1, 1, 1), *[(repeated,)] * (len(tensors) - 1)]
        tensors = [x.writer.add("Tile", t, x.writer.shape(*r)) for t, r in zip(tensors, repeats, strict=True)]
        to_last, from_last = (CHANNELS_LAST, CHANNELS_FIRST) if axis == 2 else ((0, 3, 2, 1), (0, 3, 2, 1))
        flat = (0, -1, 1, repeated * channels) if axis == 2 else (0, 1, -1, repeated * channels)
        x = x.moved("Transpose", perm=to_last).moved("Reshape", x.writer.shape(*flat))
        x = x.moved("Transpose", perm=CHANNELS_FIRST)
        y = self.convolve(x, tensors, repeated * channels).moved("Transpose", perm=CHANNELS_LAST)
        y = y.moved("Reshape", x.writer.shape(0, slid, repeated, channels))
        return y.moved("Transpose", perm=from_last)


class QuantAdd(QuantLayer):
    act: Activation

    def __init__(self, out: Map, act: str | None, make: Quantizers) -> None:
        super().__init__(out)
        self.act = activation(act, make.activation)

    def simulate(self, x: Tensor, other: Tensor) -> Tensor:
        return self.act.simulate(x + other)

    def compute(self, x: Integers, other: Integers) -> Integers:
        grid = self.act.first.grid()
        return self.act.compute(addition(*summands(x, other, grid), grid))

    def write(self, x: Symbol, other: Symbol) -> Symbol:
        grid = self.act.first.grid()
        x, other = summands(x, other, grid)
        return self.act.write(x.writer.quantize(x.writer.add("Add", x.real(), other.real()), grid))


class BandNorm(QuantConv):
    """A gain and a shift per frequency band: a 1x1 depthwise convolution over bands."""

    def __init__(self, x: Map, make: Quantizers) -> None:
        bands = Map(x.freq, x.channels, x.time)
        super().__init__(bands, bands, make, groups=x.freq)
        self.map = Map(*x)

    def simulate(self, x: Tensor) -> Tensor:
        return super().simulate(x.transpose(1, 2)).transpose(1, 2)

    def compute(self, x: Integers) -> Integers:
        y = super().compute(x._replace(q=x.q.transpose(1, 2)))
        return y._replace(q=y.q.transpose(1, 2))

    def write(self, x: Symbol) -> Symbol:
        return super().write(x.moved("Transpose", perm=(0, 2, 1, 3))).moved("Transpose", perm=(0, 2, 1, 3))


class SubBandNorm(QuantConv):
    """A gain and a shift per channel and part of the frequency axis: a 1x1 depthwise convolution over these."""

    def __init__(self, x: Map, sub_bands: int, make: Quantizers) -> None:
        self.parts = sub_band_map(x, sub_bands)
        super().__init__(self.parts, self.parts, make, groups=self.parts.channels)
        self.map = Map(*x)

    def simulate(self, x: Tensor) -> Tensor:
        return super().simulate(x.reshape(-1, *self.parts)).view_as(x)

    def compute(self, x: Integers) -> Integers:
        y = super().compute(x._replace(q=x.q.reshape(-1, *self.parts)))
        return y._replace(q=y.q.view_as(x.q))

    def write(self, x: Symbol) -> Symbol:
        y = super().write(x.moved("Reshape", x.writer.shape(-1, *self.parts)))
        return y.moved("Reshape", x.writer.shape(-1, *self.map))
