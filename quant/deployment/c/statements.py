"""Statements of C over maps: loops that write them, the memory they lie in, and the constants they read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from quant.deployment.c.memory import Buffer
from quant.deployment.c.values import Array, Grid, Index, Shape, Value, number, stored
from system.errors import RunError

TAB = "    "


class Step(NamedTuple):
    """An operator with its inputs and the shape of what it gives. `constants`: of each input, where it is known."""

    op: str
    inputs: list[Value]
    attributes: Mapping[str, Any]
    shape: Shape
    constants: list[np.ndarray | None]

    def known(self, first: int) -> list[np.ndarray]:
        """The constants from the `first` input on. Raises RunError where one is computed."""
        found = [value for value in self.constants[first:] if value is not None]
        if len(found) < len(self.constants) - first:
            raise RunError(f"{self.op} by numbers that are computed has no form in C")
        return found

    def axes(self) -> list[int]:
        """Of a reduction."""
        given = self.attributes["axes"] if "axes" in self.attributes else self.known(1)[0].tolist()
        return [int(axis) % len(self.inputs[0].shape) for axis in given]


class Statements:
    """`lines` of C, `arrays` of constants, and `buffers` of maps with the C type of their numbers in `types`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.arrays: dict[str, Array] = {}
        self.buffers: list[Buffer] = []
        self.types: list[str] = []
        self.row = 1  # int32 sums of the longest row of a convolution
        self.line = 0  # floats of the longest row that statistics are of
        self.now = 0

    def begin(self, *values: Value) -> None:
        """A statement, for which these must be there still."""
        self.now += 1
        for buffer in frozenset().union(*(value.buffers for value in values)):
            self.buffers[buffer].last = self.now

    def memory(self, shape: Shape, grid: Grid | None) -> Value:
        """A map that the statement writes."""
        name, (kind, size) = f"m{len(self.buffers)}", ("float", 4) if grid is None else ("uint8_t", 1)
        value = stored(name, shape, frozenset({len(self.buffers)}), grid)
        self.buffers.append(Buffer(size * int(np.prod(shape)), self.now, self.now))
        self.types.append(kind)
        return value

    def loop(self, shape: Shape, body: Callable[[Index], Sequence[str]]) -> None:
        """Lines for every index into `shape`."""
        index, depth = ["0" if size == 1 else f"i{axis}" for axis, size in enumerate(shape)], 1
        for place, size in zip(index, shape, strict=True):
            if size > 1:
                self.lines.append(f"{TAB * depth}for (int {place} = 0; {place} < {size}; {place}++)")
                depth += 1
        inside = body(index)
        block = len(inside) > 1
        self.lines += [TAB * (depth - 1) + "{"] * block
        self.lines += [TAB * depth + text for text in inside]
        self.lines += [TAB * (depth - 1) + "}"] * block

    def filled(self, shape: Shape, grid: Grid | None, at: Callable[[Index], str], *sources: Value) -> Value:
        """A map of which every number has an expression."""
        self.begin(*sources)
        result = self.memory(shape, grid)
        self.loop(shape, lambda index: [f"{result.at(index)} = {at(index)};"])
        return result

    def kept(self, value: Value) -> Value:
        return self.filled(value.shape, value.grid, value.at, value)

    def simple(self, value: Value) -> Value:
        """For what reads numbers more than once."""
        return value if value.cheap else self.kept(value)

    def pointer_of(self, value: Value) -> str:
        """To numbers in order, for the statement that begins; those that do not lie so are copied."""
        value = value if value.pointer is not None else self.kept(value)
        self.begin(value)
        assert value.pointer is not None
        return value.pointer

    def together(self, inputs: Sequence[Value], text: str) -> tuple[Shape, Callable[[Index], str], frozenset[int]]:
        """Number by number, broadcast to one shape; what would be computed for each of them again is stored."""
        shape = np.broadcast_shapes(*(value.shape for value in inputs))
        inputs = [value if value.shape == shape else self.simple(value) for value in inputs]
        spread, buffers = [value.spread(shape) for value in inputs], [value.buffers for value in inputs]
        return shape, lambda index: text.format(*(at(index) for at in spread)), frozenset().union(*buffers)

    def reduced(
        self, x: Value, axes: Sequence[int], grid: Grid | None, kind: str, start: str, more: str, last: str
    ) -> Value:
        """One number of all along some axes, which stay with a size of one.

        `more` is the next {sum} of the last one and {x}, `last` the result of {sum} and {n}, how many there were.
        """
        self.begin(x)
        inner = [(f"k{axis}", x.shape[axis]) for axis in axes if x.shape[axis] > 1]
        count = int(np.prod([size for _, size in inner]))
        result = self.memory(tuple(1 if axis in axes else size for axis, size in enumerate(x.shape)), grid)

        def body(index: Index) -> Sequence[str]:
            places = [f"k{axis}" if f"k{axis}" in dict(inner) else place for axis, place in enumerate(index)]
            one = f"sum = {more.format(sum='sum', x=x.at(places))};"
            return [f"{kind} sum = {start};", f"{loops(inner)}{one}",
                    f"{result.at(index)} = {last.format(sum='sum', n=count)};"]  # fmt: skip

        self.loop(result.shape, body)
        return result

    def array(self, kind: str, numbers: np.ndarray) -> str:
        """The name of a constant array of the file."""
        name = f"c{len(self.arrays)}"
        self.arrays[name] = Array(kind, np.asarray(numbers).reshape(-1))
        return name

    def constant(self, numbers: np.ndarray) -> Value:
        """Of reals."""
        if numbers.size == 1:
            text = number(numbers.reshape(-1)[0])
            return Value(numbers.shape, lambda index: text)
        return stored(self.array("float", numbers), numbers.shape)

    def used_arrays(self, result: str) -> dict[str, Array]:
        """Those that the lines or the expression of the `result` read, not what was only needed to write them."""
        names = set(re.findall(r"\bc\d+\b", "\n".join([*self.lines, result])))
        return {name: array for name, array in self.arrays.items() if name in names}


def loops(inner: Sequence[tuple[str, int]]) -> str:
    return "".join(f"for (int {place} = 0; {place} < {size}; {place}++) " for place, size in inner)
