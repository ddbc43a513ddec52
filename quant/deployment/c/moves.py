"""Operators that move or compare numbers, integers or reals, as C. What only moves them is not stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from quant.deployment.c.reals import REDUCTIONS
from quant.deployment.c.statements import Statements, Step
from quant.deployment.c.values import Index, Value, linear, number

Move = Callable[[Statements, Step, Value], Value]


def _reshape(c: Statements, step: Step, x: Value) -> Value:
    return x.reshaped(step.shape)


def _transpose(c: Statements, step: Step, x: Value) -> Value:
    places = [step.attributes["perm"].index(axis) for axis in range(len(step.shape))]
    return x.moved(step.shape, lambda index: [index[place] for place in places])


def _slice(c: Statements, step: Step, x: Value) -> Value:
    starts, ends, axes, strides, *_ = [*(part.tolist() for part in step.known(1)), None, None]
    places = {}
    for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
        axis, stride = axes[place] if axes else place, strides[place] if strides else 1
        first = slice(start, end, stride).indices(x.shape[axis])[0]
        if (first, stride) != (0, 1):
            places[axis % len(x.shape)] = f"({{}}{f' * {stride}' if stride != 1 else ''} + {first})"
    return x.moved(step.shape, lambda index: [places.get(axis, "{}").format(at) for axis, at in enumerate(index)])


def _gather(c: Statements, step: Step, x: Value) -> Value:
    (chosen,), axis = step.known(1), step.attributes.get("axis", 0) % len(x.shape)
    table = c.array("int32_t", chosen % x.shape[axis])  # negative ones count from the end
    after = axis + chosen.ndim
    return x.moved(
        step.shape,
        lambda index: [*index[:axis], f"{table}[{linear(index[axis:after], chosen.shape)}]", *index[after:]],
    )


def _concat(c: Statements, step: Step, x: Value) -> Value:
    axis = step.attributes["axis"] % len(step.shape)
    c.begin(*step.inputs)
    result, first = c.memory(step.shape, x.grid), 0
    for part in step.inputs:

        def copied(index: Index, part: Value = part, first: int = first) -> Sequence[str]:
            there = [*index]
            there[axis] = f"({index[axis]} + {first})"
            return [f"{result.at(there)} = {part.at(index)};"]

        c.loop(part.shape, copied)
        first += part.shape[axis]
    return result


def _clip(c: Statements, step: Step, x: Value) -> Value:
    text = "{}"
    for limit, name in zip(step.known(1), ("larger", "smaller"), strict=False):
        text = f"{name}({text}, {number(limit.reshape(-1)[0])})"
    text = text if x.grid is None else f"(uint8_t){text}"
    return replace(x, at=lambda index: text.format(x.at(index)), pointer=None, table=None)


def _max_pool(c: Statements, step: Step, x: Value) -> Value:
    """What lies outside the map is not compared."""
    kernel, usual = step.attributes["kernel_shape"], {"strides": [1, 1], "dilations": [1, 1], "pads": [0, 0]}
    stride, dilation, pads = (step.attributes.get(key, value) for key, value in usual.items())
    x = c.simple(x)
    c.begin(x)
    result, (_, _, freq, time) = c.memory(step.shape, x.grid), x.shape
    kind, least = ("float", "-INFINITY") if x.grid is None else ("int", "0")

    def body(index: Index) -> Sequence[str]:
        f, t = (f"{index[2 + axis]} * {stride[axis]} + k{axis} * {dilation[axis]} - {pads[axis]}" for axis in (0, 1))
        taken = x.at([*index[:2], "f" if freq > 1 else "0", "t" if time > 1 else "0"])
        return [
            f"{kind} most = {least};",
            f"for (int k0 = 0; k0 < {kernel[0]}; k0++) for (int k1 = 0; k1 < {kernel[1]}; k1++) {{",
            f"    const int f = {f}, t = {t};",
            f"    if (f >= 0 && f < {freq} && t >= 0 && t < {time} && {taken} > most) most = {taken};",
            "}",
            f"{result.at(index)} = most;",
        ]

    c.loop(step.shape, body)
    return result


def _largest(c: Statements, step: Step, x: Value) -> Value:
    how = ("int", "0", "{x} > {sum} ? {x} : {sum}", "{sum}") if x.grid is not None else REDUCTIONS["ReduceMax"]
    return c.reduced(x, step.axes(), x.grid, *how).reshaped(step.shape)


MOVED: dict[str, Move] = {  # those of quant/program.py, but for Shape, which is known when the lines are written
    "Clip": _clip,
    "Concat": _concat,
    "Flatten": _reshape,
    "Gather": _gather,
    "Identity": lambda c, step, x: x,
    "MaxPool": _max_pool,
    "ReduceMax": _largest,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
