"""Operators that move integers, in the forms that other exporters than ours give them, as C."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from quant import run as commands
from quant.deployment.c import check
from quant.deployment.c.check import check_network
from quant.deployment.c.export import write_network
from quant.graph import session
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.spec import ExperimentSpec, FeatureSpec

from .conftest import only
from .test_c_network import logits_of, needs_compiler

BANDS, FRAMES = 6, 5
FEATURES = FeatureSpec(sample_rate=40, n_fft=16, win_length=16, hop_length=10, n_mels=BANDS)
SCALE, ZERO = np.float32(0.05), np.uint8(128)
MANY = 2**62


def checkpoint(classes: int) -> Checkpoint:
    names = tuple(map(str, range(classes)))
    mean, std = np.zeros(BANDS, np.float32), np.ones(BANDS, np.float32)
    return Checkpoint(ExperimentSpec(features=FEATURES), names, mean, std, {})


def written(path: Path, nodes: list[onnx.NodeProto], constants: dict[str, Any]) -> int:
    """From a quantizer of the features to `x`; logits are made of `y`, if by no node. Returns how many there are."""
    ends = [
        helper.make_node("QuantizeLinear", ["features", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["y", "scale", "zero"], ["real"]),
        helper.make_node("Flatten", ["real"], ["flat"]),
        helper.make_node("Identity", ["flat"], ["logits"]),
    ]
    values = {"scale": SCALE, "zero": ZERO} | constants
    graph = helper.make_graph(
        [ends[0], *nodes, *(ends[1:] if nodes[-1].output[0] == "y" else [])], "moves",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 1, BANDS, FRAMES])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", None])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return session(path).run(None, {"features": np.zeros((1, 1, BANDS, FRAMES), np.float32)})[0].size


FORMS: dict[str, tuple[str, list[Any], dict[str, Any]]] = {  # operator, its other inputs, its attributes
    "slice": ("Slice", [[1], [4], [2]], {}),
    "slice of a negative axis": ("Slice", [[1], [4], [-1]], {}),
    "slice of two axes": ("Slice", [[2, -3], [MANY, MANY], [-2, 3]], {}),
    "slice of every second": ("Slice", [[1], [MANY], [2], [2]], {}),
    "slice from the end on": ("Slice", [[-1], [-MANY], [3], [-1]], {}),
    "gather": ("Gather", [[3, 1, 1]], {"axis": 2}),
    "gather one": ("Gather", [2], {"axis": 2}),
    "gather the last": ("Gather", [-1], {"axis": 3}),
    "gather from the end": ("Gather", [[-1, 0, -2]], {"axis": 2}),
    "gather of a negative axis": ("Gather", [[4, 0]], {"axis": -1}),
    "gather a table": ("Gather", [[[0, 1], [-1, 3]]], {"axis": 2}),
    "max pool without strides": ("MaxPool", [], {"kernel_shape": [2, 3]}),
    "max pool, dilated": ("MaxPool", [], {"kernel_shape": [2, 2], "strides": [1, 2], "dilations": [3, 2]}),
    "max pool, padded on one side": ("MaxPool", [], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 2, 1]}),
}


@needs_compiler
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_that_of_the_runtime(form: str, tmp_path: Path) -> None:
    op, more, attributes = FORMS[form]
    constants = {f"c{number}": np.array(value, np.int64) for number, value in enumerate(more)}
    path = tmp_path / "int8.onnx"
    classes = written(path, [helper.make_node(op, ["x", *constants], ["y"], **attributes)], constants)
    write_network(checkpoint(classes), tmp_path / "int8.onnx", tmp_path)
    features = np.random.default_rng(0).normal(0, 3, (4, BANDS, FRAMES)).astype(np.float32)
    expected = session(path).run(None, {"features": features[:, None]})[0].reshape(len(features), -1)
    assert (logits_of(tmp_path / "network.c", features, classes) == expected).all()


def test_an_input_left_out_before_another_is_refused(tmp_path: Path) -> None:
    """Else the largest value would be taken for the smallest."""
    clip = helper.make_node("Clip", ["x", "", "most"], ["y"], "limit")
    classes = written(tmp_path / "int8.onnx", [clip], {"most": np.uint8(140)})
    with pytest.raises(RunError, match=r"Clip \(limit\) without its input 2 is not known without ONNX Runtime"):
        write_network(checkpoint(classes), tmp_path / "int8.onnx", tmp_path)


@needs_compiler
def test_logits_that_are_reals(tmp_path: Path) -> None:
    """As means of a map, which are rounded by the order of their sums; with constants that nothing else reads."""
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["map"]),
        helper.make_node("ReduceMean", ["map"], ["mean"], axes=[3]),
        helper.make_node("Add", ["mean", "shift"], ["sum"]),
        helper.make_node("Flatten", ["sum"], ["logits"]),
    ]
    written(tmp_path / "int8.onnx", nodes, {"shift": np.linspace(-1, 1, BANDS, dtype=np.float32)[:, None]})
    write_network(checkpoint(BANDS), tmp_path / "int8.onnx", tmp_path)
    samples = np.random.default_rng(0).normal(0, 0.1, (20, 40)).astype(np.float32)
    assert check_network(checkpoint(BANDS), tmp_path / "int8.onnx", tmp_path / "network.c", samples).equal == 1


@needs_compiler
@only("inverted")
def test_of_a_refused_network_nothing_is_kept(deployable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = deployable / "quant/brevitas/network.c"
    earlier.write_text("an earlier one")
    monkeypatch.setattr(check, "LEAST_EQUAL", 1.1)
    with pytest.raises(RunError, match=r"network\.c: expected the logits of .*int8\.onnx, found 100\.0% of them equal"):
        commands.main(["export", "--run", str(deployable), "--c-network"])
    assert list(deployable.rglob("network.*")) == [earlier]
    assert earlier.read_text() == "an earlier one"


def test_a_network_of_another_run_is_refused(tmp_path: Path) -> None:
    classes = written(tmp_path / "int8.onnx", [helper.make_node("Identity", ["x"], ["y"])], {})
    with pytest.raises(RunError, match=r"int8\.onnx: expected the 3 classes of this run, found 30"):
        write_network(checkpoint(3), tmp_path / "int8.onnx", tmp_path)
    spec = ExperimentSpec(features=FEATURES.changed(n_mels=7))
    with pytest.raises(RunError, match=r"int8\.onnx: expected \[1, 7, 5\] features of this run, found \[1, 6, 5\]"):
        write_network(replace(checkpoint(classes), spec=spec), tmp_path / "int8.onnx", tmp_path)
    assert list(tmp_path.glob("network.*")) == []
