"""Reading an integer ONNX graph: what it stores, what it computes, and what ONNX Runtime makes of it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper, shape_inference

from system.complexity import BIAS_BYTES, QUANTIZER_BYTES, SCALE_BYTES
from system.errors import RunError
from system.onnx_float import INPUT

INTEGER_CONV = ("QLinearConv", "ConvInteger")
FLOAT_CONV = ("Conv", "FusedConv", "NhwcFusedConv")
BYTES_OF = {"int8": 1, "uint8": 1, "int32": BIAS_BYTES, "float32": SCALE_BYTES}


@dataclass(frozen=True)
class Graph:
    """An ONNX model with its constants and the shapes of its tensors for a batch of one."""

    model: onnx.ModelProto
    constants: dict[str, np.ndarray]
    producer: dict[str, onnx.NodeProto]
    shapes: dict[str, tuple[int, ...]]

    def nodes(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.model.graph.node if node.op_type in kinds)

    def size(self, tensor: str) -> int:
        return int(np.prod(self.shapes[tensor], dtype=np.int64))

    def stored(self, tensor: str) -> np.ndarray | None:
        """The stored integers behind a weight or bias input, through DequantizeLinear and Clip."""
        while tensor not in self.constants:
            node = self.producer.get(tensor)
            if node is None or node.op_type not in ("DequantizeLinear", "Clip"):
                return None
            tensor = node.input[0]
        return self.constants[tensor]


def read_graph(path: Path) -> Graph:
    """Raises RunError for a file that is missing or not ONNX."""
    if not path.is_file():
        raise RunError(f"{path} does not exist; python quant/run.py qat --run RUN makes it")
    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's DecodeError and onnx's ValidationError share no base
        raise RunError(f"{path} is not a whole ONNX file: {str(error).splitlines()[0]}") from None
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for value in (*sized.graph.input, *sized.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    inferred = shape_inference.infer_shapes(sized, data_prop=True).graph
    shapes = {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    producer = {name: node for node in model.graph.node for name in node.output}
    return Graph(model, constants, producer, shapes)


def graph_complexity(graph: Graph) -> dict[str, Any]:
    """Parameters, MACs in the official views, and bytes, read off a QDQ graph.

    Bytes are those of the stored integers, of every weight and bias scale, and of a scale and a zero point per
    activation quantizer. Zero points of weights and biases are all zero and are not counted.
    """
    layers: list[dict[str, Any]] = []
    params = nonzero = weight_bytes = bias_bytes = scale_bytes = other_bytes = 0
    for node in graph.nodes("Conv"):
        weight, bias = (graph.stored(name) for name in (node.input[1], node.input[2] if len(node.input) > 2 else ""))
        if weight is None:
            raise RunError(f"the convolution {node.name} has no stored weight")
        positions = int(np.prod(graph.shapes[node.output[0]][2:]))
        biases = 0 if bias is None else bias.size
        exact = weight.size * positions
        channels = weight.shape[0]
        params += weight.size + biases
        nonzero += int(np.count_nonzero(weight)) + (0 if bias is None else int(np.count_nonzero(bias)))
        weight_bytes += weight.size * BYTES_OF[str(weight.dtype)]
        bias_bytes += 0 if bias is None else bias.size * BYTES_OF[str(bias.dtype)]
        scale_bytes += SCALE_BYTES * channels if weight.dtype != np.float32 else 0
        scale_bytes += SCALE_BYTES * biases if bias is not None and bias.dtype != np.float32 else 0
        layers.append(
            _row(graph, node, "depthwise" if weight.shape[1] == 1 and channels > 1 and _groups(node) > 1 else "conv",
                 exact, exact + biases * positions, exact, weight.size + biases)
        )  # fmt: skip
    for node in graph.nodes("PRelu"):
        slopes = graph.constants[node.input[1]].size
        params, nonzero, other_bytes = params + slopes, nonzero + slopes, other_bytes + SCALE_BYTES * slopes
        layers.append(_row(graph, node, "prelu", 0, slopes, 0, slopes))
    for node in graph.nodes("Add", "ReduceMean", "MaxPool", "AveragePool", "ReduceSum"):
        if (row := _pointwise_row(graph, node)) is not None:
            layers.append(row)
    order = {node.output[0]: index for index, node in enumerate(graph.model.graph.node)}
    layers.sort(key=lambda row: order[row.pop("tensor")])
    views = {key: sum(row[key] for row in layers) for key in ("macs_exact", "macs_torchinfo", "macs_nessi_tflite")}
    quantizers = sum(1 for _ in graph.nodes("QuantizeLinear"))
    return {
        "params": params,
        "params_nonzero": nonzero,
        "macs": max(views.values()),
        **views,
        "weight_bytes": weight_bytes,
        "bias_bytes": bias_bytes,
        "scale_bytes": scale_bytes,
        "activation_quantizer_bytes": quantizers * QUANTIZER_BYTES,
        "total_bytes": weight_bytes + bias_bytes + scale_bytes + other_bytes + quantizers * QUANTIZER_BYTES,
        "layers": layers,
    }


def _groups(node: onnx.NodeProto) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)


def _row(
    graph: Graph, node: onnx.NodeProto, kind: str, exact: int, torchinfo: int, nessi: int, params: int = 0
) -> dict[str, Any]:
    name = node.name.strip("/").replace("/", ".") or node.op_type
    return {
        "tensor": node.output[0], "name": name, "kind": kind, "output": list(graph.shapes[node.output[0]][1:]),
        "params": params, "macs_exact": exact, "macs_torchinfo": torchinfo, "macs_nessi_tflite": nessi,
    }  # fmt: skip


def _pointwise_row(graph: Graph, node: onnx.NodeProto) -> dict[str, Any] | None:
    """Additions of maps, means, pooling and attention sums, by the rules of system/complexity.py."""
    x, y = node.input[0], node.output[0]
    if node.op_type == "Add":
        # the additions inside an activation (GELU) are elementwise functions in TFLite, not ADD
        return None if _inside_activation(node) else _row(graph, node, "add", 0, 0, graph.size(y))
    if node.op_type == "ReduceMean":
        return _row(graph, node, "mean", 0, 0, graph.size(x))
    if node.op_type == "ReduceSum":
        return _row(graph, node, "weighted_sum", graph.size(x), 0, 0)
    kernel = next(attribute.ints for attribute in node.attribute if attribute.name == "kernel_shape")
    return _row(graph, node, "pool", 0, 0, int(np.prod(kernel)) * graph.size(y))


def _inside_activation(node: onnx.NodeProto) -> bool:
    return "/act/" in node.name and not node.name.endswith("/add/Add")


@dataclass(frozen=True)
class Fusion:
    """How many convolutions there are and how many ONNX Runtime runs on integers."""

    conv_total: int
    conv_integer: int
    operators: dict[str, int]


def fusion(path: Path) -> Fusion:
    """Operators of the graph as ONNX Runtime optimizes it on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        session(path, optimized=optimized)
        nodes = onnx.load(str(optimized)).graph.node
    operators: dict[str, int] = {}
    for node in nodes:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
    integer = sum(operators.get(kind, 0) for kind in INTEGER_CONV)
    return Fusion(integer + sum(operators.get(kind, 0) for kind in FLOAT_CONV), integer, operators)


def session(path: Path, threads: int = 1, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU. Raises RunError for a file it cannot load."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's exceptions share no public base
        raise RunError(f"{path} cannot be loaded by ONNX Runtime: {str(error).splitlines()[0]}") from None


def run_batches(runtime: onnxruntime.InferenceSession, batches: Iterator[np.ndarray]) -> np.ndarray:
    """Network inputs (n, 1, mel bands, frames) in batches -> all logits (N, classes) float32."""
    return np.concatenate([runtime.run(None, {INPUT: batch})[0] for batch in batches])


def logit_scale(graph: Graph) -> float:
    """One LSB of the logits: the scale of the quantizer that the output passes last. Raises RunError if none."""
    tensor = graph.model.graph.output[0].name
    while (node := graph.producer.get(tensor)) is not None:
        if node.op_type == "DequantizeLinear":
            return float(graph.constants[node.input[1]])
        tensor = node.input[0]
    raise RunError("the graph's output is not quantized")
