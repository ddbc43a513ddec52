"""An ONNX graph of integers in NumPy, straight from the operators' definitions: no runtime, no float convolution.

Convolutions add products of integers in int64, check that int32 holds the sum, and are rounded once, by one float32
factor per output channel. What the graph computes on real values (activations, norms, softmax) is computed in float32,
in NumPy's order.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper
from scipy.special import erf

Array = np.ndarray[Any, Any]


class NotInteger(Exception):
    """The graph has an operator that is not known here, or a convolution of real values."""


class Steps(NamedTuple):
    """Integers less their zero point, and what one of them stands for: () or (C',), along the channels."""

    steps: Array  # int64
    scale: Array  # float32


def run(path: Path, features: Array) -> Array:
    """Logits of a batch. Raises NotInteger."""
    return interpret(onnx.load(str(path)), features)


def interpret(model: onnx.ModelProto, features: Array) -> Array:
    graph = model.graph
    values: dict[str, Array] = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values[graph.input[0].name] = features
    sums: dict[str, Steps] = {}  # what dequantized tensors and convolutions of them hold, beside its real value

    def value(name: str) -> Array:
        return real(sums[name]) if name in sums else values[name]

    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        output = node.output[0]
        if node.op_type == "DequantizeLinear":
            sums[output] = dequantized(*(values[name] for name in node.input), **attributes)
        elif node.op_type == "QuantizeLinear" and node.input[0] in sums:
            values[output] = requantized(sums[node.input[0]], *(values[name] for name in node.input[1:]))
        elif node.op_type == "Conv":
            if any(name not in sums for name in node.input):
                raise NotInteger(f"{node.name}: a convolution of real values")
            sums[output] = convolved(*(sums[name] for name in node.input), **attributes)
        elif node.op_type == "Relu" and node.input[0] in sums:
            sums[output] = sums[node.input[0]]._replace(steps=np.maximum(sums[node.input[0]].steps, 0))
        elif node.op_type in OPERATORS:
            inputs = [value(name) if name else None for name in node.input]
            values[output] = OPERATORS[node.op_type](*inputs, **attributes)
        else:
            raise NotInteger(f"{node.name}: the operator {node.op_type} is not known; known are {', '.join(OPERATORS)}")
    return value(graph.output[0].name)


def dequantized(q: Array, scale: Array, zero_point: Array | None = None, axis: int = 1) -> Steps:
    zero = np.int64(0) if zero_point is None else zero_point.astype(np.int64)
    if np.ndim(zero):
        zero = zero.reshape([-1 if index == axis else 1 for index in range(q.ndim)])
    return Steps(q.astype(np.int64) - zero, scale)


def real(x: Steps) -> Array:
    return x.steps.astype(np.float32) * along_channels(x.scale)


def along_channels(values: Array) -> Array:
    return values.reshape(-1, 1, 1) if np.ndim(values) else values


def requantized(x: Steps, scale: Array, zero_point: Array) -> Array:
    factor = along_channels((x.scale / scale).astype(np.float32))
    return saturated(np.rint(x.steps.astype(np.float32) * factor), zero_point)


def saturated(rounded: Array, zero_point: Array) -> Array:
    limits = np.iinfo(zero_point.dtype)
    return np.clip(rounded + zero_point.astype(np.float32), limits.min, limits.max).astype(zero_point.dtype)


def quantize(x: Array, scale: Array, zero_point: Array) -> Array:
    return saturated(np.rint(x / scale), zero_point)


def convolved(
    x: Steps, weight: Steps, bias: Steps | None = None, *, kernel_shape: list[int] | None = None,
    strides: tuple[int, int] = (1, 1), pads: tuple[int, ...] = (0, 0, 0, 0), dilations: tuple[int, int] = (1, 1),
    group: int = 1, auto_pad: bytes = b"NOTSET",
) -> Steps:  # fmt: skip
    """Sums of products of integers, (B, C, F, T) and (C', C/g, kF, kT) -> (B, C', F', T')."""
    assert auto_pad == b"NOTSET"
    (out, _, *kernel), w = weight.steps.shape, weight.steps
    padded = np.pad(x.steps, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    batch, _, *size = padded.shape
    freq, time = ((size[i] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1 for i in (0, 1))
    total = np.zeros((batch, out, freq, time), np.int64)
    for f, t in np.ndindex(*kernel):
        f0, t0 = f * dilations[0], t * dilations[1]
        part = padded[:, :, f0 : f0 + (freq - 1) * strides[0] + 1 : strides[0]]
        part = part[..., t0 : t0 + (time - 1) * strides[1] + 1 : strides[1]]
        if w.shape[1] == 1 and group == out:
            total += part * w[:, 0, f, t].reshape(-1, 1, 1)
        else:
            by_group = w[:, :, f, t].reshape(group, out // group, -1)  # (g, C'/g, C/g)
            products = by_group @ part.reshape(batch, group, -1, freq * time)
            total += products.reshape(total.shape)
    if bias is not None:
        total += bias.steps.reshape(-1, 1, 1)
    if np.abs(total).max() >= 2**31:
        raise NotInteger("a sum exceeds int32")
    return Steps(total, (x.scale * weight.scale).astype(np.float32))


def q_linear_conv(
    x: Array, x_scale: Array, x_zero: Array, w: Array, w_scale: Array, w_zero: Array, y_scale: Array, y_zero: Array,
    bias: Array | None = None, **attributes: Any,
) -> Array:  # fmt: skip
    summand = None if bias is None else Steps(bias.astype(np.int64), np.float32(1))
    total = convolved(dequantized(x, x_scale, x_zero), dequantized(w, w_scale, w_zero, axis=0), summand, **attributes)
    return requantized(total, y_scale, y_zero)


def max_pool(x: Array, kernel_shape: list[int], strides: list[int], pads: list[int], **_: Any) -> Array:
    low = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -np.inf
    padded = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])), constant_values=low)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel_shape, (2, 3))
    return windows[:, :, :: strides[0], :: strides[1]].max(axis=(-2, -1))


