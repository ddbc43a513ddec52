"""The integer file needs no float convolution: NumPy, with sums of integers, gives the logits of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quant.graph import read_graph, session

from . import interpreter
from .exported import exported, few_or_slow

IN_FLOAT = ("InstanceNormalization", "LayerNormalization", "ReduceL2", "Softmax")  # NumPy adds in another order


@pytest.mark.parametrize("name", few_or_slow())
def test_numpy_gives_the_same_logits(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    network = exported(name, tmp_path_factory.getbasetemp())
    features = network.features[:3]
    apart = network.steps(
        interpreter.run(network.path, features), session(network.path).run(None, {"features": features})[0]
    )
    in_float = any(True for _ in read_graph(network.path).nodes(*IN_FLOAT))
    assert apart.max() <= (1 if in_float else 0), f"{np.mean(apart == 0):.1%} are equal"


geometry = st.tuples(
    st.sampled_from([(1, 4, 6), (2, 4, 6), (4, 4, 4), (4, 4, 8)]),  # groups, channels in and out
    st.tuples(st.integers(1, 3), st.integers(1, 5)),  # kernel
    st.tuples(st.integers(1, 3), st.integers(1, 2)),  # stride
    st.tuples(st.integers(0, 2), st.integers(0, 2)),  # padding
    st.tuples(st.integers(1, 2), st.integers(1, 2)),  # dilation
)


@settings(max_examples=50, deadline=None)
@given(geometry)
def test_convolutions_of_integers_are_those_of_torch(case: tuple) -> None:
    (groups, channels, out), kernel, stride, padding, dilation = case
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (2, channels, 9, 11)) - 128
    w = generator.integers(-127, 128, (out, channels // groups, *kernel))
    found = interpreter.convolved(
        interpreter.Steps(x, np.float32(1)), interpreter.Steps(w, np.float32(1)), strides=stride,
        pads=(*padding, *padding), dilations=dilation, group=groups,
    )  # fmt: skip
    wanted = F.conv2d(torch.tensor(x).double(), torch.tensor(w).double(), None, stride, padding, dilation, groups)
    np.testing.assert_array_equal(found.steps, wanted.numpy())


def graph_of(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 1, 3, 3])
    y = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return helper.make_model(helper.make_graph(nodes, "test", [x], [y], stored))


ONE = np.ones((1, 1, 3, 3), np.float32)


def test_a_convolution_of_real_values_is_refused_by_name() -> None:
    model = graph_of(helper.make_node("Conv", ["features", "w"], ["logits"], "stem/Conv"), w=ONE)
    with pytest.raises(interpreter.NotInteger, match="stem/Conv: a convolution of real values"):
        interpreter.interpret(model, ONE)


def test_an_unknown_operator_is_refused_by_name() -> None:
    model = graph_of(helper.make_node("Det", ["features"], ["logits"], "stem/Det"))
    with pytest.raises(interpreter.NotInteger, match="stem/Det: the operator Det is not known; known are QLinearConv"):
        interpreter.interpret(model, ONE)


def test_a_sum_beyond_int32_is_refused() -> None:
    large = interpreter.Steps(np.full((1, 1, 3, 3), 2**24), np.float32(1))
    weight = interpreter.Steps(np.full((1, 1, 3, 3), 127), np.float32(1))
    with pytest.raises(interpreter.NotInteger, match="exceeds int32"):
        interpreter.convolved(large, weight)
