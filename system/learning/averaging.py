"""Averages of the weights of one training, and the BatchNorm statistics that belong to them."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from system.spec import TrainSpec


class Average(nn.Module):
    """A mean of weights, updated in place: plain, or exponential with `decay` per step.

    The exponential one forgets faster at first, min(decay, (1 + n) / (10 + n)) after n steps, so that a short training
    is not held back by its random start. PyTorch's AveragedModel walks through all modules at each step and waits for
    the GPU to tell its count, both slow where a step takes milliseconds.
    """

    def __init__(self, network: nn.Module, decay: float | None) -> None:
        super().__init__()
        self.module = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.taken = decay, 0
        self._pairs: tuple[list[Tensor], list[Tensor]] | None = None

    @torch.no_grad()
    def take(self, network: nn.Module) -> None:
        if self._pairs is None or self._pairs[1][0] is not next(network.parameters()):  # it may move to a GPU at first
            self._pairs = list(self.module.parameters()), list(network.parameters())
        means, weights = self._pairs
        share = 1 / (1 + self.taken)
        if self.decay is not None and self.taken:
            share = 1 - min(self.decay, (1 + self.taken) / (10 + self.taken))
        torch._foreach_lerp_(means, weights, share)
        self.taken += 1

    def get_extra_state(self) -> Any:
        return self.taken

    def set_extra_state(self, state: Any) -> None:
        self.taken = state


def average_of(network: nn.Module, spec: TrainSpec) -> Average | None:
    """What averages the weights of the training `spec`, if it asks for that."""
    if spec.average == "none":
        return None
    return Average(network, spec.ema_decay if spec.average == "ema" else None)


def is_taken(spec: TrainSpec, epoch: int, end_of_epoch: bool) -> bool:
    """Whether the weights after a step of `epoch`, counted from 0, go into the average."""
    if spec.average == "swa":
        return end_of_epoch and epoch + 1 > spec.swa_start * spec.epochs
    return True


@torch.no_grad()
def take_average(network: nn.Module, average: Average, inputs: Iterable[Tensor]) -> None:
    """Give `network` the averaged weights, and BatchNorm the statistics they have over `inputs`.

    Statistics are plain means over the batches, computed with dropout as in training; layers in evaluation mode
    (frozen ones) keep theirs.
    """
    for weight, mean in zip(network.parameters(), average.module.parameters(), strict=True):
        weight.copy_(mean)
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm) and module.training]
    if not norms:
        return
    momentum = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    for batch in inputs:
        network(batch)
    for norm, value in zip(norms, momentum, strict=True):
        norm.momentum = value
