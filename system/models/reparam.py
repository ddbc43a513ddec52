"""Re-parameterization: a state-dict map from the train form onto a freshly built merged or deploy form.

Nothing is converted in place. Every map is exact in real arithmetic (paper 001, Section III-C, eq. 3-7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.complexity import Shape
from system.errors import RunError
from system.models.layers import BandNorm, Branches, ConvNormAct, Form, LayerScale, LinearPair, NormConv, SubBandNorm
from system.models.network import Network, build
from system.spec import ModelSpec

State = dict[str, Tensor]
Folded = tuple[Tensor, Tensor]  # weight and bias of the one convolution that is left


def fold(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> Folded:
    """BatchNorm after a convolution: (C', C/g, kF, kT), (C',) -> the same shapes (eq. 3 and 4)."""
    scale, shift = scale_and_shift(norm)
    bias = torch.zeros_like(shift) if bias is None else bias
    return weight * scale[:, None, None, None], bias * scale + shift


def scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation mode is x * scale + shift, per channel."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def fold_after(layer: ConvNormAct) -> tuple[Tensor, Tensor | None]:
    """Whatever linear follows a convolution: BatchNorm, a layer scale, or nothing."""
    weight, bias = layer.conv.weight, layer.conv.bias
    if isinstance(layer.norm, nn.BatchNorm2d):
        return fold(weight, bias, layer.norm)
    if isinstance(layer.norm, LayerScale):
        gain = layer.norm.gain
        return weight * gain[:, None, None, None], None if bias is None else bias * gain
    return weight, bias


def fold_before(layer: NormConv) -> Folded:
    """BatchNorm before an ungrouped convolution without padding."""
    assert isinstance(layer.norm, nn.BatchNorm2d)
    assert layer.conv.bias is not None
    scale, shift = scale_and_shift(layer.norm)
    bias = layer.conv.bias + torch.einsum("oikl,i->o", layer.conv.weight, shift)
    return layer.conv.weight * scale[None, :, None, None], bias


def fold_bands(layer: BandNorm | SubBandNorm) -> Folded:
    """BatchNorm alone -> a 1x1 depthwise convolution."""
    assert isinstance(layer.norm, nn.BatchNorm2d)
    scale, shift = scale_and_shift(layer.norm)
    return scale[:, None, None, None], shift


def merge_branches(layer: Branches) -> Folded:
    """Depthwise branches with BatchNorm -> one kernel (C, 1, kF, kT) and bias (C,), without identity (eq. 6 and 7)."""
    folded = [fold(c.weight, c.bias, n) for c, n in zip(layer.convs, layer.norms, strict=True)]  # type: ignore[arg-type]
    size = [max(weight.shape[axis] for weight, _ in folded) for axis in (2, 3)]
    weight = torch.stack([centred(weight, size) for weight, _ in folded]).sum(dim=0)
    return weight, torch.stack([bias for _, bias in folded]).sum(dim=0)


def merge_identity(layer: Branches) -> Folded:
    """The merged kernel with the identity in its centre: x + k * x = (delta + k) * x."""
    weight, bias = merge_branches(layer)
    if layer.identity:
        delta = centred(torch.ones_like(weight[:, :, :1, :1]), list(weight.shape[2:]))
        weight = weight + delta
    return weight, bias


def merge_pair(layer: LinearPair) -> Folded:
    """W2 (W1 x + b1) + b2 = (W2 W1) x + (W2 b1 + b2), on (C', C, 1, 1) kernels (paper 000: no activation between)."""
    (first, b1), (second, b2) = fold_after(layer.expand), fold_after(layer.project)
    assert b1 is not None
    assert b2 is not None
    weight = second[:, :, 0, 0] @ first[:, :, 0, 0]  # (C', H), (H, C) -> (C', C)
    return weight[:, :, None, None], second[:, :, 0, 0] @ b1 + b2


def centred(weight: Tensor, size: list[int]) -> Tensor:
    """A kernel (C, 1, kF, kT) in the middle of a larger one of `size`, zeros around it."""
    pad_f, pad_t = ((size[axis] - weight.shape[axis + 2]) // 2 for axis in (0, 1))
    return F.pad(weight, (pad_t, pad_t, pad_f, pad_f))


# form -> layer of the train form -> (how it becomes one convolution, that convolution's name inside the layer)
COLLAPSED: dict[Form, dict[type[nn.Module], tuple[Callable[[Any], tuple[Tensor, Tensor | None]], str]]] = {
    "train": {},
    "merged": {Branches: (merge_branches, "convs.0")},
    "deploy": {
        ConvNormAct: (fold_after, "conv"),
        NormConv: (fold_before, "conv"),
        BandNorm: (fold_bands, "conv"),
        SubBandNorm: (fold_bands, "conv"),
        Branches: (merge_identity, "conv"),
        LinearPair: (merge_pair, "conv"),
    },
}


@torch.no_grad()
def deploy_state(network: Network, form: Form = "deploy") -> State:
    """The state dict of a train-form network's merged or deploy form."""
    state: State = {}
    done: list[str] = []
    for name, module in network.named_modules():
        if type(module) not in COLLAPSED[form] or name.startswith(tuple(done)):
            continue  # or it went with the layer that holds it
        collapse, conv = COLLAPSED[form][type(module)]
        weight, bias = collapse(module)
        state[f"{name}.{conv}.weight"] = weight
        if bias is not None:
            state[f"{name}.{conv}.bias"] = bias
        done.append(f"{name}.")
    kept = tuple(f"{name}act." for name in done)  # an activation's own parameters
    for key, value in network.state_dict().items():
        if not key.startswith(tuple(done)) or key.startswith(kept):
            state[key] = value
    return {key: value.clone() for key, value in state.items()}  # a network of its own


def deploy(network: Network, spec: ModelSpec, shape: Shape, classes: int, form: Form = "deploy") -> Network:
    """A network of the deploy (or merged) form that computes what `network`, of the train form, does when evaluated.

    Raises RunError for a foreign module.
    """
    if spec.module is not None:
        raise RunError(f"model.module: {spec.module} has no deploy form; it may teach a network that has one")
    with torch.device("meta"):  # its weights come from the map
        deployed = build(spec, shape, classes, form)
    deployed.load_state_dict(deploy_state(network, form), strict=True, assign=True)
    return deployed.eval()
