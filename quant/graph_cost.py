"""Parameters, MACs in the official views, and bytes, read off an integer ONNX graph as it is stored.

The rules are those of system/complexity.py. MACs are those of the file, before the runtime rewrites it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import onnx

from quant.graph import Graph, layer_name
from system.complexity import BIAS_BYTES, QUANTIZER_BYTES, SCALE_BYTES
from system.errors import RunError

BYTES_OF = {"int4": 0.5, "int8": 1, "uint8": 1, "int32": BIAS_BYTES, "float32": SCALE_BYTES}
WEIGHT = {"QLinearConv": 3, "Conv": 1}  # which input of the operator
BIAS = {"QLinearConv": 8, "Conv": 2, "Gemm": 2, "MatMul": 2}
STORED = ("weight_bytes", "bias_bytes", "scale_bytes", "other_bytes")  # others: float32, of norms and activations
OURS = "tinyscene"  # the producer whose LeakyRelu is a PReLU with one learned slope


class Row(NamedTuple):
    """One operator: its MACs in three views, and its parameters as the file stores them."""

    kind: str
    exact: int = 0
    torchinfo: int = 0
    nessi: int = 0
    weights: tuple[np.ndarray, ...] = ()
    biases: tuple[np.ndarray, ...] = ()
    others: tuple[np.ndarray, ...] = ()  # of norms and activations, float


def convolution(graph: Graph, node: onnx.NodeProto) -> Row:
    place = WEIGHT[node.op_type]
    weight, bias, outputs = graph.stored(node.input[place]), bias_of(graph, node), graph.size(node.output[0])
    source = graph.producer.get(graph.source(node.input[place]))
    if weight is None and source is not None and source.op_type == "ConstantOfShape":  # equal weights: a mean
        return Row("pool", nessi=int(np.prod(graph.attribute(node, "kernel_shape"))) * outputs)
    if weight is None:
        raise RunError(f"the convolution {node.name} has no stored weight")
    exact = weight[0].size * outputs
    groups = graph.attribute(node, "group", 1)
    kind = "conv" if groups == 1 else "depthwise" if weight.shape[1] == 1 else "grouped"
    return Row(kind, exact, exact + (outputs if bias else 0), exact, (weight,), bias)


def linear(graph: Graph, node: onnx.NodeProto) -> Row | None:
    """A matrix of the file: not the product of two maps."""
    weight, bias = graph.matrix(node), bias_of(graph, node)
    if weight is None:
        return None
    exact = graph.size(node.output[0]) * weight.shape[-1]
    return Row("linear", exact, weight.size + sum(b.size for b in bias), exact, (weight,), bias)


def bias_of(graph: Graph, node: onnx.NodeProto) -> tuple[np.ndarray, ...]:
    place = BIAS[node.op_type]
    stored = graph.stored(node.input[place]) if len(node.input) > place and node.input[place] else None
    return () if stored is None else (stored,)


def with_parameters(kind: str, inputs: slice, nessi: Callable[[Graph, onnx.NodeProto], int]) -> Callable[..., Row]:
    """A norm or activation whose parameters are among its inputs: torchinfo takes them once."""

    def row(graph: Graph, node: onnx.NodeProto) -> Row:
        others = tuple(graph.constants[name] for name in node.input[inputs] if name in graph.constants)
        return Row(kind, torchinfo=sum(o.size for o in others), nessi=nessi(graph, node), others=others)

    return row


def leaky_relu(graph: Graph, node: onnx.NodeProto) -> Row | None:
    slope = np.array([graph.attribute(node, "alpha", 0.01)], dtype=np.float32)
    return Row("prelu", torchinfo=1, others=(slope,)) if graph.model.producer_name == OURS else None


def elementwise(graph: Graph, node: onnx.NodeProto) -> Row | None:
    """Additions of maps are counted, those inside an activation (GELU) not: TFLite has one operator for it.

    A learned gain or shift of a map keeps its name.
    """
    others = tuple(graph.constants[n] for n in node.input if n in graph.constants and n.endswith(("gain", "shift")))
    added = node.op_type == "Add" and not ("/act/" in node.name and not node.name.endswith("/add/Add"))
    if not added and not others:
        return None
    return Row("add" if added else "gain", nessi=graph.size(node.output[0]) if added else 0, others=others)


def pool(graph: Graph, node: onnx.NodeProto) -> Row:
    return Row("pool", nessi=int(np.prod(graph.attribute(node, "kernel_shape"))) * graph.size(node.output[0]))


def mean(graph: Graph, node: onnx.NodeProto) -> Row:
    return Row("mean", nessi=graph.size(node.input[0]))


def weighted_sum(graph: Graph, node: onnx.NodeProto) -> Row:
    return Row("weighted_sum", exact=graph.size(node.input[0]))


def layer_norm(graph: Graph, node: onnx.NodeProto) -> int:
    values = graph.size(node.output[0])
    return 3 * values + values // graph.shapes[node.output[0]][-1]


def frequency_norm(graph: Graph, node: onnx.NodeProto) -> int:
    return 2 * graph.size(node.output[0]) + graph.shapes[node.output[0]][1]


ROWS: dict[str, Callable[[Graph, onnx.NodeProto], Row | None]] = {
    "QLinearConv": convolution,
    "Conv": convolution,
    "Gemm": linear,
    "MatMul": linear,
    "BatchNormalization": with_parameters("batch_norm", slice(1, 3), lambda graph, node: 0),
    "LayerNormalization": with_parameters("layer_norm", slice(1, 3), layer_norm),
    "InstanceNormalization": with_parameters("freq_in", slice(1, 3), frequency_norm),
    "PRelu": with_parameters("prelu", slice(1, 2), lambda graph, node: 0),
    "LeakyRelu": leaky_relu,
    "Add": elementwise,
    "Mul": elementwise,
    "ReduceMean": mean,
    "GlobalAveragePool": mean,
    "ReduceSum": weighted_sum,
    "MaxPool": pool,
    "AveragePool": pool,
}


def counted(graph: Graph) -> Iterator[tuple[onnx.NodeProto, Row]]:
    for node in graph.nodes(*ROWS):
        if (row := ROWS[node.op_type](graph, node)) is not None:
            yield node, row


def graph_complexity(graph: Graph) -> dict[str, Any]:
    """Bytes are those of the stored integers, of every weight scale, and of a scale and a zero point per activation
    quantizer. Zero points of weights and biases are all zero and are not counted; QLinearConv's bias has no scale of
    its own.
    """
    rows = list(counted(graph))
    weights = [array for _, row in rows for array in row.weights]
    biases = [array for _, row in rows for array in row.biases]
    others = [array for _, row in rows for array in row.others]
    quantizers = sum(1 for _ in graph.nodes("QuantizeLinear", "QLinearConv"))
    of_operators = [stored_bytes(node, row) for node, row in rows]
    stored = {key: sum(one[key] for one in of_operators) for key in STORED}
    stored["scale_bytes"] += quantizers * SCALE_BYTES
    stored["zero_point_bytes"] = quantizers * (QUANTIZER_BYTES - SCALE_BYTES)
    views = {
        "macs_exact": sum(row.exact for _, row in rows),
        "macs_torchinfo": sum(row.torchinfo for _, row in rows),
        "macs_nessi_tflite": sum(row.nessi for _, row in rows),
    }
    everything = [*weights, *biases, *others]
    return {
        "params": sum(array.size for array in everything),
        "params_nonzero": sum(int(np.count_nonzero(array)) for array in everything),
        "macs": max(views.values()),
        **views,
        **stored,
        "total_bytes": sum(stored.values()),
        "layers": [layer(graph, node, row) for node, row in rows],
    }


def stored_bytes(node: onnx.NodeProto, row: Row) -> dict[str, int]:
    """One operator's share of each type, but for the quantizer after it."""
    scales = sum(len(array) for array in row.weights if array.dtype != np.float32)
    if node.op_type != "QLinearConv":
        scales += sum(array.size for array in row.biases if array.dtype != np.float32)
    sizes = [sum(map(array_bytes, arrays)) for arrays in (row.weights, row.biases)]
    return dict(zip(STORED, (*sizes, scales * SCALE_BYTES, sum(a.size for a in row.others) * SCALE_BYTES), strict=True))


def bits(array: np.ndarray) -> int:
    return int(8 * BYTES_OF[str(array.dtype)])


def array_bytes(array: np.ndarray) -> int:
    """As stored: two integers of 4 bits share a byte."""
    return math.ceil(array.size * BYTES_OF[str(array.dtype)])


def layer(graph: Graph, node: onnx.NodeProto, row: Row) -> dict[str, Any]:
    return {
        "name": layer_name(node),
        "kind": row.kind,
        "output": list(graph.shapes[node.output[0]][1:]),
        "params": sum(array.size for array in (*row.weights, *row.biases, *row.others)),
        **({"weight_bits": bits(row.weights[0])} if row.weights else {}),
        "bytes": sum(stored_bytes(node, row).values()),
        "macs_exact": row.exact,
        "macs_torchinfo": row.torchinfo,
        "macs_nessi_tflite": row.nessi,
    }
