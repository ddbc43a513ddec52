"""Values of a C program: where their numbers are, or how each is computed from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Index = Sequence[str]  # a C expression for each axis
Shape = tuple[int, ...]
PER_LINE = 16


class Grid(NamedTuple):
    """What integers stand for: (integer - zero) * scale."""

    scale: np.float32
    zero: int


@dataclass(frozen=True)
class Value:
    """A map of one segment. Integers have a `grid`, reals have none."""

    shape: Shape
    at: Callable[[Index], str]  # index -> C expression of the number there
    buffers: frozenset[int] = frozenset()  # that the expression reads
    grid: Grid | None = None
    pointer: str | None = None  # to all numbers in order, if they lie so
    cheap: bool = True  # not worth to be stored, however often it is read
    table: tuple[Value, np.ndarray] | None = None  # of a real: the integers it is a function of, and its 256 results

    @property
    def integers(self) -> Grid:
        assert self.grid is not None
        return self.grid

    def spread(self, shape: Shape) -> Callable[[Index], str]:
        """`at` of an index into `shape`, which this one is broadcast to."""
        missing = len(shape) - len(self.shape)

        def at(index: Index) -> str:
            own = index[missing:]
            return self.at(["0" if size == 1 else place for place, size in zip(own, self.shape, strict=True)])

        return at

    def moved(self, shape: Shape, source: Callable[[Index], Index]) -> Value:
        """The numbers elsewhere: `source` tells where the one at an index came from."""
        return Value(shape, lambda index: self.at(source(index)), self.buffers, self.grid, None, self.cheap)

    def reshaped(self, shape: Shape) -> Value:
        if self.pointer is not None:
            return stored(self.pointer, shape, self.buffers, self.grid)
        if [size for size in shape if size > 1] == [size for size in self.shape if size > 1]:

            def same(index: Index) -> Index:
                places = iter([place for place, size in zip(index, shape, strict=True) if size > 1])
                return ["0" if size == 1 else next(places) for size in self.shape]

            return self.moved(shape, same)
        return self.moved(shape, lambda index: unravelled(linear(index, shape), self.shape))


def stored(pointer: str, shape: Shape, buffers: frozenset[int] = frozenset(), grid: Grid | None = None) -> Value:
    """Numbers in order at an address."""
    return Value(shape, lambda index: f"{pointer}[{linear(index, shape)}]", buffers, grid, pointer)


def linear(index: Index, shape: Shape) -> str:
    """The place in memory of an index, row by row."""
    place = "0"
    for one, size in zip(index, shape, strict=True):
        if size > 1:
            before = place if place.isalnum() else f"({place})"
            place = one if place == "0" else f"{before} * {size} + {one}"
    return place


def unravelled(place: str, shape: Shape) -> Index:
    """The index at a place in memory."""
    below = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
    return ["0" if size == 1 else f"({place}) / {step} % {size}" for size, step in zip(shape, below, strict=True)]


def less(text: str, zero: int) -> str:
    """Integers without their zero point."""
    return f"({text} - {zero})" if zero else text


def number(value: float | np.floating[Any]) -> str:
    """A float32 as C99 writes it without rounding."""
    return f"{float(np.float32(value)).hex()}f"


class Array(NamedTuple):
    """Constant numbers of a C type; `real` is float or double (log_mel.c)."""

    type: str
    numbers: np.ndarray

    @property
    def bytes(self) -> int:
        return self.numbers.size * (1 if self.type in ("int8_t", "uint8_t") else 4)

    def declared(self, name: str) -> str:
        write: dict[str, Callable[[Any], str]] = {"float": number, "real": lambda value: float(value).hex()}
        texts = [write.get(self.type, lambda value: str(int(value)))(value) for value in self.numbers.reshape(-1)]
        rows = [", ".join(texts[start : start + PER_LINE]) for start in range(0, len(texts), PER_LINE)]
        return f"static const {self.type} {name}[] = {{\n    " + ",\n    ".join(rows) + "};"
