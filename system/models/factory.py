"""What a layer factory is: every network is defined once and built by any factory.

A layer is declared with the map it reads and knows the map it writes (`.map`), so that sizes are
checked when a network is declared. Factories: `FloatLayers` (float_layers.py, every form), `CostLayers`
(counting.py: counts instead of computing), and one per quantizer in the package `quant`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from system.complexity import Map
from system.models.maps import Pair


class LayerFactory(Protocol):
    """What a network asks for. Each method returns a callable layer with the attribute `map`."""

    def input(self, x: Map) -> Any: ...

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool | None = None, padding: Pair | None = None,
        scale: float | None = None, dilation: Pair = (1, 1),
    ) -> Any:  # fmt: skip
        """Convolution, BatchNorm if `norm`, layer scale from `scale`, activation.

        `bias`: None is a bias where no BatchNorm brings one. `padding`: half the dilated kernel if None.
        `scale`: where the gains per channel start; in place of a BatchNorm.
        """

    def band_norm(self, x: Map) -> Any:
        """BatchNorm of each frequency band."""

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> Any:
        """BatchNorm, then a convolution whose kernel is its stride (KT, Section 2.10)."""

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None, identity: bool = True) -> Any:
        """Parallel depthwise convolutions, each with BatchNorm, summed, with the identity; then the activation."""

    def linear_pair(self, x: Map, hidden: int, channels: int, act: str | None = None) -> Any:
        """Two 1x1 convolutions with BatchNorm and nothing between them: one when deployed; then the activation."""

    def add(self, x: Map, other: Map, act: str | None = None) -> Any: ...

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Any: ...

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Any: ...

    def norm(self, x: Map, kind: str, act: str | None = None) -> Any:
        """A normalization of NORMS that computes its statistics at inference; then the activation."""

    def sub_band_norm(self, x: Map, sub_bands: int) -> Any:
        """BatchNorm of each channel in each of so many equal parts of the frequency axis."""

    def global_average(self, x: Map) -> Any: ...

    def frequency_average(self, x: Map) -> Any:
        """(channels, freq, time) -> (channels, 1, time)"""

    def mean_and_max(self, x: Map) -> Any:
        """Mean over frequency, then maximum plus mean over time: (channels, 1, 1)."""

    def stack_frequency(self, x: Map) -> Any:
        """(channels, freq, time) -> (channels * freq, 1, time)"""

    def attend(self, x: Map, score: Map) -> Any:
        """Sum over time of x weighted by the softmax of the score: called with (x, score)."""

    def dropout(self, x: Map, p: float, channels: bool = False) -> Any:
        """Of single values, or of whole channels."""

    def output(self, x: Map) -> Any:
        """(batch, classes, 1, 1) -> (batch, classes)"""


def has_bias(asked: bool | None, norm: bool, folded: bool) -> bool:
    """Whether a convolution has a bias: as asked, else where no BatchNorm has one; a folded BatchNorm is one."""
    return folded or (not norm if asked is None else asked)


def largest(kernels: Sequence[Pair]) -> Pair:
    """The kernel that all others are padded to."""
    return (max(k[0] for k in kernels), max(k[1] for k in kernels))
