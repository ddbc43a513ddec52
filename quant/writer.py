"""Writing an integer ONNX graph, one operator at a time.

Between operators stand uint8 tensors in the order (batch, channel, freq, time). Convolutions are ONNX's operator of
integers, QLinearConv: however a runtime is set, it finds no other way to compute them, and integer sums leave nothing
to round. For the rest ONNX has no such operators: it is written DequantizeLinear, a float operator, QuantizeLinear,
and becomes one integer operator where the graph is loaded. What only moves or compares values acts on the integers
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from quant.integer import Grid
from system.complexity import Shape
from system.errors import ConfigError
from system.files import write_with
from system.onnx_float import INPUT, OUTPUT

CHANNELS_LAST, CHANNELS_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)  # permutations of (batch, channel, freq, time) and back
INT4 = helper.tensor_dtype_to_np_dtype(TensorProto.INT4)
PACKED_OPSET = 21  # the first with INT4
NEEDS_OPSET = {"LayerNormalization": 17}  # the others are of 13 or before


class Symbol(NamedTuple):
    """A uint8 tensor of the graph that is being written, and what its integers stand for."""

    writer: Writer
    tensor: str
    grid: Grid

    def on(self, grid: Grid) -> Symbol:
        """The same integers, read as other values: no operator."""
        return self._replace(grid=grid)

    def real(self, factor: float | None = None) -> str:
        """The float tensor that it stands for, times `factor`."""
        return self.writer.dequantize(self if factor is None else self.on(self.grid.times(factor)))

    def moved(self, op: str, *inputs: str, **attributes: Any) -> Symbol:
        """Through an operator that leaves every integer as it is."""
        return self._replace(tensor=self.writer.add(op, self.tensor, *inputs, **attributes))


class Writer:
    """Collects nodes and constants. `scope` names what is written: the path of the layer at work."""

    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.scope = ""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._names: dict[str, int] = {}
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def _name(self, what: str) -> str:
        name = f"{self.scope}/{what}" if self.scope else what
        again = self._names[name] = self._names.get(name, 0) + 1
        return name if again == 1 else f"{name}_{again}"

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns the name of both."""
        if self.opset < NEEDS_OPSET.get(op, 0):
            raise ConfigError(f"quant.opset: {op} needs at least {NEEDS_OPSET[op]}, found {self.opset}")
        name = self._name(op)
        self.nodes.append(helper.make_node(op, list(inputs), [name], name, **attributes))
        return name

    def reduce(self, op: str, tensor: str, *axes: int) -> str:
        """A reduction that keeps its axes. They were attributes before opset 18, or 13 for sums."""
        if self.opset >= (13 if op == "ReduceSum" else 18):
            return self.add(op, tensor, self.shape(*axes), keepdims=1)
        return self.add(op, tensor, axes=list(axes), keepdims=1)

    def constant(self, value: np.ndarray | np.generic | Tensor, what: str = "constant") -> str:
        """A stored tensor; equal ones are stored once unless they are named."""
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        key = (str(array.dtype), array.shape, array.tobytes())
        if what == "constant" and key in self._known:
            return self._known[key]
        name = self._name(what)
        self.constants[name] = numpy_helper.from_array(array, name)
        return self._known.setdefault(key, name) if what == "constant" else name

    def weight(self, integers: Tensor, bits: int) -> str:
        """int8; of 4 bits two are packed in a byte, and widened when the graph is loaded."""
        array = np.asarray(integers.detach().cpu()).astype(np.int8)
        if bits == 8:
            return self.constant(array, "weight")
        return self.add("Cast", self.constant(array.astype(INT4), "weight"), to=TensorProto.INT8)

    def filled(self, value: np.generic, *sizes: int) -> str:
        """A constant that is made when the graph is loaded, not stored."""
        return self.add("ConstantOfShape", self.shape(*sizes), value=numpy_helper.from_array(np.array([value])))

    def shape(self, *sizes: int) -> str:
        return self.constant(np.array(sizes, dtype=np.int64))

    def quantize(self, tensor: str, grid: Grid) -> Symbol:
        """float -> uint8"""
        return Symbol(self, self.add("QuantizeLinear", tensor, *self._of(grid)), grid)

    def dequantize(self, x: Symbol) -> str:
        """uint8 -> float"""
        return self.add("DequantizeLinear", x.tensor, *self._of(x.grid))

    def convolve(
        self, x: Symbol, grid: Grid, weight: str, weight_scale: str, bias: str | None = None, **attributes: Any
    ) -> Symbol:
        """uint8 -> uint8, by int8 weights and an int32 bias in steps of input times weight."""
        inputs = [x.tensor, *self._of(x.grid), weight, weight_scale, self.constant(np.int8(0)), *self._of(grid)]
        return Symbol(self, self.add("QLinearConv", *inputs, *([] if bias is None else [bias]), **attributes), grid)

    def _of(self, grid: Grid) -> tuple[str, str]:
        return self.constant(grid.scale), self.constant(grid.zero_point.to(torch.uint8))

    def model(self, shape: Shape, output: str) -> onnx.ModelProto:
        """The graph from the float input `features` (batch, *shape) to `output` (batch, classes), renamed `logits`."""
        self.nodes.append(helper.make_node("Identity", [output], [OUTPUT], OUTPUT))
        inputs = [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", *shape])]
        outputs = [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", None])]
        graph = helper.make_graph(self.nodes, "integer", inputs, outputs, list(self.constants.values()))
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets), producer_name="tinyscene"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def write_onnx(network: nn.Module, shape: Shape, path: Path, opset: int) -> None:
    """Let a frozen network write itself: input `features`, output `logits`, free batch size."""
    for name, module in network.named_modules():
        if hasattr(module, "path"):
            module.path = name
        if hasattr(module, "form") and module.form.bits < 8:
            opset = max(opset, PACKED_OPSET)
    writer = Writer(opset)
    model = writer.model(shape, network(Symbol(writer, INPUT, Grid.of(1.0, 0))))
    write_with(path, lambda part: onnx.save(model, str(part)))


def pads(padding: Sequence[int]) -> list[int]:
    """(freq, time) -> ONNX's begin and end of each axis."""
    return [*padding, *padding]
