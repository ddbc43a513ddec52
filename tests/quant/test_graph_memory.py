"""The memory of the maps, off the graph: as the arithmetic has it, and by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from quant.graph import read_graph
from quant.graph_memory import operators, peak_activations
from system.models.network import complexity

from .conftest import CLASSES, INVERTED, SHAPE, Quantized
from .conftest import quantize as quantize_network
from .light import LightBackend


def test_the_graph_needs_what_the_specification_says(quantized: Quantized) -> None:
    peak = peak_activations(read_graph(quantized.path))
    assert peak.bytes == complexity(quantized.spec, SHAPE, CLASSES).peak_activation_bytes()
    assert peak.bytes == sum(int(np.prod(shape)) for shape in peak.maps.values())
    assert peak.layer.startswith(("stem.", "stages."))


def test_a_norm_of_each_mel_band_needs_its_map_twice(tmp_path: Path) -> None:
    """At few channels that is where most memory is needed."""
    spec = INVERTED.changed(band_norm=True, width=2, width_multiple=1, stem_stride=(4, 4))
    peak = peak_activations(read_graph(quantize_network(spec, LightBackend(), tmp_path).path))
    assert peak.bytes == complexity(spec, SHAPE, CLASSES).peak_activation_bytes() == 2 * math.prod(SHAPE)


def quantize(x: str, y: str) -> onnx.NodeProto:
    return helper.make_node("QuantizeLinear", [x, "scale", "zero"], [y], f"{y}/Quantize")


def real(x: str) -> onnx.NodeProto:
    return helper.make_node("DequantizeLinear", [x, "scale", "zero"], [f"{x}.real"], f"{x}/Dequantize")


def residual(path: Path) -> Path:
    """features (1, 2, 4, 5) -> q -> sigmoid s -> pooled p (1, 2, 2, 5), and s + q, turned and turned back."""
    pool = {"kernel_shape": [2, 1], "strides": [2, 1]}
    nodes = [
        quantize("features", "q"),
        real("q"),
        helper.make_node("Sigmoid", ["q.real"], ["sigmoid"], "gate/Sigmoid"),
        quantize("sigmoid", "s"),
        helper.make_node("MaxPool", ["s"], ["p"], "down/MaxPool", **pool),
        helper.make_node("Transpose", ["s"], ["t"], "turn", perm=[0, 1, 3, 2]),
        helper.make_node("Transpose", ["t"], ["back"], "return", perm=[0, 1, 3, 2]),
        real("back"),
        helper.make_node("Add", ["q.real", "back.real"], ["sum"], "add/Add"),
        quantize("sum", "y"),
        helper.make_node("MaxPool", ["y"], ["z"], "last/MaxPool", **pool),
        helper.make_node("Concat", ["z", "p"], ["logits"], "join", axis=1),
    ]
    inputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 2, 4, 5])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.UINT8, ["batch", 4, 2, 5])]
    stored = [numpy_helper.from_array(np.float32(0.1), "scale"), numpy_helper.from_array(np.uint8(0), "zero")]
    graph = helper.make_graph(nodes, "residual", inputs, outputs, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_by_hand(tmp_path: Path) -> None:
    graph = read_graph(residual(tmp_path / "int8.onnx"))
    assert [(step.name, sorted(step.reads), step.writes) for step in operators(graph)] == [
        ("q.Quantize", [], "q"),
        ("gate.Sigmoid", ["q"], "s"),
        ("down.MaxPool", ["s"], "p"),
        ("add.Add", ["q", "s"], "y"),
        ("last.MaxPool", ["y"], "z"),
        ("join", ["p", "z"], "logits"),
    ]
    peak = peak_activations(graph)
    assert peak.layer == "add.Add"
    assert peak.maps == {"q": (2, 4, 5), "s": (2, 4, 5), "p": (2, 2, 5), "y": (2, 4, 5)}  # p waits for the end
    assert peak.bytes == 40 + 40 + 20 + 40
