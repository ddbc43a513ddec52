"""The layer factory that counts instead of computing: the cost of a network by arithmetic over its spec."""

from __future__ import annotations

from collections.abc import Sequence

from system import complexity
from system.complexity import LayerCost, Map
from system.models.layers import ACTIVATIONS, NORMS, Form, Pair, conv_map, largest, same_padding


class Counted:
    """A layer that only knows the map it writes."""

    __slots__ = ("map",)

    def __init__(self, out: Map) -> None:
        self.map = out


class CostLayers:
    """Records one LayerCost per operator, in the order of declaration, under `rows`."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.rows: list[LayerCost] = []

    def _record(self, row: LayerCost) -> Map:
        self.rows.append(row)
        return row.output

    def _activate(self, x: Map, act: str | None) -> Counted:
        if act is not None:
            x = self._record(complexity.activation(x, act, ACTIVATIONS[act][1]))
        return Counted(x)

    def input(self, x: Map) -> Counted:
        return Counted(x)

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool = True,
    ) -> Counted:  # fmt: skip
        folded = norm and self.form == "deploy"
        y = conv_map(x, channels, kernel, stride, same_padding(kernel))
        y = self._record(complexity.convolution(x, y, kernel, groups, folded or (bias and not norm)))
        if norm and not folded:
            y = self._record(complexity.batch_norm(y))
        return self._activate(y, act)

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> Counted:
        if self.form != "deploy":
            x = self._record(complexity.batch_norm(x))
        y = conv_map(x, channels, stride, stride, (0, 0), "downsampling")
        return Counted(self._record(complexity.convolution(x, y, stride, 1, True)))

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None) -> Counted:
        if self.form != "train":
            y = self._record(complexity.convolution(x, Map(*x), largest(kernels), x.channels, True))
            return self._activate(y, act)
        y = x
        for kernel in kernels:
            branch = self._record(complexity.convolution(x, Map(*x), kernel, x.channels, False))
            branch = self._record(complexity.batch_norm(branch))
            y = self._record(complexity.addition(y, branch))
        return self._activate(y, act)

    def add(self, x: Map, other: Map, act: str | None = None) -> Counted:
        return self._activate(self._record(complexity.addition(x, other)), act)

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Counted:
        y = conv_map(x, x.channels, kernel, stride, padding, "pooling")
        return Counted(self._record(complexity.pooling(x, y, kernel)))

    avg_pool = max_pool

    def norm(self, x: Map, kind: str) -> Counted:
        return Counted(x if NORMS[kind] is None else self._record(complexity.residual_norm(x)))

    def global_average(self, x: Map) -> Counted:
        return Counted(self._record(complexity.mean(x, Map(x.channels, 1, 1))))

    def stack_frequency(self, x: Map) -> Counted:
        return Counted(self._record(complexity.reshape(x, Map(x.channels * x.freq, 1, x.time))))

    def attend(self, x: Map, score: Map) -> Counted:
        return Counted(self._record(complexity.weighted_sum(x, score, Map(x.channels, 1, 1))))

    def dropout(self, x: Map, p: float) -> Counted:
        return Counted(x)

    def output(self, x: Map) -> Counted:
        return Counted(x)
