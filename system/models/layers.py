"""Layers, and what a layer factory is: every network is defined once and built by any factory.

A layer is declared with the map it reads and knows the map it writes (`.map`), so that sizes are
checked when a network is declared. Factories: `FloatLayers` (float_layers.py, every form), `CostLayers`
(counting.py: counts instead of computing), and one per quantizer in the package `quant`.

Forms: in the train form a convolution is followed by BatchNorm and re-parameterized blocks have parallel
branches; in the merged form (as paper 001 deploys) the branches are one kernel beside the identity and every other
BatchNorm stays; in the deploy form every group of layers that is one linear map is one convolution with a bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from system.complexity import Map
from system.errors import ConfigError

Pair = tuple[int, int]
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


class MapError(ConfigError):
    """A size that the map cannot take: `part` says which, the kernel or the stride."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@contextmanager
def asked_by(**fields: str) -> Iterator[None]:
    """Let a kernel or stride that the map cannot take name the field of the spec that asks for it."""
    try:
        yield
    except MapError as error:
        raise ConfigError(f"{fields[error.part]}: {error}") from None


def conv_map(x: Map, channels: int, kernel: Pair, stride: Pair, padding: Pair, what: str = "convolution") -> Map:
    """The map a sliding kernel writes. Raises MapError if nothing is left of it."""
    freq = (x.freq + 2 * padding[0] - kernel[0]) // stride[0] + 1
    time = (x.time + 2 * padding[1] - kernel[1]) // stride[1] + 1
    too_far = stride[0] > x.freq or stride[1] > x.time
    if too_far or min(freq, time) < 1:
        part, limit = ("stride", "the map") if too_far else ("kernel", "the padded map")
        raise MapError(
            part,
            f"a {what} with kernel {kernel[0]}x{kernel[1]} and stride {stride[0]}x{stride[1]} (freq x time) "
            f"does not fit a map of {x.freq}x{x.time}: its {part} must be at most {limit}; "
            "use smaller strides or more mel bands and frames",
        )
    return Map(channels, freq, time)


def sub_band_map(x: Map, sub_bands: int) -> Map:
    """Each part of the frequency axis as channels of its own. Raises ConfigError if the parts are not equal."""
    if x.freq % sub_bands:
        raise ConfigError(
            f"model.sub_bands: must divide the bands of every map that is normalized by them; found {sub_bands} "
            f"for a map of {x.freq}x{x.time} (freq x time)"
        )
    return Map(x.channels * sub_bands, x.freq // sub_bands, x.time)


def has_bias(asked: bool | None, norm: bool, folded: bool) -> bool:
    """Whether a convolution has a bias: as asked, else where no BatchNorm has one; a folded BatchNorm is one."""
    return folded or (not norm if asked is None else asked)


def dilated(kernel: Pair, dilation: Pair) -> Pair:
    """The size of a kernel with gaps."""
    return ((kernel[0] - 1) * dilation[0] + 1, (kernel[1] - 1) * dilation[1] + 1)


def same_padding(kernel: Pair) -> Pair:
    """Half the kernel; keeps the size for odd kernels at stride 1."""
    return ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)


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
        return (x * score.softmax(dim=-1)).sum(dim=-1, keepdim=True)  # (B, C, 1, T), (B, 1, 1, T) -> (B, C, 1, 1)


def mean_over_map(x: Tensor) -> Tensor:
    return x.mean(dim=(2, 3), keepdim=True)  # (B, C, F, T) -> (B, C, 1, 1)


def mean_over_frequency(x: Tensor) -> Tensor:
    return x.mean(dim=2, keepdim=True)  # (B, C, F, T) -> (B, C, 1, T)


def mean_and_max(x: Tensor) -> Tensor:
    x = x.mean(dim=2, keepdim=True)  # (B, C, F, T) -> (B, C, 1, T)
    return x.amax(dim=3, keepdim=True) + x.mean(dim=3, keepdim=True)  # (B, C, 1, 1)


def stack_frequency(x: Tensor) -> Tensor:
    return x.flatten(1, 2).unsqueeze(2)  # (B, C, F, T) -> (B, C*F, 1, T)


def flatten_logits(x: Tensor) -> Tensor:
    return x.flatten(1)  # (B, classes, 1, 1) -> (B, classes)
