"""The layer factory that counts instead of computing: the cost of a network by arithmetic over its spec."""

from __future__ import annotations

from collections.abc import Sequence

from system import complexity
from system.complexity import LayerCost, Map
from system.models.factory import has_bias, largest
from system.models.layers import ACTIVATIONS, Counted, Form
from system.models.maps import Pair, conv_map, dilated, same_padding, sub_band_map
from system.models.norms import NORMS


class CostLayers:
    """Records one LayerCost per operator, in the order of declaration, under `rows`."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.rows: list[LayerCost] = []

    def _record(self, row: LayerCost, window: Pair = (1, 1), stride: Pair = (1, 1)) -> Map:
        self.rows.append(row if window == stride == (1, 1) else row._replace(window=window, stride=stride))
        return row.output

    def _rearranged(self, row: LayerCost, x: Map) -> Counted:
        """A row over the values of `x` in other places: what it reads and writes are two maps of that shape."""
        return Counted(self._record(row._replace(inputs=(x,), output=Map(*x))), len(self.rows) - 1)

    def _activate(self, x: Map, act: str | None, row: int | None = None) -> Counted:
        if act is not None:
            x = self._record(complexity.activation(x, act, ACTIVATIONS[act][1]))
        return Counted(x, row)

    def input(self, x: Map) -> Counted:
        return Counted(x)

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool | None = None, padding: Pair | None = None,
        scale: float | None = None, dilation: Pair = (1, 1),
    ) -> Counted:  # fmt: skip
        row, folded, size = len(self.rows), norm and self.form == "deploy", dilated(kernel, dilation)
        y = conv_map(x, channels, size, stride, same_padding(size) if padding is None else padding)
        y = self._record(complexity.convolution(x, y, kernel, groups, has_bias(bias, norm, folded)), size, stride)
        if norm and not folded:
            y = self._record(complexity.batch_norm(y))
        if scale is not None and self.form != "deploy":
            y = self._record(complexity.layer_scale(y))
        return self._activate(y, act, row)

    def band_norm(self, x: Map) -> Counted:
        bands = Map(x.freq, x.channels, x.time)
        if self.form == "deploy":
            row = complexity.convolution(bands, bands, (1, 1), x.freq, True)
        else:
            row = complexity.batch_norm(bands)
        return self._rearranged(row, x)

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> Counted:
        if self.form != "deploy":
            x = self._record(complexity.batch_norm(x))
        y = conv_map(x, channels, stride, stride, (0, 0), "downsampling")
        y = self._record(complexity.convolution(x, y, stride, 1, True), stride, stride)
        return Counted(y, len(self.rows) - 1)

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None, identity: bool = True) -> Counted:
        sizes = kernels if self.form == "train" else [largest(kernels)]
        identity = identity and self.form != "deploy"  # there it is in the kernel's centre
        first, y = len(self.rows), x if identity else None
        for kernel in sizes:
            row = complexity.convolution(x, Map(*x), kernel, x.channels, self.form != "train")
            branch = self._record(row, kernel)
            if self.form == "train":
                branch = self._record(complexity.batch_norm(branch))
            y = branch if y is None else self._record(complexity.addition(y, branch))
        assert y is not None
        return self._activate(y, act, first)

    def linear_pair(self, x: Map, hidden: int, channels: int, act: str | None = None) -> Counted:
        return self.conv(x if self.form == "deploy" else self.conv(x, hidden).map, channels, act=act)

    def add(self, x: Map, other: Map, act: str | None = None) -> Counted:
        return self._activate(self._record(complexity.addition(x, other)), act)

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Counted:
        y = conv_map(x, x.channels, kernel, stride, padding, "pooling")
        return Counted(self._record(complexity.pooling(x, y, kernel, quantizers=0), kernel, stride))

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Counted:
        y = conv_map(x, x.channels, kernel, stride, padding, "pooling")
        return Counted(self._record(complexity.pooling(x, y, kernel, quantizers=1), kernel, stride))

    def norm(self, x: Map, kind: str, act: str | None = None) -> Counted:
        norm = NORMS[kind]
        return self._activate(x if norm is None else self._record(norm.cost(x)), act)

    def sub_band_norm(self, x: Map, sub_bands: int) -> Counted:
        parts = sub_band_map(x, sub_bands)
        if self.form == "deploy":
            row = complexity.convolution(parts, parts, (1, 1), parts.channels, True)
        else:
            row = complexity.batch_norm(parts)
        return self._rearranged(row, x)

    def global_average(self, x: Map) -> Counted:
        return Counted(self._record(complexity.mean(x, Map(x.channels, 1, 1))))

    def frequency_average(self, x: Map) -> Counted:
        return Counted(self._record(complexity.mean(x, Map(x.channels, 1, x.time)), (x.freq, 1)))

    def mean_and_max(self, x: Map) -> Counted:
        return Counted(self._record(complexity.mean_and_max(x, Map(x.channels, 1, 1))))

    def stack_frequency(self, x: Map) -> Counted:
        return Counted(self._record(complexity.reshape(x, Map(x.channels * x.freq, 1, x.time))))

    def attend(self, x: Map, score: Map) -> Counted:
        return Counted(self._record(complexity.weighted_sum(x, score, Map(x.channels, 1, 1))))

    def dropout(self, x: Map, p: float, channels: bool = False) -> Counted:
        return Counted(x)

    def output(self, x: Map) -> Counted:
        return Counted(x)
