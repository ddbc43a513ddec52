"""An integer ONNX graph as a program: steps in order, layers and their tensors, for whatever runs without ONNX Runtime.

Read by the PyTorch module of packages (submission/inference/integer_model.py) and written as C (quant/deployment).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from quant.graph import Graph
from quant.graph_cost import counted
from system.errors import RunError
from system.onnx_float import INPUT, OUTPUT

CONV = {"group": 1, "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}  # ONNX's defaults
WHOLE = ("Conv", "Add", "Mul", "GlobalAveragePool")  # operators that become integer ones where a quantizer follows
MOVES = (
    "Clip", "Concat", "Flatten", "Gather", "Identity", "MaxPool", "ReduceMax", "Reshape", "Shape", "Slice", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip
"""Operators that move or compare values: on integers as on reals."""


@dataclass
class Program:
    """All but `tensors` and `shapes` are JSON values.

    A step has an `op`, the names of its `inputs` and its `output`; `read`: the grid that each input is read on, where
    that is not the one it was quantized with; `to`: the quantizer that it ends in; `rectified`: after a ReLU.
    """

    layers: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)  # name -> (kind, attributes)
    steps: list[dict[str, Any]] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, np.ndarray] = field(default_factory=dict)  # layer.name -> value
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of what steps give, for one segment

    def plain(self) -> dict[str, Any]:
        return {"layers": self.layers, "steps": self.steps, "constants": self.constants}

    def layer(self, kind: str, attributes: dict[str, Any], **tensors: np.ndarray | None) -> str:
        name = f"{kind}{sum(other == kind for other, _ in self.layers.values())}"
        self.layers[name] = (kind, attributes)
        self.tensors |= {f"{name}.{key}": np.array(value) for key, value in tensors.items() if value is not None}
        return name

    def step(self, op: str, inputs: list[str], read: list[Any] | None = None, **more: Any) -> str:
        """Add a step; returns the name of its output."""
        output = f"v{len(self.steps)}"
        self.steps.append({"op": op, "inputs": inputs, "read": read or [None] * len(inputs), "output": output, **more})
        return output


def program_of(graph: Graph, known: Collection[str], weights: Sequence[str] = ("int8",)) -> Program:
    """Read a graph of quantized values.

    Raises RunError for an operator on real values that is not `known`, and for weights of other types.
    """
    return _Reader(graph, known, weights).read()


class _Reader:
    """Walks the nodes once. `names`: tensor of the graph -> value of the program that stands for it."""

    def __init__(self, graph: Graph, known: Collection[str], weights: Sequence[str]) -> None:
        self.graph, self.nodes, self.known, self.weights = graph, list(graph.model.graph.node), known, weights
        self.program = Program()
        self.names = {INPUT: INPUT}
        self.integers: dict[str, tuple[str, Any]] = {}  # dequantized tensor -> (integers, grid it is read on)
        self.grids: dict[str, tuple[float, float]] = {}  # value that holds integers -> its own grid
        rows = [row for _, row in counted(graph)]
        self.learned = {id(array): bool(row.torchinfo) for row in rows for array in row.others}
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.uses.update(output.name for output in graph.model.graph.output)
        self.consumer = {name: node for node in self.nodes for name in node.input}

    def read(self) -> Program:
        known = dict.fromkeys(self.graph.constants)  # and what is computed from constants alone: stored weights
        for node in self.nodes:
            if all(name in known or not name for name in node.input):
                known |= dict.fromkeys(node.output)
            elif node.op_type == "DequantizeLinear":
                self.integers[node.output[0]] = (self.names[node.input[0]], self._other_grid(*node.input))
            elif node.op_type == "QuantizeLinear":
                self._quantize(node)
            elif node.op_type == "QLinearConv":
                self._integer_convolution(node)
            elif not self._waits(node):
                self._real(node)
        self.program.step("Identity", [self._value(self.graph.model.graph.output[0].name)], attributes={})
        self.program.steps[-1]["output"] = OUTPUT
        shapes = self.graph.shapes
        self.program.shapes = {value: shapes[tensor] for tensor, value in self.names.items() if tensor in shapes}
        return self.program

    def _constant(self, tensor: str) -> np.ndarray:
        """A constant, or what is computed from constants alone when the graph is loaded."""
        if tensor in self.graph.constants:
            return self.graph.constants[tensor]
        node = self.graph.producer[tensor]
        inputs = [self._constant(name) for name in node.input]
        if node.op_type == "ConstantOfShape":
            fill = numpy_helper.to_array(self.graph.attribute(node, "value"))
            return np.full(inputs[0], fill[0], fill.dtype)
        if node.op_type == "Tile":
            return np.tile(*inputs)
        raise RunError(f"{node.op_type} ({node.name}) of constants is not known without ONNX Runtime")

    def _grid(self, scale: str, zero_point: str) -> tuple[float, float]:
        return float(self._constant(scale)), float(self._constant(zero_point))

    def _other_grid(self, integers: str, scale: str, zero_point: str) -> tuple[float, float] | None:
        """The grid that integers are read on; None if it is their own."""
        grid = self._grid(scale, zero_point)
        return None if grid == self.grids[self.names[integers]] else grid

    def _after(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto | None, bool]:
        """The quantizer that an integer operator ends in, and whether after a ReLU; (None, False) if there is none."""
        operands = node.input[:1] if node.op_type == "Conv" else node.input
        after, rectified = node, False
        if node.op_type in WHOLE and all(name in self.integers for name in operands):
            while self.uses[after.output[0]] == 1 and (following := self.consumer.get(after.output[0])) is not None:
                if following.op_type == "QuantizeLinear":
                    return following, rectified
                if following.op_type != "Relu":
                    break
                after, rectified = following, True
        return None, False

    def _waits(self, node: onnx.NodeProto) -> bool:
        """Is this a part of an integer operator, which is read where its quantizer stands?"""
        if node.op_type == "Relu" and (before := self.graph.producer.get(node.input[0])) is not None:
            return self._waits(before)
        return self._after(node)[0] is not None

    def _quantizer(self, scale: str, zero_point: str) -> str:
        stored = self._constant(scale).astype(np.float32), self._constant(zero_point)
        return self.program.layer("quantizer", {}, scale=stored[0], zero_point=stored[1])

    def _quantize(self, node: onnx.NodeProto) -> None:
        """QuantizeLinear alone, or with the operator that it ends."""
        to = self._quantizer(*node.input[1:])
        before = self.graph.producer.get(node.input[0])
        while before is not None and before.op_type == "Relu":
            before = self.graph.producer.get(before.input[0])
        if before is None or self._after(before)[0] is not node:
            result = self.program.step("quantize", [self._value(node.input[0])], to=to)
        else:
            convolution = before.op_type == "Conv"
            operands = [self.integers[name] for name in (before.input[:1] if convolution else before.input)]
            more: dict[str, Any] = {"to": to, "rectified": self._after(before)[1]}
            if convolution:
                dequantized = [self.graph.producer[name].input[:2] for name in before.input[1:] if name]
                more["layer"] = self._convolution(before, *[name for pair in dequantized for name in pair])
            op = "conv" if convolution else before.op_type
            result = self.program.step(op, [name for name, _ in operands], [grid for _, grid in operands], **more)
        self.names[node.output[0]] = result
        self.grids[result] = self._grid(*node.input[1:])

    def _integer_convolution(self, node: onnx.NodeProto) -> None:
        """QLinearConv: input, weight and output each with a scale and a zero point, then a bias in steps of the sum."""
        x, x_scale, x_zero, weight, weight_scale, _, scale, zero, *bias = node.input
        result = self.program.step(
            "conv", [self.names[x]], [self._other_grid(x, x_scale, x_zero)], rectified=False,
            to=self._quantizer(scale, zero), layer=self._convolution(node, weight, weight_scale, *bias),
        )  # fmt: skip
        self.names[node.output[0]] = result
        self.grids[result] = self._grid(scale, zero)

    def _convolution(
        self, node: onnx.NodeProto, weight: str, weight_scale: str, bias: str = "", bias_scale: str = ""
    ) -> str:
        """The layer of a convolution, from the names of its stored tensors."""
        attributes = {**CONV, **_attributes(node)}
        stored, scale = self.graph.stored(weight), self._stored(weight_scale)
        if stored is None:
            ones = self._constant(weight)
            equal = {"repeats": 1, "shape": list(ones.shape), "scale": float(scale.flat[0]) * float(ones.flat[0])}
            return self.program.layer("equal", {**attributes, **equal})
        if str(stored.dtype) not in self.weights:
            wanted = " or ".join(self.weights)
            raise RunError(f"{node.name}: expected weights of {wanted} without ONNX Runtime, found {stored.dtype}")
        channels = (len(stored),)
        attributes["repeats"] = self.graph.shapes[node.output[0]][1] // len(stored)
        return self.program.layer(
            "conv", attributes, weight=stored, channel_scale=np.broadcast_to(scale.reshape(-1), channels),
            bias=self._stored(bias) if bias else None,
            sum_scale=np.broadcast_to(self._stored(bias_scale).reshape(-1), channels) if bias_scale else None,
        )  # fmt: skip

    def _stored(self, tensor: str) -> np.ndarray:
        stored = self.graph.stored(tensor)
        return self._constant(tensor) if stored is None else stored

    def _real(self, node: onnx.NodeProto) -> None:
        """An operator on real values; one that only moves values may act on integers."""
        if node.op_type not in self.known:
            known = ", ".join(sorted({*self.known, *WHOLE}))
            raise RunError(f"{node.op_type} ({node.name}) is not known without ONNX Runtime, only {known}")
        given = [*node.input]
        while given and not given[-1]:
            given.pop()
        if "" in given:
            left = given.index("") + 1
            raise RunError(f"{node.op_type} ({node.name}) without its input {left} is not known without ONNX Runtime")
        inputs = [self._value(name) for name in given]
        if node.op_type == "LeakyRelu" and (slope := self._learned_slope(node)):
            inputs.append(slope)
        result = self.program.step(node.op_type, inputs, attributes=_attributes(node))
        self.names[node.output[0]] = result
        if inputs[0] in self.grids:
            if node.op_type not in MOVES:
                raise RunError(f"{node.op_type} ({node.name}) on integers is not known without ONNX Runtime")
            self.grids[result] = self.grids[inputs[0]]

    def _learned_slope(self, node: onnx.NodeProto) -> str | None:
        """A slope that is a parameter of the network stands in an attribute of the graph."""
        rows = [row for other, row in counted(self.graph) if other.name == node.name and row.others]
        return self._store(rows[0].others[0], True) if rows else None

    def _value(self, tensor: str) -> str:
        """The real value of a tensor, or its integers where it has no other; a constant is put into the program."""
        if tensor in self.integers and tensor not in self.names:
            name, grid = self.integers[tensor]
            self.names[tensor] = self.program.step("dequantize", [name], [grid])
        if tensor not in self.names:
            array = self._constant(tensor)
            if id(array) in self.learned:
                self.names[tensor] = self._store(array, self.learned[id(array)])
            else:
                self.names[tensor] = f"c{len(self.program.constants)}"
                self.program.constants[self.names[tensor]] = array.tolist()
        return self.names[tensor]

    def _store(self, array: np.ndarray, seen: bool) -> str:
        """A float parameter; `seen`: the official counter takes it as an operation."""
        layer = self.program.layer("learned", {}, **{"weight" if seen else "value": array})
        return self.program.step("learned", [], layer=layer)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Numbers and lists of numbers; texts have no meaning here."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    kept = {key: value for key, value in values.items() if not isinstance(value, bytes)}
    return {key: value if isinstance(value, int | float) else list(value) for key, value in kept.items()}
