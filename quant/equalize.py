"""Cross-layer equalization (Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias
Correction", Section 4.1): channels between two convolutions are scaled alike, and the network computes what it did.

f(s x) = s f(x) for s > 0 and a ReLU, a PReLU or no activation, so that a channel may be divided by s in the first
convolution and multiplied by s in the second. One scale for all channels of an activation then loses none of them.
Weights have a scale per output channel here, so that it is the ranges of activations, seen in calibration, which are
balanced against the weights that read them, as in SmoothQuant (Xiao et al. 2023, eq. 4, alpha 1/2). A depthwise
convolution reads each channel with a scale of its own: there, ranges become equal.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from system.models.layers import Apply, ConvNormAct, Layer, NormConv, mean_over_frequency, mean_over_map

SCALABLE = (nn.Identity, nn.ReLU, nn.LeakyReLU, nn.PReLU)  # f(s x) = s f(x) for s > 0, in each channel
BY_CHANNEL = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, mean_over_map, mean_over_frequency)
LEAST = 1e-3  # of the largest range: a channel that is all but silent is not scaled up further


class Chain(NamedTuple):
    """Two convolutions with nothing else between them: names of their layers."""

    first: str
    second: str


class _Layers(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Layer)


def chains(network: nn.Module) -> Iterator[Chain]:
    """Every pair of convolutions of a deploy form that can be equalized."""
    layers: dict[str, Any] = dict(network.named_modules())
    for node in _Layers().trace(network).nodes:
        first = layers.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(first, ConvNormAct) or not isinstance(first.act, SCALABLE):
            continue
        reader = node
        while len(reader.users) == 1:  # what else reads the map would see it scaled
            (reader,) = reader.users
            layer = layers.get(str(reader.target)) if reader.op == "call_module" else None
            if isinstance(layer, ConvNormAct | NormConv):
                yield Chain(str(node.target), str(reader.target))
            if not (isinstance(layer, Apply) and passes(layer.function)):
                break


def passes(function: Any) -> bool:
    """Does it treat every channel alike and by itself, so that f(s x) = s f(x)?"""
    return any(function is known or (isinstance(known, type) and isinstance(function, known)) for known in BY_CHANNEL)


@torch.no_grad()
def equalize(network: nn.Module, batches: list[Tensor]) -> nn.Module:
    """A copy of a float deploy form that computes the same. `batches`: (B, 1, mel bands, frames) to see ranges on."""
    network = copy.deepcopy(network)
    found = list(chains(network))
    ranges = input_ranges(network, [chain.second for chain in found], batches)
    for first, second in found:
        before: Any = network.get_submodule(f"{first}.conv")
        after: Any = network.get_submodule(f"{second}.conv")
        scale = scales(ranges[second], after)
        before.weight /= scale[:, None, None, None]
        if before.bias is not None:
            before.bias /= scale
        after.weight *= by_input(scale, after)
    return network


def scales(activation: Tensor, conv: nn.Conv2d) -> Tensor:
    """(C,) what each input channel of a convolution is divided by, given its largest absolute value; of mean 1."""
    activation = activation.clamp(min=LEAST * float(activation.max()))
    if conv.weight.shape[1] == 1 and conv.groups == conv.out_channels:
        scale = activation
    else:
        grouped = conv.weight.abs().amax(dim=(2, 3)).unflatten(0, (conv.groups, -1))  # (g, C'/g, C/g)
        weight = grouped.amax(dim=1).flatten()  # (C,)
        scale = torch.sqrt(activation / weight.clamp(min=LEAST * float(weight.max())))
    if not torch.isfinite(scale).all() or not (scale > 0).all():
        return torch.ones_like(scale)  # a dead map, or dead weights
    return scale / torch.exp(torch.log(scale).mean())


def by_input(scale: Tensor, conv: nn.Conv2d) -> Tensor:
    """(C,) -> (C' or 1, C/g, 1, 1): a factor for each weight, by the input channel it reads."""
    rows = scale.unflatten(0, (conv.groups, -1))  # (g, C/g)
    return rows.repeat_interleave(conv.out_channels // conv.groups, dim=0)[:, :, None, None]


def input_ranges(network: nn.Module, layers: list[str], batches: list[Tensor]) -> dict[str, Tensor]:
    """Layer -> (C,) the largest absolute value of each of its input channels."""
    ranges: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen = inputs[0].abs().amax(dim=(0, 2, 3))
            ranges[name] = torch.maximum(ranges[name], seen) if name in ranges else seen

        return hook

    hooks = [network.get_submodule(name).register_forward_pre_hook(watch(name)) for name in set(layers)]
    for batch in batches:
        network(batch)
    for hook in hooks:
        hook.remove()
    return ranges
