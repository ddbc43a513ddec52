"""Layers of float networks, each of which knows the map it writes.

Forms: in the train form a convolution is followed by BatchNorm and re-parameterized blocks have parallel
branches; in the merged form (as paper 001 deploys) the branches are one kernel beside the identity and every other
BatchNorm stays; in the deploy form every group of layers that is one linear map is one convolution with a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from system.complexity import Map
from system.models.maps import sub_band_map

Form = Literal["train", "merged", "deploy"]
FORMS: tuple[Form, ...] = ("train", "merged", "deploy")

ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # name -> (module, parameters)
    "relu": (nn.ReLU, 0),
    "gelu": (nn.GELU, 0),
    "silu": (nn.SiLU, 0),
    "prelu": (lambda: nn.PReLU(1, init=0.2), 1),  # KT, Section 2.7: alpha 0.2
    "hardswish": (nn.Hardswish, 0),
    "tanh": (nn.Tanh, 0),
}


def activation_module(name: str | None) -> nn.Module:
    return nn.Identity() if name is None else ACTIVATIONS[name][0]()


class Counted:
    """A layer that is counted only: it knows the map it writes, and the row of its weights if it has any."""

    __slots__ = ("map", "row")

    def __init__(self, out: Map, row: int | None = None) -> None:
        self.map, self.row = out, row


class Mapped(nn.Module):
    """A module, or a group of layers, that knows the map it writes."""

    map: Map

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, Counted | Map):  # no module, no tensor: that torch need not ask makes counting faster
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


class Layer(Mapped):
    """One operator."""

    def __init__(self, out: Map) -> None:
        super().__init__()
        self.map = out


class ConvNormAct(Layer):
    """conv -> BatchNorm (train form) -> activation; the deploy form has the BatchNorm in the convolution."""

    def __init__(self, out: Map, conv: nn.Conv2d, norm: nn.Module, act: nn.Module) -> None:
        super().__init__(out)
        self.conv, self.norm, self.act = conv, norm, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))  # (B, C, F, T) -> (B, C', F', T')


class LayerScale(nn.Module):
    """A learned gain per channel, small at first, so that a block starts as the identity (paper 004, Section 2)."""

    def __init__(self, channels: int, start: float) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.full((channels,), start))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain[:, None, None]  # (B, C, F, T)


class BandNorm(Layer):
    """BatchNorm of each frequency band; in the deploy form a 1x1 depthwise convolution over bands."""

    def __init__(self, out: Map, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__(out)
        self.conv, self.norm = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x.transpose(1, 2))).transpose(1, 2)  # (B, C, F, T), bands as channels inside


class SubBandNorm(Layer):
    """Sub-spectral normalization (Chang et al. 2021): BatchNorm of each channel in each part of the frequency axis.

    Parts of channels are channels of their own inside; in the deploy form a 1x1 depthwise convolution over these.
    """

    def __init__(self, out: Map, sub_bands: int, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__(out)
        self.sub_bands, self.conv, self.norm = sub_bands, conv, norm

    def forward(self, x: Tensor) -> Tensor:
        y = x.reshape(-1, *sub_band_map(self.map, self.sub_bands))  # (B, C, F, T) -> (B, C*S, F/S, T)
        return self.conv(self.norm(y)).reshape(-1, *self.map)  # (B, C, F, T)


class NormConv(Layer):
    """BatchNorm -> conv without padding, so that the norm folds exactly (KT, Section 2.10)."""

    def __init__(self, out: Map, norm: nn.Module, conv: nn.Conv2d) -> None:
        super().__init__(out)
        self.norm, self.conv = norm, conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))  # (B, C, F, T) -> (B, C', F/s, T/s)


class Branches(Layer):
    """Parallel depthwise branches: activation(x + sum of norm(conv_k(x))) (paper 001, eq. 1 and Figure 3).

    In the merged form one convolution is left, without a norm, and the identity is still an addition.
    """

    def __init__(
        self, out: Map, convs: Sequence[nn.Conv2d], norms: Sequence[nn.Module], act: nn.Module, identity: bool = True
    ) -> None:
        super().__init__(out)
        self.convs, self.norms, self.act = nn.ModuleList(convs), nn.ModuleList(norms), act
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        total = x if self.identity else None
        for conv, norm in zip(self.convs, self.norms, strict=True):  # added one by one: fewer maps at once
            branch = norm(conv(x))  # (B, C, F, T)
            total = branch if total is None else total + branch
        return self.act(total)


class LinearPair(Layer):
    """1x1 expansion and projection without an activation between them: one linear map per position (paper 000)."""

    def __init__(self, expand: ConvNormAct, project: ConvNormAct, act: nn.Module) -> None:
        super().__init__(project.map)
        self.expand, self.project, self.act = expand, project, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.project(self.expand(x)))  # (B, C, F, T) -> (B, E*C, F, T) -> (B, C', F, T)


class NormAct(Layer):
    """A norm of NORMS, then an activation. (B, C, F, T) -> (B, C, F, T)"""

    def __init__(self, norm: Layer, act: nn.Module) -> None:
        super().__init__(norm.map)
        self.norm, self.act = norm, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(x))  # (B, C, F, T)


class Add(Layer):
    """activation(x + other).

    While training, x is left out of a clip with the probability `drop_path` (stochastic depth, Huang et al. 2016).
    """

    drop_path = 0.0

    def __init__(self, out: Map, act: nn.Module) -> None:
        super().__init__(out)
        self.act = act

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        if self.training and self.drop_path > 0:
            kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.drop_path)
            x = x * kept / (1 - self.drop_path)  # the expectation stays
        return self.act(x + other)


class Apply(Layer):
    """A parameter-free function of one map, or another module, as a layer."""

    def __init__(self, out: Map, function: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__(out)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Attend(Layer):
    """Self-attentive pooling over time: sum of x weighted by softmax(score)."""

    def forward(self, x: Tensor, score: Tensor) -> Tensor:
        return weighted_over_time(x, score)


def mean_over_map(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)  # (B, C, F, T) -> (B, C, 1, 1)


def mean_over_frequency(x: Tensor) -> Tensor:
    return x.mean(dim=2, keepdim=True)  # (B, C, F, T) -> (B, C, 1, T)


def mean_and_max(x: Tensor) -> Tensor:
    x = x.mean(dim=2, keepdim=True)  # (B, C, F, T) -> (B, C, 1, T)
    return x.amax(dim=3, keepdim=True) + x.mean(dim=3, keepdim=True)  # (B, C, 1, 1)


def weighted_over_time(x: Tensor, score: Tensor) -> Tensor:
    return (x * score.softmax(dim=-1)).sum(dim=-1, keepdim=True)  # (B, C, 1, T), (B, 1, 1, T) -> (B, C, 1, 1)


def stack_frequency(x: Tensor) -> Tensor:
    return x.flatten(1, 2).unsqueeze(2)  # (B, C, F, T) -> (B, C*F, 1, T)


def flatten_logits(x: Tensor) -> Tensor:
    return x.flatten(1)  # (B, classes, 1, 1) -> (B, classes)
