"""Costs of single operators, read off graphs of one node, against the rules of system/complexity.py by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant.graph import read_graph
from quant.graph_cost import OURS, graph_complexity
from quant.portable import proof

Constants = dict[str, np.ndarray]
VIEWS = ("params", "macs_exact", "macs_torchinfo", "macs_nessi_tflite")
PLACE = (1, 3, 4, 5)  # channels, bands and frames of the map `x`, and a batch of one


def cost_of(
    folder: Path, *nodes: onnx.NodeProto, x: tuple[int, ...] = PLACE, producer: str = OURS, **constants: np.ndarray
) -> tuple[int, int, int, int]:
    """Parameters and MACs in three views, of nodes that lead from `x` to `y`."""
    return tuple(report(folder, *nodes, x=x, producer=producer, **constants)[view] for view in VIEWS)  # type: ignore[return-value]


def report(
    folder: Path, *nodes: onnx.NodeProto, x: tuple[int, ...] = PLACE, producer: str = OURS, **constants: np.ndarray
) -> dict[str, Any]:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * len(x))]
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "one", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=producer)
    onnx.save(model, folder / "one.onnx")
    return graph_complexity(read_graph(folder / "one.onnx"))


def random(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def test_a_convolution(tmp_path: Path) -> None:
    """3 channels to 6 by kernels of 3 x 3 in a map of 4 x 5, without padding: 2 x 3 positions."""
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], kernel_shape=[3, 3])
    multiplied = 3 * 9 * 6 * (2 * 3)
    constants = {"w": random(6, 3, 3, 3), "b": random(6)}
    assert report(tmp_path, node, **constants)["layers"][0]["output"] == [6, 2, 3]
    assert cost_of(tmp_path, node, **constants) == (3 * 9 * 6 + 6, multiplied, multiplied + 6 * (2 * 3), multiplied)


@pytest.mark.parametrize(("groups", "kind"), [(1, "conv"), (3, "depthwise")])
def test_a_grouped_convolution_reads_its_group_alone(groups: int, kind: str, tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=groups)
    found = report(tmp_path, node, w=random(6, 3 // groups, 1, 1))
    assert found["macs_exact"] == found["macs_torchinfo"] == 3 // groups * 6 * 4 * 5
    assert [layer["kind"] for layer in found["layers"]] == [kind]


def test_a_matrix_reads_each_row_of_a_map(tmp_path: Path) -> None:
    """Seven rows of 4 values to 3: torchinfo takes a linear layer's parameters once."""
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert cost_of(tmp_path, product, x=(1, 7, 4), w=random(4, 3)) == (12, 7 * 12, 12, 7 * 12)
    both = helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)
    assert cost_of(tmp_path, both, x=(1, 4), w=random(3, 4), b=random(3)) == (15, 12, 15, 12)
    plain = helper.make_node("Gemm", ["x", "w"], ["y"])
    assert cost_of(tmp_path, plain, x=(1, 4), w=random(4, 3)) == (12, 12, 12, 12)


def test_a_matrix_that_the_file_holds_turned(tmp_path: Path) -> None:
    turned = helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0])
    product = helper.make_node("MatMul", ["x", "t"], ["y"])
    assert cost_of(tmp_path, turned, product, x=(1, 7, 4), w=random(3, 4)) == (12, 7 * 12, 12, 7 * 12)


@pytest.mark.parametrize("turned", [False, True])
def test_each_output_of_a_matrix_has_a_scale(turned: bool, tmp_path: Path) -> None:
    """Four inputs, three outputs: three filters, of whose first two weights could overflow."""
    filters = np.array([[100, 0, 0, 100], [1, 1, 1, 1], [2, 2, 2, 2]], np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0 if turned else 1),
             helper.make_node("Transpose", ["w"], ["t"]),
             helper.make_node("MatMul", ["x", "t" if turned else "w"], ["y"])]  # fmt: skip
    constants = {"q": filters if turned else filters.T.copy(), "s": random(3)}
    found = report(tmp_path, *nodes, x=(1, 4), **constants)
    assert (found["weight_bytes"], found["scale_bytes"], found["macs_exact"]) == (12, 3 * 4, 12)
    proven = proof(read_graph(tmp_path / "one.onnx"))
    assert (proven["filters"], proven["unsafe_filters"], proven["largest_pair"]) == (3, 1, 200)