def instance_normalization(x: Array, gain: Array, shift: Array, epsilon: float) -> Array:
    axes, row = tuple(range(2, x.ndim)), (-1, *[1] * (x.ndim - 2))
    centred = x - x.mean(axis=axes, keepdims=True)
    scaled = centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + np.float32(epsilon))
    return scaled * gain.reshape(row) + shift.reshape(row)


def layer_normalization(x: Array, gain: Array, shift: Array, epsilon: float, axis: int) -> Array:
    assert axis in (-1, x.ndim - 1)
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(epsilon)) * gain + shift


def softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, at: Array | None = None, axes: Any = None, keepdims: int = 1) -> Array:
        axes = tuple(int(axis) for axis in (axes if at is None else at))
        return function(x, axis=axes, keepdims=bool(keepdims))

    return reduce


def reshape(x: Array, shape: Array, allowzero: int = 0) -> Array:
    assert not allowzero
    return x.reshape([x.shape[i] if size == 0 else int(size) for i, size in enumerate(shape)])


def sliced(x: Array, starts: Array, ends: Array, axes: Array, steps: Array | None = None) -> Array:
    places = [slice(None)] * x.ndim
    for axis, *limits in zip(axes, starts, ends, np.ones_like(starts) if steps is None else steps, strict=True):
        places[axis] = slice(*limits)
    return x[tuple(places)]


OPERATORS: dict[str, Callable[..., Array]] = {
    "QLinearConv": q_linear_conv,
    "QuantizeLinear": quantize,
    "Cast": lambda x, to: x.astype(onnx.helper.tensor_dtype_to_np_dtype(to)),
    "Add": np.add,
    "Mul": np.multiply,
    "Sub": np.subtract,
    "Div": np.divide,
    "Sqrt": np.sqrt,
    "Erf": lambda x: erf(x).astype(np.float32),
    "Tanh": np.tanh,
    "Relu": lambda x: np.maximum(x, 0),
    "PRelu": lambda x, slope: np.where(x < 0, slope * x, x),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "LeakyRelu": lambda x, alpha: np.where(x < 0, np.float32(alpha) * x, x),
    "Softmax": softmax,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "GlobalAveragePool": lambda x: x.mean(axis=(2, 3), keepdims=True),
    "ReduceMean": reduction(np.mean),
    "ReduceSum": reduction(np.sum),
    "ReduceMax": reduction(np.max),
    "ReduceL2": reduction(lambda x, **axes: np.sqrt(np.sum(x * x, **axes))),
    "MaxPool": max_pool,
    "Clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "Transpose": lambda x, perm: x.transpose(perm),
    "Reshape": reshape,
    "Flatten": lambda x, axis=1: x.reshape(*x.shape[:axis], -1),
    "Identity": lambda x: x,
    "Constant": lambda value: numpy_helper.to_array(value),
    "Tile": np.tile,
    "Shape": lambda x: np.array(x.shape),
    "Slice": sliced,
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes)),
    "ConstantOfShape": lambda shape, value: np.full(shape, numpy_helper.to_array(value)[0]),
}
