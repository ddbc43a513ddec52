"""Optimizers, and which parameters they may change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from system.spec import TrainSpec

OPTIMIZERS: dict[str, Callable[[Any, TrainSpec, bool | None], torch.optim.Optimizer]] = {
    "adamw": lambda groups, spec, fused: torch.optim.AdamW(
        groups, lr=spec.learning_rate, betas=(spec.momentum, 0.999), fused=fused
    ),
    "adam": lambda groups, spec, fused: torch.optim.Adam(
        groups, lr=spec.learning_rate, betas=(spec.momentum, 0.999), fused=fused
    ),
    "sgd": lambda groups, spec, fused: torch.optim.SGD(
        groups, lr=spec.learning_rate, momentum=spec.momentum, fused=fused
    ),
}

BEFORE_STAGES = ("band_norm.", "stem.")


def optimizer_of(network: nn.Module, spec: TrainSpec) -> torch.optim.Optimizer:
    """The optimizer of everything in `network` that is not frozen; on a GPU one kernel changes all parameters."""
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    vectors = [] if spec.decay_vectors else [parameter for parameter in free if parameter.ndim <= 1]
    taken = set(map(id, vectors))
    groups = [
        {"params": [parameter for parameter in free if id(parameter) not in taken], "weight_decay": spec.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    fused = True if free and free[0].is_cuda else None  # None: PyTorch's default
    return OPTIMIZERS[spec.optimizer]([group for group in groups if group["params"]], spec, fused)


def frozen_norms(network: nn.Module, rule: str) -> list[nn.Module]:
    """The BatchNorm layers that `train.frozen_norms` keeps as they are (paper 001, IV-C: all but the stem's)."""
    kept = {"none": None, "all": (), "all_but_stem": BEFORE_STAGES}[rule]
    return [
        module
        for name, module in network.named_modules()
        if kept is not None and isinstance(module, _BatchNorm) and not name.startswith(kept)
    ]


def require_grad(modules: Iterable[nn.Module], value: bool) -> None:
    for module in modules:
        module.requires_grad_(value)
