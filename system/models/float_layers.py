"""The factory of float networks, in train, merged and deploy form."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from system.complexity import Map
from system.models.factory import has_bias, largest
from system.models.layers import (
    Add,
    Apply,
    Attend,
    BandNorm,
    Branches,
    ConvNormAct,
    Form,
    LayerScale,
    LinearPair,
    NormAct,
    NormConv,
    SubBandNorm,
    activation_module,
    flatten_logits,
    mean_and_max,
    mean_over_frequency,
    mean_over_map,
    stack_frequency,
)
from system.models.maps import Pair, conv_map, dilated, same_padding, sub_band_map
from system.models.norms import NORMS


class FloatLayers:
    """Builds float modules in one of the three forms."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def input(self, x: Map) -> nn.Module:
        return Apply(x, nn.Identity())

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool | None = None, padding: Pair | None = None,
        scale: float | None = None, dilation: Pair = (1, 1),
    ) -> ConvNormAct:  # fmt: skip
        size = dilated(kernel, dilation)
        padding = same_padding(size) if padding is None else padding
        out = conv_map(x, channels, size, stride, padding)
        folded = norm and self.form == "deploy"
        biased = has_bias(bias, norm, folded)
        conv = nn.Conv2d(x.channels, channels, kernel, stride, padding, dilation, groups, biased)
        after: nn.Module = nn.Identity()
        if self.form != "deploy" and (norm or scale is not None):
            after = LayerScale(channels, scale) if scale is not None else nn.BatchNorm2d(channels)
        return ConvNormAct(out, conv, after, activation_module(act))

    def band_norm(self, x: Map) -> nn.Module:
        if self.form == "deploy":
            return BandNorm(Map(*x), nn.Conv2d(x.freq, x.freq, 1, groups=x.freq), nn.Identity())
        return BandNorm(Map(*x), nn.Identity(), nn.BatchNorm2d(x.freq))

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> nn.Module:
        out = conv_map(x, channels, stride, stride, (0, 0), "downsampling")
        before = nn.Identity() if self.form == "deploy" else nn.BatchNorm2d(x.channels)
        return NormConv(out, before, nn.Conv2d(x.channels, channels, stride, stride))

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None, identity: bool = True) -> nn.Module:
        def depthwise(kernel: Pair, bias: bool) -> nn.Conv2d:
            return nn.Conv2d(x.channels, x.channels, kernel, padding=same_padding(kernel), groups=x.channels, bias=bias)

        out, after = Map(*x), activation_module(act)
        if self.form == "train":
            convs = [depthwise(kernel, bias=False) for kernel in kernels]
            return Branches(out, convs, [nn.BatchNorm2d(x.channels) for _ in convs], after, identity)
        merged = depthwise(largest(kernels), bias=True)
        if self.form == "merged":
            return Branches(out, [merged], [nn.Identity()], after, identity)
        return ConvNormAct(out, merged, nn.Identity(), after)  # the identity is in the kernel's centre

    def linear_pair(self, x: Map, hidden: int, channels: int, act: str | None = None) -> nn.Module:
        if self.form == "deploy":
            return self.conv(x, channels, act=act)
        expand = self.conv(x, hidden)
        return LinearPair(expand, self.conv(expand.map, channels), activation_module(act))

    def add(self, x: Map, other: Map, act: str | None = None) -> nn.Module:
        return Add(Map(*x), activation_module(act))

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        return Apply(conv_map(x, x.channels, kernel, stride, padding, "pooling"), nn.MaxPool2d(kernel, stride, padding))

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        return Apply(conv_map(x, x.channels, kernel, stride, padding, "pooling"), nn.AvgPool2d(kernel, stride, padding))

    def norm(self, x: Map, kind: str, act: str | None = None) -> nn.Module:
        norm = NORMS[kind]
        layer = Apply(x, nn.Identity()) if norm is None else norm.layer(Map(*x))
        return layer if act is None else NormAct(layer, activation_module(act))

    def sub_band_norm(self, x: Map, sub_bands: int) -> nn.Module:
        channels = sub_band_map(x, sub_bands).channels
        if self.form == "deploy":
            conv = nn.Conv2d(channels, channels, 1, groups=channels)
            return SubBandNorm(Map(*x), sub_bands, conv, nn.Identity())
        return SubBandNorm(Map(*x), sub_bands, nn.Identity(), nn.BatchNorm2d(channels))

    def global_average(self, x: Map) -> nn.Module:
        return Apply(Map(x.channels, 1, 1), mean_over_map)

    def frequency_average(self, x: Map) -> nn.Module:
        return Apply(Map(x.channels, 1, x.time), mean_over_frequency)

    def mean_and_max(self, x: Map) -> nn.Module:
        return Apply(Map(x.channels, 1, 1), mean_and_max)

    def stack_frequency(self, x: Map) -> nn.Module:
        return Apply(Map(x.channels * x.freq, 1, x.time), stack_frequency)

    def attend(self, x: Map, score: Map) -> nn.Module:
        return Attend(Map(x.channels, 1, 1))

    def dropout(self, x: Map, p: float, channels: bool = False) -> nn.Module:
        return Apply(x, nn.Dropout2d(p) if channels else nn.Dropout(p))

    def output(self, x: Map) -> nn.Module:
        return Apply(x, flatten_logits)
