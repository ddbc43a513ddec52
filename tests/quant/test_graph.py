"""The exported file holds integers, runs on integers, and costs what the arithmetic says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from quant.graph import fusion, graph_complexity, logit_scale, read_graph, session
from quant.qat import agreement
from system.errors import RunError
from system.models.network import complexity

from .conftest import CLASSES, SHAPE, Quantized

COUNTS = ("params", "macs", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "weight_bytes", "total_bytes")


def test_every_convolution_runs_on_integers(quantized: Quantized) -> None:
    fused = fusion(quantized.path)
    convolutions = sum(isinstance(module, torch.nn.Conv2d) for module in quantized.deployed.modules())
    assert fused.conv_total == fused.conv_integer == convolutions
    assert not {"Conv", "FusedConv", "NhwcFusedConv", "Gemm", "MatMul"} & set(fused.operators)


def test_every_residual_addition_runs_on_integers(quantized: Quantized) -> None:
    additions = sum(type(module).__name__ == "QuantAdd" for module in quantized.network.modules())
    assert fusion(quantized.path).operators.get("QLinearAdd", 0) >= additions


def test_weights_are_stored_as_int8_and_biases_as_int32(quantized: Quantized) -> None:
    graph = read_graph(quantized.path)
    for node in graph.nodes("Conv"):
        assert graph.stored(node.input[1]).dtype == np.int8
        if len(node.input) > 2:
            assert graph.stored(node.input[2]).dtype == np.int32


def test_the_graph_costs_what_the_specification_says(quantized: Quantized) -> None:
    counted = graph_complexity(read_graph(quantized.path))
    planned = complexity(quantized.spec, SHAPE, CLASSES).totals()
    assert {key: counted[key] for key in COUNTS} == {key: planned[key] for key in COUNTS}


def test_nonzero_parameters_are_counted_on_the_integers(quantized: Quantized) -> None:
    graph = read_graph(quantized.path)
    stored = [graph.stored(name) for node in graph.nodes("Conv") for name in node.input[1:]]
    nonzero = sum(int(np.count_nonzero(tensor)) for tensor in stored)
    counted = graph_complexity(graph)
    assert nonzero <= counted["params_nonzero"] <= counted["params"]


def test_torch_and_onnx_runtime_agree(quantized: Quantized) -> None:
    with torch.inference_mode():
        simulated = quantized.network(quantized.features).numpy()
    integer = session(quantized.path).run(None, {"features": quantized.features.numpy()})[0]
    result = agreement(simulated, integer, logit_scale(read_graph(quantized.path)))
    assert np.abs(simulated).std() > 10 * result["lsb"], "the comparison must not be vacuous"
    assert result["max_lsb"] <= 2
    assert result["within_1_lsb"] >= 0.99


def test_any_batch_size_gives_the_same_logits(quantized: Quantized) -> None:
    runtime = session(quantized.path)
    features = quantized.features[:5].numpy()
    together = runtime.run(None, {"features": features})[0]
    alone = np.concatenate([runtime.run(None, {"features": row[None]})[0] for row in features])
    np.testing.assert_array_equal(together, alone)


def test_agreement_counts_steps_of_one_lsb() -> None:
    one = np.array([[0.0, 1.0], [2.0, 1.0]])
    other = np.array([[0.0, 1.5], [2.0, 2.5]])
    result = agreement(one, other, 0.5)
    assert (result["n"], result["max_lsb"], result["argmax_agreement"], result["within_1_lsb"]) == (2, 3, 0.5, 0.75)


def test_a_truncated_file_is_refused_by_name(quantized: Quantized, tmp_path: Path) -> None:
    broken = tmp_path / "int8.onnx"
    broken.write_bytes(quantized.path.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"int8\.onnx"):
        read_graph(broken)


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"quant/run\.py qat"):
        read_graph(tmp_path / "int8.onnx")


def test_a_float_graph_has_no_logit_scale(tmp_path: Path) -> None:
    x = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [1, 1])
    y = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["features"], ["logits"])], "float", [x], [y])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "float.onnx")
    with pytest.raises(RunError, match="not quantized"):
        logit_scale(read_graph(tmp_path / "float.onnx"))
