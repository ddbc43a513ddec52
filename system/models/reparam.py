"""Re-parameterization: a state-dict map from the train form onto a freshly built merged or deploy form.

Nothing is converted in place. Every map is exact in real arithmetic (paper 001, Section III-C, eq. 3-7).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from system.models.layers import Branches, ConvNormAct, Form, NormConv
from system.models.network import Network, Shape, build
from system.spec import ModelSpec

State = dict[str, Tensor]


def fold(weight: Tensor, bias: Tensor | None, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
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


def fold_before(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> tuple[Tensor, Tensor]:
    """BatchNorm before an ungrouped convolution without padding."""
    scale, shift = scale_and_shift(norm)
    assert conv.bias is not None
    bias = conv.bias + torch.einsum("oikl,i->o", conv.weight, shift)
    return conv.weight * scale[None, :, None, None], bias


def merge_branches(branches: Branches) -> tuple[Tensor, Tensor]:
    """Identity + depthwise branches with BatchNorm -> one kernel (C, 1, kF, kT) and bias (C,) (eq. 6 and 7)."""
    folded = [
        fold(conv.weight, conv.bias, norm)
        for conv, norm in zip(branches.convs, branches.norms, strict=True)
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    ]
    size = [max(weight.shape[axis] for weight, _ in folded) for axis in (2, 3)]
    weight = torch.stack([centred(weight, size) for weight, _ in folded]).sum(dim=0)
    bias = torch.stack([bias for _, bias in folded]).sum(dim=0)
    identity = torch.zeros_like(weight)
    identity[:, :, size[0] // 2, size[1] // 2] = 1.0
    return weight + identity, bias


def centred(weight: Tensor, size: list[int]) -> Tensor:
    """A kernel (C, 1, kF, kT) in the middle of a larger one of `size`, zeros around it."""
    pad_f, pad_t = ((size[axis] - weight.shape[axis + 2]) // 2 for axis in (0, 1))
    return F.pad(weight, (pad_t, pad_t, pad_f, pad_f))


def deploy_state(network: Network, form: Form = "deploy") -> State:
    """The state dict of a train-form network's merged or deploy form."""
    fold_norms = form == "deploy"
    state: State = {}
    done: set[str] = set()
    for name, module in network.named_modules():
        folded: tuple[Tensor, Tensor] | None = None
        if fold_norms and isinstance(module, ConvNormAct) and isinstance(module.norm, nn.BatchNorm2d):
            folded = fold(module.conv.weight, module.conv.bias, module.norm)
        elif fold_norms and isinstance(module, NormConv) and isinstance(module.norm, nn.BatchNorm2d):
            folded = fold_before(module.norm, module.conv)
        elif isinstance(module, Branches):
            folded = merge_branches(module)
        if folded is not None:
            state[f"{name}.conv.weight"], state[f"{name}.conv.bias"] = folded
            done |= {f"{name}.{part}." for part in ("conv", "norm", "convs", "norms")}
    for key, value in network.state_dict().items():
        if not any(key.startswith(prefix) for prefix in done):
            state[key] = value
    return {key: value.detach().clone() for key, value in state.items()}


def deploy(network: Network, spec: ModelSpec, shape: Shape, classes: int, form: Form = "deploy") -> Network:
    """A network of the deploy (or merged) form that computes what `network`, of the train form, does when evaluated."""
    dtype = next(network.parameters()).dtype
    deployed = build(spec, shape, classes, form).to(dtype)
    deployed.load_state_dict(deploy_state(network, form), strict=True)
    return deployed.eval()