def test_a_product_of_two_maps_is_no_layer(tmp_path: Path) -> None:
    assert cost_of(tmp_path, helper.make_node("MatMul", ["x", "x"], ["y"]), x=(1, 4, 4)) == (0, 0, 0, 0)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pooling_costs_its_area_for_each_output(kind: str, tmp_path: Path) -> None:
    node = helper.make_node(kind, ["x"], ["y"], kernel_shape=[2, 3], strides=[2, 1])
    assert cost_of(tmp_path, node) == (0, 0, 0, 6 * (3 * 2 * 3))


def test_a_mean_costs_each_of_its_inputs(tmp_path: Path) -> None:
    assert cost_of(tmp_path, helper.make_node("GlobalAveragePool", ["x"], ["y"])) == (0, 0, 0, 3 * 4 * 5)


def test_a_weighted_sum_is_the_multiply_adds_of_attention(tmp_path: Path) -> None:
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
    assert cost_of(tmp_path, node, axes=np.array([2, 3])) == (0, 3 * 4 * 5, 0, 0)


@pytest.mark.parametrize(
    ("name", "counted"), [("/block/add/Add", True), ("/block/act/Add", False), ("/block/act/add/Add", True)]
)
def test_additions_of_maps_count_and_those_of_an_activation_do_not(name: str, counted: bool, tmp_path: Path) -> None:
    node = helper.make_node("Add", ["x", "x"], ["y"], name)
    assert cost_of(tmp_path, node) == (0, 0, 0, 3 * 4 * 5 if counted else 0)


def test_learned_gains_and_slopes_are_parameters(tmp_path: Path) -> None:
    gain = helper.make_node("Mul", ["x", "block.gain"], ["y"])
    assert cost_of(tmp_path, gain, **{"block.gain": random(3, 1, 1)}) == (3, 0, 0, 0)
    other = helper.make_node("Mul", ["x", "half"], ["y"])
    assert cost_of(tmp_path, other, half=random(1)) == (0, 0, 0, 0)
    slopes = helper.make_node("PRelu", ["x", "slope"], ["y"])
    assert cost_of(tmp_path, slopes, slope=random(3, 1, 1)) == (3, 0, 3, 0)
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"], alpha=0.2)  # a PReLU of one slope, in a file of ours
    assert cost_of(tmp_path, leaky) == (1, 0, 1, 0)
    assert cost_of(tmp_path, leaky, producer="another") == (0, 0, 0, 0)


def test_norms(tmp_path: Path) -> None:
    """Of a LayerNorm over 5 values TFLite has three operators on each and one mean; see norms.py for the others."""
    batch = helper.make_node("BatchNormalization", ["x", "g", "s", "m", "v"], ["y"])
    assert cost_of(tmp_path, batch, **dict.fromkeys("gsmv", random(3))) == (6, 0, 6, 0)
    layer = helper.make_node("LayerNormalization", ["x", "g", "s"], ["y"])
    assert cost_of(tmp_path, layer, g=random(5), s=random(5)) == (10, 0, 10, 3 * 60 + 60 // 5)
    instance = helper.make_node("InstanceNormalization", ["x", "g", "s"], ["y"])
    assert cost_of(tmp_path, instance, g=random(3), s=random(3)) == (6, 0, 6, 2 * 60 + 3)


def test_two_weights_of_four_bits_share_a_byte(tmp_path: Path) -> None:
    """Five of them need three; a float32 scale beside them, and none for what stays float."""
    node = helper.make_node("Gemm", ["x", "w"], ["y"], "/head/classify", transB=1)
    weight = random(1, 5)
    found = report(tmp_path, node, x=(1, 5), w=weight)
    assert (found["weight_bytes"], found["scale_bytes"], found["total_bytes"]) == (4 * 5, 0, 4 * 5)
    reading = helper.make_node("DequantizeLinear", ["q", "s"], ["w"])
    model = onnx.load(str(tmp_path / "one.onnx"))
    model.opset_import[0].version = 21
    model.graph.node.insert(0, reading)
    del model.graph.initializer[:]
    model.graph.initializer.extend([
        helper.make_tensor("q", TensorProto.INT4, [1, 5], [1, -2, 0, 4, -8]),
        numpy_helper.from_array(np.array(0.1, np.float32), "s"),
    ])  # fmt: skip
    onnx.save(model, tmp_path / "four.onnx")
    found = graph_complexity(read_graph(tmp_path / "four.onnx"))
    assert (found["weight_bytes"], found["scale_bytes"], found["params_nonzero"]) == (3, 4, 4)
    (layer,) = found["layers"]
    assert (layer["name"], layer["weight_bits"], layer["bytes"], layer["params"]) == ("head.classify", 4, 7, 5)
