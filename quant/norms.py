"""Normalizations that compute their statistics at inference: real functions of integers, then an activation.

They work on steps of their input's quantizer, with epsilon in the same unit: sums of integers do not depend on the
order of summation, which differs between runtimes. What is left to order, the sum of squares, is added as ONNX
Runtime does (quant/integer.py). Statistics per band or position are those of the innermost axes when channels come
last, which is how the runtime keeps integers: its own InstanceNormalization and LayerNormalization then take a
fraction of the time of means and products written out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from quant.activations import Activation, activation
from quant.integer import Grid, Integers, instance_norm, layer_norm, root
from quant.layers import Passed, QuantLayer
from quant.quantizers import Quantizers
from quant.writer import CHANNELS_FIRST, CHANNELS_LAST, Symbol
from system.complexity import Map
from system.errors import ConfigError
from system.models.layers import Layer
from system.models.norms import ChannelNorm, FreqIN, GlobalResponse, ResNorm
from system.registry import Registry, unknown


class QuantNorm(QuantLayer):
    """`function` is the float layer; `real` is the same of integers, and `written` in the graph, before a quantizer."""

    float_layer: Callable[[Map], Layer]
    function: Any
    act: Activation

    def __init__(self, x: Map, act: str | None, make: Quantizers) -> None:
        super().__init__(Map(*x))
        self.function = type(self).float_layer(x)
        self.act = activation(act, make.activation)

    def real(self, x: Integers) -> Tensor:
        raise NotImplementedError

    def written(self, x: Symbol) -> str:
        raise NotImplementedError

    def simulate(self, x: Tensor) -> Tensor:
        return self.act.simulate(self.function(x))

    def compute(self, x: Integers) -> Integers:
        return self.act.compute(self.act.first.grid().nearest(self.real(x)))

    def write(self, x: Symbol) -> Symbol:
        return self.act.write(x.writer.quantize(self.written(x), self.act.first.grid()))


class ActivationAlone(QuantLayer):
    """An activation of values that lie on a grid already: no quantizer before it."""

    def __init__(self, x: Map, act: str, make: Quantizers) -> None:
        super().__init__(Map(*x))
        self.act = activation(act, make.activation)
        self.act.first = nn.Identity()
        self.rectified = act == "relu"

    def simulate(self, x: Tensor) -> Tensor:
        return self.act.simulate(torch.relu(x) if self.rectified else x)

    def compute(self, x: Integers) -> Integers:
        return self.act.compute(x._replace(q=torch.maximum(x.q, x.grid.zero_point)) if self.rectified else x)

    def write(self, x: Symbol) -> Symbol:
        zero = x.writer.constant(x.grid.zero_point.to(torch.uint8))
        return self.act.write(x.moved("Clip", zero) if self.rectified else x)


NORM_LAYERS: Registry[type[QuantNorm]] = Registry("norm on integers")


def steps(x: Symbol) -> str:
    """Integers less their zero point, as float."""
    return x.on(x.grid._replace(scale=torch.tensor(1.0))).real()


class ChannelsLast(QuantNorm):
    """Written between two transposes, which the runtime cancels against its own."""

    def write(self, x: Symbol) -> Symbol:
        return super().write(x.moved("Transpose", perm=CHANNELS_LAST)).moved("Transpose", perm=CHANNELS_FIRST)


@NORM_LAYERS.add("freq_in")
class QuantFreqIN(ChannelsLast):
    """Each sample and frequency band with its own mean and variance. (B, C, F, T) -> (B, C, F, T)"""

    float_layer: type[FreqIN] = FreqIN
    weight = 0.0  # of the input, added

    def eps(self, x: Grid) -> float:
        return self.float_layer.eps / float(x.scale) ** 2

    def real(self, x: Integers) -> Tensor:
        rows = x.steps.permute(CHANNELS_LAST).flatten(2)  # (B, F, T*C)
        y = instance_norm(rows, self.eps(x.grid)).unflatten(2, (-1, self.map.channels)).permute(CHANNELS_FIRST)
        return y + x.on(x.grid.times(self.weight)).real if self.weight else y

    def written(self, x: Symbol) -> str:
        one, zero = (x.writer.filled(np.float32(value), self.map.freq) for value in (1, 0))
        y = x.writer.add("InstanceNormalization", steps(x), one, zero, epsilon=self.eps(x.grid))
        return x.writer.add("Add", x.real(self.weight), y) if self.weight else y


@NORM_LAYERS.add("resnorm")
class QuantResNorm(QuantFreqIN):
    float_layer, weight = ResNorm, ResNorm.weight


@NORM_LAYERS.add("layer")
class QuantChannelNorm(ChannelsLast):
    """Over the channels of each position, with a gain and a shift per channel. (B, C, F, T) -> (B, C, F, T)"""

    float_layer = ChannelNorm

    def eps(self, x: Grid) -> float:
        return self.function.norm.eps / float(x.scale) ** 2

    def real(self, x: Integers) -> Tensor:
        norm, rows = self.function.norm, x.steps.permute(CHANNELS_LAST)  # (B, F, T, C)
        return layer_norm(rows, norm.weight, norm.bias, self.eps(x.grid)).permute(CHANNELS_FIRST)

    def written(self, x: Symbol) -> str:
        gain, shift = (x.writer.constant(value, name) for name, value in self.function.norm.named_parameters())
        return x.writer.add("LayerNormalization", steps(x), gain, shift, axis=-1, epsilon=self.eps(x.grid))


@NORM_LAYERS.add("grn")
class QuantGlobalResponse(ChannelsLast):
    """Channels scaled by their L2 norm over the map relative to the mean of all. (B, C, F, T) -> (B, C, F, T)"""

    float_layer = GlobalResponse

    def real(self, x: Integers) -> Tensor:
        gain, shift, step = self.function.gain, self.function.shift, x.grid.scale
        size = root((x.steps.double() ** 2).sum(dim=(2, 3), keepdim=True).float())  # (B, C, 1, 1), in steps
        relative = size / (size.mean(dim=1, keepdim=True) + GlobalResponse.eps / float(step))
        return x.steps * ((relative * gain + 1) * step) + shift

    def written(self, x: Symbol) -> str:
        add, constant, values = x.writer.add, x.writer.constant, steps(x)
        size = x.writer.reduce("ReduceL2", values, 1, 2)  # (B, 1, 1, C)
        eps = constant(np.float32(GlobalResponse.eps / float(x.grid.scale)))
        relative = add("Div", size, add("Add", x.writer.reduce("ReduceMean", size, 3), eps))
        gain, shift = (constant(value, name) for name, value in self.function.named_parameters())
        factor = add("Add", add("Mul", relative, gain), constant(np.float32(1)))
        return add("Add", add("Mul", values, add("Mul", factor, constant(x.grid.scale))), shift)


def norm(kind: str, x: Map, act: str | None, make: Quantizers) -> QuantLayer:
    """The norm of NORMS on integers. Raises ConfigError for one without such a form."""
    if kind == "batch":  # it is in the convolutions
        return Passed(Map(*x)) if act is None else ActivationAlone(x, act, make)
    if kind not in NORM_LAYERS:
        missing = unknown(NORM_LAYERS.kind, kind, NORM_LAYERS)
        raise ConfigError(f"model.norm: {kind!r} has no form for integers in quant/norms.py: {missing}")
    return NORM_LAYERS[kind](x, act, make)
