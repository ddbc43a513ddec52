"""The exported file holds integers, runs on integers, and costs what the arithmetic says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from quant.graph import check_float, check_integer, fusion, logit_scale, read_graph, session
from quant.graph_cost import counted, graph_complexity
from quant.parity import agreement
from quant.pools import AveragePool
from system.errors import RunError
from system.models.network import complexity

from .conftest import CLASSES, SHAPE, Quantized

COUNTS = ("params", "macs", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "weight_bytes", "total_bytes")


def float_file(path: Path, *nodes: onnx.NodeProto, constants: dict[str, np.ndarray] | None = None) -> Path:
    """A float graph from `features` (1, 4) to `logits` (1, 4)."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("features", "logits"))
    stored = [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()]
    graph = helper.make_graph(list(nodes), "float", [x], [y], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_every_convolution_runs_on_integers(quantized: Quantized) -> None:
    fused = fusion(quantized.path)
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in quantized.deployed.modules())
    convolutions += sum(isinstance(module, AveragePool) for module in quantized.network.modules())
    assert fused.conv_total == fused.conv_integer == convolutions
    assert fused.left_float == ()
    assert not {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "MatMul"} & set(fused.operators)
    check_integer(quantized.path)


def test_every_residual_addition_runs_on_integers(quantized: Quantized) -> None:
    additions = sum(type(module).__name__ == "QuantAdd" for module in quantized.network.modules())
    assert fusion(quantized.path).operators.get("QLinearAdd", 0) == additions


def test_weights_are_stored_as_int8_and_biases_as_int32(quantized: Quantized) -> None:
    rows = [row for _, row in counted(read_graph(quantized.path)) if row.weights]
    assert len(rows) == sum(isinstance(module, torch.nn.Conv2d) for module in quantized.deployed.modules())
    assert {array.dtype for row in rows for array in row.weights} == {np.dtype(np.int8)}
    assert {array.dtype for row in rows for array in row.biases} == {np.dtype(np.int32)}


def test_the_graph_costs_what_the_specification_says(quantized: Quantized) -> None:
    cost = graph_complexity(read_graph(quantized.path))
    planned = complexity(quantized.spec, SHAPE, CLASSES).totals()
    assert {key: cost[key] for key in COUNTS} == {key: planned[key] for key in COUNTS}


def test_nonzero_parameters_are_counted_on_the_integers(quantized: Quantized) -> None:
    graph = read_graph(quantized.path)
    stored = [array for _, row in counted(graph) for array in (*row.weights, *row.biases, *row.others)]
    cost = graph_complexity(graph)
    assert cost["params_nonzero"] == sum(int(np.count_nonzero(array)) for array in stored) <= cost["params"]


def test_torch_and_onnx_runtime_agree(quantized: Quantized) -> None:
    with torch.inference_mode():
        simulated = quantized.network(quantized.features).numpy()
    integer = session(quantized.path).run(None, {"features": quantized.features.numpy()})[0]
    result = agreement(simulated, integer, logit_scale(read_graph(quantized.path)))
    assert np.abs(simulated).std() > 10 * result["lsb"], "the comparison must not be vacuous"
    assert result["max_lsb"] <= 2
    assert result["within_1_lsb"] >= 0.999
    assert result["decided_agreement"] == 1.0


def test_any_batch_size_gives_the_same_logits(quantized: Quantized) -> None:
    runtime = session(quantized.path)
    features = quantized.features[:5].numpy()
    together = runtime.run(None, {"features": features})[0]
    alone = np.concatenate([runtime.run(None, {"features": row[None]})[0] for row in features])
    np.testing.assert_array_equal(together, alone)


def test_agreement_counts_steps_of_one_lsb() -> None:
    one = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 9.0]])
    other = np.array([[0.0, 1.5], [2.0, 2.5], [0.0, 9.0]])
    result = agreement(one, other, 0.5)
    assert (result["n"], result["max_lsb"], result["within_1_lsb"]) == (3, 3, 5 / 6)
    assert (result["argmax_agreement"], result["decided_agreement"]) == (2 / 3, 1.0)


