"""Averages of the weights of one training, and the BatchNorm statistics that belong to them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from system.spec import TrainSpec

Tensors = list[Tensor] | tuple[Tensor, ...]


def average_of(network: nn.Module, spec: TrainSpec) -> AveragedModel | None:
    """What `update_parameters(network)` averages into: nothing, an exponential or a plain mean.

    The exponential one forgets faster at first, min(decay, (1 + n) / (10 + n)) after n steps, so that a short training
    is not held back by its random start.
    """
    if spec.average == "none":
        return None
    if spec.average == "swa":
        return AveragedModel(network).requires_grad_(False)

    def exponential(means: Tensors, weights: Tensors, taken: Tensor | int) -> None:
        decay = min(spec.ema_decay, (1 + int(taken)) / (10 + int(taken)))
        get_ema_multi_avg_fn(decay)(means, weights, taken)

    return AveragedModel(network, multi_avg_fn=exponential).requires_grad_(False)


def is_taken(spec: TrainSpec, epoch: int, end_of_epoch: bool) -> bool:
    """Whether the weights after a step of `epoch`, counted from 0, go into the average."""
    if spec.average == "swa":
        return end_of_epoch and epoch + 1 > spec.swa_start * spec.epochs
    return True


@torch.no_grad()
def take_average(network: nn.Module, average: AveragedModel, inputs: Iterable[Tensor]) -> None:
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
