"""Activations on integers. Each ends a layer: from the grid that the layer's sum is rounded to, to its output.

A sigmoid, a tanh and a leaky ReLU are tables of 256 results for ONNX Runtime (QLinearSigmoid, QLinearLeakyRelu).
Reading the same integers as other values costs nothing, so that a table of the sigmoid serves any function that is a
sigmoid but for factors and offsets. SiLU and GELU are such a gate times their input (QLinearMul), GELU by the
approximation x sigmoid(1.702 x) of its authors (Hendrycks and Gimpel 2016, Section 2), which differs by at most 0.02,
about one step of a quantizer over a range of 6.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.integer import Grid, Integers, lookup, product
from quant.quantizers import FixedQuantizer, Quantizer
from quant.ties import product_grid, table_grid
from quant.writer import Symbol
from system.errors import ConfigError
from system.models.layers import ACTIVATIONS
from system.registry import Registry, unknown

MakeQuantizer = Callable[[bool], Quantizer]  # whether values are cut at zero
ACTIVATION_LAYERS: Registry[Callable[[MakeQuantizer], Activation]] = Registry("activation on integers")


class Activation(nn.Module):
    """`first` is the quantizer that the layer's sum meets. Read three ways, as every layer (quant/layers.py)."""

    first: Any

    def simulate(self, x: Tensor) -> Tensor:
        """Real sums -> real values on the output's grid, differentiable."""
        return self.first(x)

    def compute(self, x: Integers) -> Integers:
        """Integers on the grid of `first` -> integers on the output's."""
        return x

    def write(self, x: Symbol) -> Symbol:
        return x


class Plain(Activation):
    """No activation: a quantizer alone."""

    def __init__(self, quantizer: MakeQuantizer) -> None:
        super().__init__()
        self.first = quantizer(False)


@ACTIVATION_LAYERS.add("relu")
class Relu(Activation):
    """The quantizer cuts at zero: the rectifier costs nothing."""

    def __init__(self, quantizer: MakeQuantizer) -> None:
        super().__init__()
        self.first = quantizer(True)


class Gated(Activation):
    """x sigmoid(slope x): a table, and a product of integers."""

    slope: float
    after: Quantizer

    def __init__(self, quantizer: MakeQuantizer) -> None:
        super().__init__()
        self.first, self.gate, self.after = quantizer(False), FixedQuantizer(1 / 256, 0), quantizer(False)

    def simulate(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.after(x * self.gate(torch.sigmoid(self.slope * x)))

    def table(self, x: Grid) -> Grid:
        return table_grid(x.times(self.slope), torch.sigmoid, self.gate.grid())

    def compute(self, x: Integers) -> Integers:
        gate = lookup(x.on(self.table(x.grid)), torch.sigmoid, self.gate.grid())
        return product(x, gate, product_grid(x.grid, gate.grid, self.after.grid()))

    def write(self, x: Symbol) -> Symbol:
        gate = x.writer.quantize(x.writer.add("Sigmoid", x.on(self.table(x.grid)).real()), self.gate.grid())
        grid = product_grid(x.grid, gate.grid, self.after.grid())
        return x.writer.quantize(x.writer.add("Mul", x.real(), gate.real()), grid)


@ACTIVATION_LAYERS.add("silu")
class Silu(Gated):
    slope = 1.0


@ACTIVATION_LAYERS.add("gelu")
class Gelu(Gated):
    slope = 1.702


@ACTIVATION_LAYERS.add("hardswish")
class HardSwish(Activation):
    """x times x / 6 + 1/2, cut to between 0 and 1: the gate is the input rounded to a grid that saturates there."""

    after: Quantizer

    def __init__(self, quantizer: MakeQuantizer) -> None:
        super().__init__()
        self.first, self.gate, self.after = quantizer(False), FixedQuantizer(1 / 256, 0), quantizer(False)
        self.cut = Grid.of(6 / 256, 128)  # read as the gate: its integers less 128, times 1/6, plus 1/2

    def simulate(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.after(x * self.gate(F.hardsigmoid(x)))

    def read(self, x: Grid) -> Grid:
        return table_grid(x, lambda values: values, self.cut)

    def compute(self, x: Integers) -> Integers:
        gate = self.cut.nearest(x.on(self.read(x.grid)).real).on(self.gate.grid())
        return product(x, gate, product_grid(x.grid, gate.grid, self.after.grid()))

    def write(self, x: Symbol) -> Symbol:
        gate = x.writer.quantize(x.on(self.read(x.grid)).real(), self.cut).on(self.gate.grid())
        grid = product_grid(x.grid, gate.grid, self.after.grid())
        return x.writer.quantize(x.writer.add("Mul", x.real(), gate.real()), grid)


@ACTIVATION_LAYERS.add("tanh")
class Tanh(Activation):
    """2 sigmoid(2 x) - 1: the sigmoid's table, read as twice its value less one."""

    def __init__(self, quantizer: MakeQuantizer) -> None:
        super().__init__()
        self.first, self.after = quantizer(False), FixedQuantizer(1 / 128, 128)
        self.result = Grid.of(1 / 256, 0)

    def simulate(self, x: Tensor) -> Tensor:
        return self.after(torch.tanh(self.first(x)))

    def table(self, x: Grid) -> Grid:
        return table_grid(x.times(2.0), torch.sigmoid, self.result)

    def compute(self, x: Integers) -> Integers:
        return lookup(x.on(self.table(x.grid)), torch.sigmoid, self.result).on(self.after.grid())

    def write(self, x: Symbol) -> Symbol:
        values = x.writer.add("Sigmoid", x.on(self.table(x.grid)).real())
        return x.writer.quantize(values, self.result).on(self.after.grid())


@ACTIVATION_LAYERS.add("prelu")
class LeakyRelu(Activation):
    """PReLU with one slope: a table."""

    after: Quantizer

    def __init__(self, quantizer: MakeQuantizer) -> None:
        super().__init__()
        self.first, self.function, self.after = quantizer(False), ACTIVATIONS["prelu"][0](), quantizer(False)

    def slope(self) -> float:
        return float(self.function.get_parameter("weight"))

    def simulate(self, x: Tensor) -> Tensor:
        return self.after(self.function(self.first(x)))

    def of(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.slope())

    def compute(self, x: Integers) -> Integers:
        return lookup(x.on(table_grid(x.grid, self.of, self.after.grid())), self.of, self.after.grid())

    def write(self, x: Symbol) -> Symbol:
        x = x.on(table_grid(x.grid, self.of, self.after.grid()))
        return x.writer.quantize(x.writer.add("LeakyRelu", x.real(), alpha=self.slope()), self.after.grid())


def activation(name: str | None, quantizer: MakeQuantizer) -> Activation:
    """The activation that ends a layer. Raises ConfigError for one without an integer form."""
    if name is None:
        return Plain(quantizer)
    if name not in ACTIVATION_LAYERS:
        raise ConfigError(
            f"model.activation: {name!r} has no integer form in quant/activations.py: "
            + unknown(ACTIVATION_LAYERS.kind, name, ACTIVATION_LAYERS)
        )
    return ACTIVATION_LAYERS[name](quantizer)
