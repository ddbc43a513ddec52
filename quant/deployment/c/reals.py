"""Operators on reals as C. Most are not stored: they are computed where they are rounded to integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from quant import integer
from quant.deployment.c.statements import Statements, Step, loops
from quant.deployment.c.values import Index, Shape, Value, less, number
from system.errors import RunError


class Elementwise(NamedTuple):
    """An operator, number by number: as C, and as torch for tables. `attributes` follow its inputs."""

    c: str
    torch: Callable[..., Tensor]
    attributes: dict[str, float] = {}  # noqa: RUF012 (name -> ONNX's default)


def _leaky(x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


ELEMENTWISE = {
    "Add": Elementwise("({0} + {1})", torch.add),
    "Div": Elementwise("({0} / {1})", torch.div),
    "Erf": Elementwise("erff({0})", torch.erf),
    "Exp": Elementwise("expf({0})", torch.exp),
    "HardSigmoid": Elementwise(
        "hard_sigmoid({0}, {1}, {2})", lambda x, a, b: (a * x + b).clamp(0, 1), {"alpha": 0.2, "beta": 0.5}
    ),
    "HardSwish": Elementwise("hard_swish({0})", F.hardswish),
    "LeakyRelu": Elementwise("leaky({0}, {1})", _leaky, {"alpha": 0.01}),
    "Mul": Elementwise("({0} * {1})", torch.mul),
    "Neg": Elementwise("(-{0})", torch.neg),
    "PRelu": Elementwise("leaky({0}, {1})", _leaky),
    "Pow": Elementwise("powf({0}, {1})", torch.pow),
    "Relu": Elementwise("larger({0}, 0.0f)", torch.relu),
    "Round": Elementwise("rintf({0})", torch.round),
    "Sigmoid": Elementwise("sigmoid({0})", torch.sigmoid),
    "Sqrt": Elementwise("sqrtf({0})", integer.root),
    "Sub": Elementwise("({0} - {1})", torch.sub),
    "Tanh": Elementwise("tanhf({0})", torch.tanh),
}
REDUCTIONS = {  # type, start, what one more number makes of it, and the result (Statements.reduced)
    "ReduceMax": ("float", "-INFINITY", "larger({sum}, {x})", "{sum}"),
    "ReduceMean": ("float", "0.0f", "{sum} + {x}", "{sum} / {n}.0f"),
    "ReduceSum": ("float", "0.0f", "{sum} + {x}", "{sum}"),
    "ReduceL2": ("double", "0.0", "{sum} + (double){x} * {x}", "sqrtf((float){sum})"),
}


def dequantized(x: Value) -> Value:
    """DequantizeLinear"""
    grid = x.integers
    scale = "" if grid.scale == 1 else f" * {number(grid.scale)}"
    results = (np.arange(256, dtype=np.float32) - np.float32(grid.zero)) * grid.scale
    return Value(
        x.shape, lambda index: f"((float){less(x.at(index), grid.zero)}{scale})", x.buffers, table=(x, results)
    )


def real(c: Statements, step: Step) -> Value:
    """Raises RunError for an operator that has no form here."""
    x = step.inputs[0]
    if step.op in ELEMENTWISE:
        return _elementwise(c, step)
    if step.op in REDUCTIONS:
        return c.reduced(x, step.axes(), None, *REDUCTIONS[step.op]).reshaped(step.shape)
    if step.op not in WHOLE_MAPS:
        raise RunError(f"{step.op} has no form in C; there are {', '.join(sorted(KNOWN))}")
    return WHOLE_MAPS[step.op](c, step, x)


def _elementwise(c: Statements, step: Step) -> Value:
    form, inputs = ELEMENTWISE[step.op], step.inputs
    if form.c.count("{") > len(inputs):  # a slope that is learned is an input
        numbers = [step.attributes.get(name, usual) for name, usual in form.attributes.items()]
        inputs = [*inputs, *(c.constant(np.array(value)) for value in numbers)]
    shape, at, buffers = c.together(inputs, form.c)
    return Value(shape, at, buffers, cheap=False, table=_tabulated(form, inputs, shape))


def _tabulated(form: Elementwise, inputs: Sequence[Value], shape: Shape) -> tuple[Value, np.ndarray] | None:
    """A function of one map of integers, and of numbers that are the same everywhere, is a table."""
    tables = [value.table if value.shape == shape else None for value in inputs]
    sources = [table[0] for table in tables if table is not None]
    if not sources or any(source is not sources[0] for source in sources):
        return None
    arguments = []
    for value, table in zip(inputs, tables, strict=True):
        if table is None and (int(np.prod(value.shape)) > 1 or value.buffers):
            return None
        text = value.at(["0"] * len(value.shape)).rstrip("f")
        arguments.append(torch.tensor(float.fromhex(text)) if table is None else torch.from_numpy(table[1]))
    return sources[0], form.torch(*arguments).numpy()


def _global_average(c: Statements, step: Step, x: Value) -> Value:
    return c.reduced(x, (2, 3), None, *REDUCTIONS["ReduceMean"])


def _softmax(c: Statements, step: Step, x: Value) -> Value:
    last = len(x.shape) - 1
    if step.attributes.get("axis", -1) % len(x.shape) != last:
        raise RunError("Softmax over another axis than the last has no form in C")
    result, size = c.kept(x), x.shape[-1]
    c.loop((int(np.prod(x.shape[:-1])),), lambda index: [f"softmax({result.pointer} + {index[0]} * {size}, {size});"])
    return result


def _instance_norm(c: Statements, step: Step, x: Value) -> Value:
    """Of a norm that multiplies by one and adds zero, as those of frequency bands do."""
    gain, shift = step.known(1)
    if not ((gain == 1).all() and (shift == 0).all()):
        raise RunError("InstanceNormalization with gains has no form in C")
    x = c.simple(x)
    mean, inverse = _statistics(c, "instance_statistics", x, 2, step.attributes.get("epsilon", 1e-5))

    def at(index: Index) -> str:
        row = index[:2]
        return f"({x.at(index)} * {inverse.at(row)} - {mean.at(row)} * {inverse.at(row)})"

    return Value(x.shape, at, x.buffers | mean.buffers | inverse.buffers, cheap=False)


def _layer_norm(c: Statements, step: Step, x: Value) -> Value:
    x, gain, shift = c.simple(x), *step.inputs[1:]
    mean, inverse = _statistics(c, "layer_statistics", x, len(x.shape) - 1, step.attributes.get("epsilon", 1e-5))

    def at(index: Index) -> str:
        row, channel = index[:-1], index[-1:]
        centred = f"({x.at(index)} - {mean.at(row)}) * {inverse.at(row)}"
        return f"fmaf({centred}, {gain.at(channel)}, {shift.at(channel)})"

    return Value(x.shape, at, x.buffers | mean.buffers | inverse.buffers, cheap=False)


def _statistics(c: Statements, kernel: str, x: Value, kept: int, eps: float) -> tuple[Value, Value]:
    """(mean, one over the standard deviation) of the numbers behind each index into the first `kept` axes."""
    c.begin(x)
    outer, inner = x.shape[:kept], x.shape[kept:]
    mean, inverse = c.memory(outer, None), c.memory(outer, None)
    c.line = max(c.line, int(np.prod(inner)))
    places = ["0" if size == 1 else f"k{axis}" for axis, size in enumerate(inner)]
    around = loops([(place, size) for place, size in zip(places, inner, strict=True) if size > 1])

    def body(index: Index) -> Sequence[str]:
        return ["int n = 0;", f"{around}line[n++] = {x.at([*index, *places])};",
                f"{kernel}(line, n, {number(eps)}, &{mean.at(index)}, &{inverse.at(index)});"]  # fmt: skip

    c.loop(outer, body)
    return mean, inverse


WHOLE_MAPS: dict[str, Callable[[Statements, Step, Value], Value]] = {
    "GlobalAveragePool": _global_average,
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": _layer_norm,
    "Softmax": _softmax,
}
KNOWN = {*ELEMENTWISE, *REDUCTIONS, *WHOLE_MAPS}
