"""Each integer operator in torch gives what ONNX Runtime gives, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from quant import integer
from quant.integer import Grid, Integers
from quant.writer import Symbol, Writer

CONVOLUTIONS = {  # name -> (channels, out, kernel, stride, padding, dilation, groups, bias)
    "1x1": (9, 20, (1, 1), (1, 1), (0, 0), (1, 1), 1, True),
    "3x3, strided": (5, 7, (3, 3), (2, 1), (1, 1), (1, 1), 1, True),
    "depthwise 5x3": (20, 20, (5, 3), (1, 1), (2, 1), (1, 1), 20, False),
    "dilated": (8, 8, (1, 3), (1, 1), (0, 2), (1, 2), 8, True),
    "grouped": (8, 12, (3, 3), (1, 1), (1, 1), (1, 1), 4, True),
    "more weights than float32 adds exactly": (600, 3, (1, 1), (1, 1), (0, 0), (1, 1), 1, True),
}


def made(shape: tuple[int, ...], grid: Grid, seed: int = 0) -> Integers:
    q = np.random.default_rng(seed).integers(0, 256, shape)
    return Integers(torch.from_numpy(q.astype(np.float32)), grid)


def run(write: Callable[[Writer, list[Symbol]], Symbol], *inputs: Integers, exact: bool = False) -> np.ndarray:
    """Integers of the graph that `write` adds to uint8 inputs, computed by ONNX Runtime."""
    writer = Writer(17)
    symbols = [Symbol(writer, f"x{number}", x.grid) for number, x in enumerate(inputs)]
    result = write(writer, symbols)
    graph = onnx.helper.make_graph(
        writer.nodes,
        "operator",
        [onnx.helper.make_tensor_value_info(x.tensor, onnx.TensorProto.UINT8, None) for x in symbols],
        [onnx.helper.make_tensor_value_info(result.tensor, onnx.TensorProto.UINT8, None)],
        list(writer.constants.values()),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.add_session_config_entry("session.x64quantprecision", str(int(exact)))
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {x.tensor: value.q.numpy().astype(np.uint8) for x, value in zip(symbols, inputs, strict=True)}
    return runtime.run(None, feed)[0]


def check(found: Integers, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(found.q.numpy(), expected.astype(np.float32))
    assert len(np.unique(expected)) > 4, "the comparison must not be vacuous"


@pytest.mark.parametrize("exact", [False, True], ids=["portable", "full range, told to be exact"])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolution(case: tuple, exact: bool) -> None:
    """On x86 without VNNI the runtime's sums saturate unless weights are portable, or it avoids its fast kernels."""
    channels, out, kernel, stride, padding, dilation, groups, biased = case
    generator = np.random.default_rng(1)
    largest = 127 if exact else 64
    x, y = made((2, channels, 9, 8), Grid.of(0.037, 77)), Grid.of(0.061, 120)
    weight = torch.from_numpy(
        generator.integers(-largest, largest + 1, (out, channels // groups, *kernel)).astype(np.float32)
    )
    scale = torch.from_numpy((0.02 / weight[0].numel() ** 0.5 * generator.uniform(0.5, 1.5, out)).astype(np.float32))
    bias = torch.from_numpy(generator.integers(-5000, 5000, out).astype(np.float32)) if biased else None

    def write(writer: Writer, inputs: list[Symbol]) -> Symbol:
        stored = [writer.constant(weight.to(torch.int8)), writer.constant(scale)]
        stored += [] if bias is None else [writer.constant(bias.to(torch.int32))]
        return writer.convolve(
            inputs[0], y, *stored, kernel_shape=kernel, strides=stride, pads=[*padding, *padding], dilations=dilation,
            group=groups,
        )  # fmt: skip

    check(integer.convolution(x, weight, scale, bias, y, stride, padding, dilation, groups), run(write, x, exact=exact))


def test_addition_and_product() -> None:
    a, b, y = made((2, 6, 5, 7), Grid.of(0.031, 101)), made((2, 6, 5, 7), Grid.of(0.044, 60), seed=1), Grid.of(0.05, 90)
    for operator, function in (("Add", integer.addition), ("Mul", integer.product)):

        def write(writer: Writer, inputs: list[Symbol], operator: str = operator) -> Symbol:
            return writer.quantize(writer.add(operator, *(x.real() for x in inputs)), y)

        check(function(a, b, y), run(write, a, b))


def test_an_addition_to_every_band() -> None:
    a, b, y = made((2, 6, 5, 7), Grid.of(0.031, 101)), made((2, 6, 1, 7), Grid.of(0.044, 60), seed=1), Grid.of(0.05, 90)
    write = lambda writer, inputs: writer.quantize(writer.add("Add", *(x.real() for x in inputs)), y)  # noqa: E731
    check(integer.addition(a, b, y), run(write, a, b))


TABLES: dict[str, tuple[dict, Callable[[Tensor], Tensor]]] = {
    "Sigmoid": ({}, torch.sigmoid),
    "LeakyRelu": ({"alpha": 0.21}, lambda x: F.leaky_relu(x, 0.21)),
}


@pytest.mark.parametrize("operator", TABLES)
@pytest.mark.parametrize("scale", [0.011, 0.037, 0.09])
def test_tables(operator: str, scale: float) -> None:
    attributes, function = TABLES[operator]
    x = Integers(torch.arange(256.0).reshape(1, 4, 8, 8), Grid.of(scale, 111))
    y = Grid.of(1 / 256, 0) if operator == "Sigmoid" else Grid.of(scale, 40)
    found = integer.lookup(x, function, y)
    check(found, run(lambda w, inputs: w.quantize(w.add(operator, inputs[0].real(), **attributes), y), x))


@pytest.mark.parametrize("shape", [(2, 8, 9, 5), (3, 20, 1, 12), (1, 16, 40, 51)])
def test_global_average(shape: tuple[int, ...]) -> None:
    x, y = made(shape, Grid.of(0.02, 20)), Grid.of(0.0091, 0)
    check(
        integer.global_average(x, y),
        run(lambda w, inputs: w.quantize(w.add("GlobalAveragePool", inputs[0].real()), y), x),
    )


def written_norm(write: Callable[[Writer, str], str], steps: np.ndarray) -> np.ndarray:
    """A float operator on integers less their zero point."""
    writer = Writer(17)
    output = write(writer, "x")
    graph = onnx.helper.make_graph(
        writer.nodes,
        "norm",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)],
        [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
        list(writer.constants.values()),
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    runtime = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return runtime.run(None, {"x": steps})[0]


@pytest.mark.parametrize("count", [5, 37, 257, 1836])
def test_instance_norm_to_the_last_bit(count: int) -> None:
    steps = np.rint(np.random.default_rng(count).normal(3, 40, (7, 9, count))).clip(-128, 127).astype(np.float32)
    one, zero = np.ones(9, np.float32), np.zeros(9, np.float32)
    expected = written_norm(
        lambda w, x: w.add("InstanceNormalization", x, w.constant(one), w.constant(zero), epsilon=0.004), steps
    )
    np.testing.assert_array_equal(integer.instance_norm(torch.from_numpy(steps), 0.004).numpy(), expected)


@pytest.mark.parametrize("count", [8, 9, 15, 20, 36, 64])
def test_layer_norm_to_the_last_bit(count: int) -> None:
    generator = np.random.default_rng(count)
    steps = np.rint(generator.normal(3, 40, (2000, count))).clip(-128, 127).astype(np.float32)
    gain, shift = (generator.uniform(low, high, count).astype(np.float32) for low, high in ((0.5, 1.5), (-0.5, 0.5)))
    expected = written_norm(
        lambda w, x: w.add("LayerNormalization", x, w.constant(gain), w.constant(shift), axis=-1, epsilon=0.001), steps
    )
    found = integer.layer_norm(torch.from_numpy(steps), torch.from_numpy(gain), torch.from_numpy(shift), 0.001)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_grid_rounds_ties_to_even_and_saturates() -> None:
    grid = Grid.of(0.5, 3)
    found = grid.nearest(torch.tensor([0.25, 0.75, -0.25, 1000.0, -1000.0]))
    assert found.q.tolist() == [3, 5, 3, 255, 0]
    assert found.real.tolist() == [0.0, 1.0, 0.0, 126.0, -1.5]
