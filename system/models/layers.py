"""The layer factory: every network is defined once and built by any factory.

A layer is declared with the map it reads and knows the map it writes (`.map`), so that sizes are
checked when a network is declared. Factories: `FloatLayers` here (train and deploy form), `CostLayers`
(counts instead of computing), and one per quantizer in the package `quant`.

Forms: in the train form a convolution is followed by BatchNorm and re-parameterized blocks have parallel
branches; in the merged form (as paper 001 deploys) the branches are one kernel and every other BatchNorm stays;
in the deploy form every such group is one convolution with a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from system.complexity import Map
from system.errors import ConfigError
from system.registry import Registry

Pair = tuple[int, int]
Form = Literal["train", "merged", "deploy"]
FORMS: tuple[Form, ...] = ("train", "merged", "deploy")

ACTIVATIONS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # name -> (module, parameters)
    "relu": (nn.ReLU, 0),
    "gelu": (nn.GELU, 0),
    "silu": (nn.SiLU, 0),
    "prelu": (lambda: nn.PReLU(1, init=0.2), 1),  # KT, Section 2.7: alpha 0.2
    "tanh": (nn.Tanh, 0),
}


class LayerFactory(Protocol):
    """What a network asks for. Each method returns a callable layer with the attribute `map`."""

    def input(self, x: Map) -> Any: ...

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool = True,
    ) -> Any:  # fmt: skip
        """Convolution, BatchNorm if `norm` (else a bias if `bias`), activation."""

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> Any:
        """BatchNorm, then a convolution whose kernel is its stride (KT, Section 2.10)."""

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None) -> Any:
        """Identity + parallel depthwise convolutions, each with BatchNorm; then the activation."""

    def add(self, x: Map, other: Map, act: str | None = None) -> Any: ...

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Any: ...

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Any: ...

    def norm(self, x: Map, kind: str) -> Any:
        """A normalization of NORMS that computes its statistics at inference."""

    def global_average(self, x: Map) -> Any: ...

    def stack_frequency(self, x: Map) -> Any:
        """(channels, freq, time) -> (channels * freq, 1, time)"""

    def attend(self, x: Map, score: Map) -> Any:
        """Sum over time of x weighted by the softmax of the score: called with (x, score)."""

    def dropout(self, x: Map, p: float) -> Any: ...

    def output(self, x: Map) -> Any:
        """(batch, classes, 1, 1) -> (batch, classes)"""


def conv_map(x: Map, channels: int, kernel: Pair, stride: Pair, padding: Pair, what: str = "convolution") -> Map:
    """The map a sliding kernel writes. Raises ConfigError if nothing is left of it."""
    freq = (x.freq + 2 * padding[0] - kernel[0]) // stride[0] + 1
    time = (x.time + 2 * padding[1] - kernel[1]) // stride[1] + 1
    if min(freq, time) < 1 or stride[0] > x.freq or stride[1] > x.time:
        raise ConfigError(
            f"model: a {what} with kernel {kernel[0]}x{kernel[1]} and stride {stride[0]}x{stride[1]} (freq x time) "
            f"does not fit a map of {x.freq}x{x.time}; use smaller strides or more mel bands and frames"
        )
    return Map(channels, freq, time)


def same_padding(kernel: Pair) -> Pair:
    """Half the kernel; keeps the size for odd kernels at stride 1."""
    return ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)


def activation_module(name: str | None) -> nn.Module:
    return nn.Identity() if name is None else ACTIVATIONS[name][0]()


class Mapped(nn.Module):
    """A module, or a group of layers, that knows the map it writes."""

    map: Map


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


class NormConv(Layer):
    """BatchNorm -> conv without padding, so that the norm folds exactly (KT, Section 2.10)."""

    def __init__(self, out: Map, norm: nn.Module, conv: nn.Conv2d) -> None:
        super().__init__(out)
        self.norm, self.conv = norm, conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))  # (B, C, F, T) -> (B, C', F/s, T/s)


class Branches(Layer):
    """Train form of parallel depthwise branches: activation(x + sum of BN(conv_k(x))) (paper 001, eq. 1)."""

    def __init__(self, out: Map, convs: Sequence[nn.Conv2d], act: nn.Module) -> None:
        super().__init__(out)
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(nn.BatchNorm2d(out.channels) for _ in convs)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for conv, norm in zip(self.convs, self.norms, strict=True):
            y = y + norm(conv(x))  # (B, C, F, T)
        return self.act(y)


class ResNorm(Layer):
    """Residual normalization (Kim et al., DCASE 2021): lambda x + x normalized per sample and frequency band."""

    weight = 0.1
    eps = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(dim=(1, 3), keepdim=True)  # statistics over channels and time: (B, 1, F, 1)
        variance = (centred * centred).mean(dim=(1, 3), keepdim=True)
        return self.weight * x + centred / torch.sqrt(variance + self.eps)


class Add(Layer):
    def __init__(self, out: Map, act: nn.Module) -> None:
        super().__init__(out)
        self.act = act

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
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
        return (x * score.softmax(dim=-1)).sum(dim=-1, keepdim=True)  # (B, C, 1, T), (B, 1, 1, T) -> (B, C, 1, 1)


def mean_over_map(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)  # (B, C, F, T) -> (B, C, 1, 1)


def stack_frequency(x: Tensor) -> Tensor:
    return x.flatten(1, 2).unsqueeze(2)  # (B, C, F, T) -> (B, C*F, 1, T)


def flatten_logits(x: Tensor) -> Tensor:
    return x.flatten(1)  # (B, classes, 1, 1) -> (B, classes)


NORMS: Registry[type[Layer] | None] = Registry("norm")
NORMS.add("batch")(None)  # nothing at inference: BatchNorm is in the convolutions
NORMS.add("resnorm")(ResNorm)


class FloatLayers:
    """Builds float modules in one of the three forms."""

    def __init__(self, form: Form) -> None:
        self.form = form

    def input(self, x: Map) -> nn.Module:
        return Apply(x, nn.Identity())

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool = True,
    ) -> nn.Module:  # fmt: skip
        padding = same_padding(kernel)
        out = conv_map(x, channels, kernel, stride, padding)
        folded = norm and self.form == "deploy"
        conv = nn.Conv2d(
            x.channels, channels, kernel, stride, padding, groups=groups, bias=folded or (bias and not norm)
        )
        after = nn.BatchNorm2d(channels) if norm and not folded else nn.Identity()
        return ConvNormAct(out, conv, after, activation_module(act))

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> nn.Module:
        out = conv_map(x, channels, stride, stride, (0, 0), "downsampling")
        before = nn.Identity() if self.form == "deploy" else nn.BatchNorm2d(x.channels)
        return NormConv(out, before, nn.Conv2d(x.channels, channels, stride, stride))

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None) -> nn.Module:
        def depthwise(kernel: Pair, bias: bool) -> nn.Conv2d:
            return nn.Conv2d(x.channels, x.channels, kernel, padding=same_padding(kernel), groups=x.channels, bias=bias)

        out = Map(*x)
        if self.form == "train":
            return Branches(out, [depthwise(k, bias=False) for k in kernels], activation_module(act))
        return ConvNormAct(out, depthwise(largest(kernels), bias=True), nn.Identity(), activation_module(act))

    def add(self, x: Map, other: Map, act: str | None = None) -> nn.Module:
        return Add(Map(*x), activation_module(act))

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        return Apply(conv_map(x, x.channels, kernel, stride, padding, "pooling"), nn.MaxPool2d(kernel, stride, padding))

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        return Apply(conv_map(x, x.channels, kernel, stride, padding, "pooling"), nn.AvgPool2d(kernel, stride, padding))

    def norm(self, x: Map, kind: str) -> nn.Module:
        layer = NORMS[kind]
        return Apply(x, nn.Identity()) if layer is None else layer(Map(*x))

    def global_average(self, x: Map) -> nn.Module:
        return Apply(Map(x.channels, 1, 1), mean_over_map)

    def stack_frequency(self, x: Map) -> nn.Module:
        return Apply(Map(x.channels * x.freq, 1, x.time), stack_frequency)

    def attend(self, x: Map, score: Map) -> nn.Module:
        return Attend(Map(x.channels, 1, 1))

    def dropout(self, x: Map, p: float) -> nn.Module:
        return Apply(x, nn.Dropout(p))

    def output(self, x: Map) -> nn.Module:
        return Apply(x, flatten_logits)


def largest(kernels: Sequence[Pair]) -> Pair:
    """The kernel that all others are padded to."""
    return (max(k[0] for k in kernels), max(k[1] for k in kernels))
