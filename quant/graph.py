"""Reading an integer ONNX graph: what it stores, and what ONNX Runtime makes of it."""

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

from system.errors import RunError
from system.onnx_float import INPUT

INTEGER_CONV = ("QLinearConv", "ConvInteger")
PASSING = ("DequantizeLinear", "Clip", "Tile", "Transpose", "Identity", "Cast")
INTEGER_LINEAR = ("QLinearMatMul", "MatMulInteger", "QGemm", "MatMulIntegerToFloat")
FLOAT_TYPES = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "PRelu", "LayerNormalization", "QuantizeLinear", "DequantizeLinear")

LEVELS = {  # of optimization in ONNX Runtime
    "off": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


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
        """Numbers in a tensor. Raises RunError if nothing tells its shape."""
        if tensor not in self.shapes:
            raise RunError(
                f"the shape of {tensor} cannot be told from the graph, so that its cost cannot be counted; "
                f"expected a higher quant.opset, found {self.model.opset_import[0].version}"
            )
        return int(np.prod(self.shapes[tensor], dtype=np.int64))

    def source(self, tensor: str) -> str:
        """Where a weight or bias comes from, through what only reads, repeats or turns it."""
        while (node := self.producer.get(tensor)) is not None and node.op_type in PASSING:
            tensor = node.input[0]
        return tensor

    def stored(self, tensor: str) -> np.ndarray | None:
        """The stored numbers behind a weight or bias."""
        return self.constants.get(self.source(tensor))

    def matrix(self, node: onnx.NodeProto) -> np.ndarray | None:
        """The stored matrix of a Gemm or MatMul, (outputs, inputs), whichever way round the file holds it."""
        tensor, outputs_first = node.input[1], bool(self.attribute(node, "transB", 0))
        while (before := self.producer.get(tensor)) is not None and before.op_type in PASSING:
            outputs_first ^= before.op_type == "Transpose"
            tensor = before.input[0]
        weight = self.constants.get(tensor)
        return weight if weight is None or outputs_first else np.swapaxes(weight, -1, -2)

    def attribute(self, node: onnx.NodeProto, name: str, default: Any = None) -> Any:
        return next((onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def layer_name(node: onnx.NodeProto) -> str:
    """The path of the module that an operator belongs to, and its kind."""
    return node.name.strip("/").replace("/", ".") or node.op_type


def read_graph(path: Path) -> Graph:
    """Raises RunError for a file that is missing or not ONNX."""
    if not path.is_file():
        raise RunError(f"{path} does not exist; python quant/run.py qat or ptq --run RUN makes it")
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
        if value.type.tensor_type.HasField("shape")
    }
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    producer = {name: node for node in model.graph.node for name in node.output}
    return Graph(model, constants, producer, shapes)


@dataclass(frozen=True)
class Fusion:
    """How many convolutions and linear layers there are, how many ONNX Runtime runs on integers, and which it does not.

    A layer is what multiplies by a stored matrix; maps multiplied by maps, as attention does, are none.
    """

    conv_total: int
    conv_integer: int
    operators: dict[str, int]
    left_float: tuple[str, ...]  # operator and name

    def check(self, path: Path) -> None:
        """Raises RunError unless every layer runs on integers."""
        if self.left_float:
            shown = ", ".join(self.left_float[:3]) + (", ..." if len(self.left_float) > 3 else "")
            raise RunError(
                f"{path}: {len(self.left_float)} of {self.conv_total} convolutions and linear layers stay float in "
                f"ONNX Runtime: {shown}"
            )


def fusion(path: Path) -> Fusion:
    """Operators of the graph as ONNX Runtime optimizes it on this machine."""
    with tempfile.TemporaryDirectory() as folder:
        optimized = Path(folder) / "optimized.onnx"
        session(path, optimized=optimized)
        graph = onnx.load(str(optimized)).graph
    matrices = {tensor.name: tensor.data_type for tensor in graph.initializer if len(tensor.dims) > 1}
    float_matrices = {name for name, kind in matrices.items() if kind in FLOAT_TYPES}
    operators: dict[str, int] = {}
    left = []
    for node in graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1
        if node.op_type not in ELEMENTWISE and float_matrices & set(node.input):
            left.append(f"{node.op_type} {node.name}")
    integer = sum(operators.get(kind, 0) for kind in INTEGER_CONV)
    integer += sum(
        1 for node in graph.node if node.op_type in INTEGER_LINEAR and any(name in matrices for name in node.input)
    )
    return Fusion(integer + len(left), integer, operators, tuple(left))


def check_float(path: Path) -> None:
    """Raises RunError for a file that is missing, damaged, or quantized."""
    graph = read_graph(path)
    if any(True for _ in graph.nodes("QuantizeLinear", *INTEGER_CONV, *INTEGER_LINEAR)):
        raise RunError(f"{path} is an integer graph; a float one is expected")


def check_integer(path: Path) -> None:
    """Raises RunError for a file that is missing, damaged, not quantized, or not all integer under ONNX Runtime."""
    graph = read_graph(path)
    if not any(True for _ in graph.nodes("QuantizeLinear", *INTEGER_CONV)):
        raise RunError(f"{path} is a float graph; an integer one is expected")
    fusion(path).check(path)


def session(
    path: Path, threads: int = 1, optimized: Path | None = None, level: str = "all"
) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session on the CPU. `level`: how much of the graph it rewrites, of `LEVELS`.

    Raises RunError for a file it cannot load.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, LEVELS[level])
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
