"""A program of integers (quant/program.py) as C: every step a loop over the numbers it writes.

Real values are not stored unless something needs all of them at once: they are computed where they are rounded to
integers, so that a network's memory is that of its integer maps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from quant import integer
from quant.deployment.c.moves import MOVED
from quant.deployment.c.reals import dequantized, real
from quant.deployment.c.statements import TAB, Statements, Step
from quant.deployment.c.values import Grid, Shape, Value, less, number
from quant.deployment.c.weights import PACKED, stored
from quant.program import Program
from system.errors import RunError
from system.onnx_float import INPUT, OUTPUT

Tensors = Mapping[str, np.ndarray]
ROW = 128  # places of a map that a 1x1 convolution sums at once: few enough to stay near, and to take little memory


class NetworkWriter:
    """Walks the steps once."""

    def __init__(self, program: Program, c: Statements) -> None:
        self.program, self.c = program, c
        self.uses = Counter(name for step in program.steps for name in step["inputs"])
        self.values: dict[str, Value] = {}
        self.logits = 0  # how many it writes
        self.known = {name: np.array(value) for name, value in program.constants.items()}

    def write(self, features: Value) -> str:
        """From the standardized features to the expression of logit `i`. Raises RunError for what has no form in C."""
        self.values[INPUT] = features
        for step in self.program.steps:
            output = step["output"]
            if step["op"] == "Shape":
                self.known[output] = np.array(self.values[step["inputs"][0]].shape)
                continue
            found = self.step(step)
            self.values[output] = self.c.simple(found) if self.uses[output] > 1 else found
        self.logits = int(np.prod(self.values[OUTPUT].shape))
        logits = self.values[OUTPUT].reshaped((self.logits,))
        self.c.begin(logits)
        return logits.at(["i"])

    def step(self, step: Mapping[str, Any]) -> Value:
        op = step["op"]
        if op == "learned":
            return self.c.constant(next(iter(self.layer(step["layer"]).values())))
        inputs = [self.read(name, grid) for name, grid in zip(step["inputs"], step["read"], strict=True)]
        if op == "dequantize":
            return dequantized(self.c.simple(inputs[0]))
        if "to" in step:
            scale, zero = (self.layer(step["to"])[key] for key in ("scale", "zero_point"))
            return INTEGER[op](self, step, inputs, Grid(np.float32(scale), int(zero)))
        shape = self.program.shapes.get(step["output"], inputs[0].shape)
        known = [self.known.get(name) for name in step["inputs"]]
        whole = Step(op, inputs, step["attributes"], shape, known)
        if op in MOVED:
            return MOVED[op](self.c, whole, inputs[0])
        if inputs[0].grid is not None:
            raise RunError(f"{op} on integers has no form in C")
        return real(self.c, whole)

    def layer(self, name: str) -> Tensors:
        mark = f"{name}."
        return {key.removeprefix(mark): v for key, v in self.program.tensors.items() if key.startswith(mark)}

    def read(self, name: str, grid: Sequence[float] | None) -> Value:
        """A value, its integers as the other values of `grid`."""
        if name not in self.values:
            self.values[name] = self.c.constant(self.known[name])
        value = self.values[name]
        return value if grid is None else replace(value, grid=Grid(np.float32(grid[0]), int(grid[1])))

    def quantize(self, step: Mapping[str, Any], inputs: Sequence[Value], to: Grid) -> Value:
        (x,) = inputs
        if x.table is not None:
            source, results = x.table
            rounded = torch_grid(to).nearest(torch.from_numpy(results)).q.numpy()
            table = self.c.array("uint8_t", rounded)
            return Value(x.shape, lambda index: f"{table}[{source.at(index)}]", source.buffers, to)
        scale, zero = number(to.scale), f"{to.zero}.0f"
        return Value(x.shape, lambda index: f"quantized({x.at(index)}, {scale}, {zero})", x.buffers, to, cheap=False)

    def convolve(self, step: Mapping[str, Any], inputs: Sequence[Value], to: Grid) -> Value:
        (x,), (kind, attributes), tensors = inputs, self.program.layers[step["layer"]], self.layer(step["layer"])
        grid, weight, bits = x.integers, "NULL", 0
        if kind == "equal":
            filters = tuple(attributes["shape"])
            scale = np.full(filters[0], attributes["scale"], np.float32)
        else:
            filters, scale = tensors["weight"].shape, tensors["channel_scale"].astype(np.float32)
            bits = 4 if str(tensors["weight"].dtype) == PACKED else 8
            weight = self.c.array("int8_t", np.frombuffer(stored(tensors["weight"]), np.int8))
        bias = tensors.get("bias")
        if bias is not None and "sum_scale" in tensors:  # else it is in steps of input times weight already
            bias = np.rint(bias.astype(np.float64) * (tensors["sum_scale"].astype(np.float64) / (grid.scale * scale)))
        factor = self.c.array("float", grid.scale * scale / to.scale)
        terms = "NULL" if bias is None else self.c.array("int32_t", bias)
        shape, pointer = self.program.shapes[step["output"]], self.c.pointer_of(x)
        y = self.c.memory(shape, to)
        stride, pads = attributes["strides"], attributes["pads"]
        maps = [x.shape[1:], shape[1:]]
        if [*filters[2:], *stride, *pads] == [1, 1, 1, 1, 0, 0, 0, 0]:  # each place for itself: rows can be joined
            maps = [longer(map) for map in maps]
        self.c.row = max(self.c.row, maps[1][2])
        geometry = [
            *maps[0], *maps[1], *filters[2:], *stride, *pads[:2], *attributes["dilations"], attributes["group"],
            filters[0], bits,
        ]  # fmt: skip
        least = to.zero if step["rectified"] else 0
        self.c.lines += [
            f"{TAB}{{",
            f"{TAB * 2}static const Convolution g = {{{', '.join(map(str, geometry))}}};",
            f"{TAB * 2}convolve(&g, {pointer}, {grid.zero}, {weight}, {terms}, {factor}, {y.pointer}, "
            f"{to.zero}, {least}, row);",
            f"{TAB}}}",
        ]
        return y

    def add(self, step: Mapping[str, Any], inputs: Sequence[Value], to: Grid) -> Value:
        a, b = (torch_grid(value.integers) for value in inputs)
        first, second, constant = (number(value.item()) for value in integer.addends(a, b, torch_grid(to)))
        return self.combined(step, inputs, to, f"summed({{0}}, {first}, {{1}}, {second}, {constant})")

    def multiply(self, step: Mapping[str, Any], inputs: Sequence[Value], to: Grid) -> Value:
        a, b = (value.integers for value in inputs)
        factor = number(a.scale * b.scale / to.scale)
        product = f"{less('{0}', a.zero)} * {less('{1}', b.zero)}"
        return self.combined(step, inputs, to, f"multiplied({product}, {factor}, {to.zero}.0f)")

    def combined(self, step: Mapping[str, Any], inputs: Sequence[Value], to: Grid, text: str) -> Value:
        shape, at, buffers = self.c.together(inputs, rectified(text, step, to))
        return Value(shape, at, buffers, to, cheap=False)

    def average(self, step: Mapping[str, Any], inputs: Sequence[Value], to: Grid) -> Value:
        (x,) = inputs
        factor = number(x.integers.scale / (to.scale * np.float32(np.prod(x.shape[2:]))))
        last = rectified(f"scaled({{sum}}, {factor}, {to.zero}.0f)", step, to)
        return self.c.reduced(x, (2, 3), to, "int32_t", "0", f"{{sum}} + {less('{x}', x.integers.zero)}", last)


INTEGER = {
    "quantize": NetworkWriter.quantize,
    "conv": NetworkWriter.convolve,
    "Add": NetworkWriter.add,
    "Mul": NetworkWriter.multiply,
    "GlobalAveragePool": NetworkWriter.average,
}
"""Steps that end in a quantizer."""


def longer(shape: Shape) -> Shape:
    """(channels, freq, time) with as many rows joined as keep them within `ROW`."""
    channels, freq, time = shape
    joined = max((rows for rows in range(1, freq + 1) if freq % rows == 0 and rows * time <= ROW), default=1)
    return channels, freq // joined, joined * time


def rectified(text: str, step: Mapping[str, Any], to: Grid) -> str:
    return f"(uint8_t)larger({text}, {to.zero})" if step["rectified"] else text


def torch_grid(grid: Grid) -> integer.Grid:
    return integer.Grid.of(float(grid.scale), grid.zero)