def test_a_truncated_file_is_refused_by_name(quantized: Quantized, tmp_path: Path) -> None:
    broken = tmp_path / "int8.onnx"
    whole = quantized.path.read_bytes()
    for length in (0, 1000, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:length])
        for check in (read_graph, check_integer, check_float):
            with pytest.raises(RunError, match=r"int8\.onnx") as refused:
                check(broken)
            assert len(str(refused.value).splitlines()) == 1


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"quant/run\.py qat"):
        read_graph(tmp_path / "int8.onnx")


def test_a_float_graph_where_an_integer_one_is_expected_is_refused_and_the_other_way_round(
    quantized: Quantized, tmp_path: Path
) -> None:
    path = float_file(tmp_path / "float.onnx", helper.make_node("Relu", ["features"], ["logits"]))
    check_float(path)
    with pytest.raises(RunError, match="is a float graph; an integer one is expected"):
        check_integer(path)
    with pytest.raises(RunError, match="not quantized"):
        logit_scale(read_graph(path))
    with pytest.raises(RunError, match="is an integer graph; a float one is expected"):
        check_float(quantized.path)


def test_an_operator_the_runtime_does_not_have_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Whirl", ["features"], ["logits"], domain="elsewhere")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("features", "logits"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    graph = helper.make_graph([node], "whirl", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "a.onnx")
    with pytest.raises(RunError, match="Whirl"):
        fusion(tmp_path / "a.onnx")


def test_a_weighted_operator_that_stays_float_is_named(tmp_path: Path) -> None:
    """An integer graph with a layer that the integer path does not know."""
    nodes = [
        helper.make_node("QuantizeLinear", ["features", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["x"]),
        helper.make_node("Einsum", ["x", "weight"], ["logits"], "mixture", equation="bi,io->bo"),
    ]
    constants = {
        "scale": np.array(0.1, np.float32), "zero": np.array(128, np.uint8), "weight": np.eye(4, dtype=np.float32),
    }  # fmt: skip
    path = float_file(tmp_path / "int8.onnx", *nodes, constants=constants)
    with pytest.raises(RunError, match=r"1 of 1 convolutions and linear layers stay float.*Einsum mixture"):
        check_integer(path)


def test_a_quantized_matrix_is_a_layer_on_integers(tmp_path: Path) -> None:
    quantizer = ["scale", "zero"]
    nodes = [
        helper.make_node("QuantizeLinear", ["features", *quantizer], ["q"]),
        helper.make_node("DequantizeLinear", ["q", *quantizer], ["x"]),
        helper.make_node("DequantizeLinear", ["weight", "scale", "none"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", *quantizer], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", *quantizer], ["logits"]),
    ]
    constants = {
        "scale": np.array(0.1, np.float32), "zero": np.array(128, np.uint8), "none": np.array(0, np.int8),
        "weight": np.arange(16, dtype=np.int8).reshape(4, 4),
    }  # fmt: skip
    fused = fusion(float_file(tmp_path / "int8.onnx", *nodes, constants=constants))
    assert (fused.conv_total, fused.conv_integer, fused.left_float) == (1, 1, ())


def test_a_shape_that_the_graph_does_not_tell_is_not_taken_for_a_single_number(tmp_path: Path) -> None:
    """Costs would be too low without a word, as from opset 13 of ONNX Runtime's own quantizer."""
    foreign = helper.make_node("Foreign", ["features"], ["y"], domain="unknown")
    path = float_file(tmp_path / "g.onnx", foreign, helper.make_node("Reshape", ["y", "all"], ["logits"]),
                      constants={"all": np.array([1, 4], np.int64)})  # fmt: skip
    model = onnx.load(str(path))
    model.opset_import.append(helper.make_opsetid("unknown", 1))
    onnx.save(model, path)
    with pytest.raises(RunError, match=r"the shape of y cannot be told .* higher quant\.opset, found 17"):
        read_graph(path).size("y")
