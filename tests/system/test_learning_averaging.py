"""Averages of weights, and BatchNorm statistics that belong to them."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from system.learning.averaging import average_of, is_taken, take_average
from system.spec import TrainSpec


class OneWeight(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


def averaged(spec: TrainSpec, weights: list[float]) -> float:
    network = OneWeight()
    average = average_of(network, spec)
    assert average is not None
    for weight in weights:
        network.weight.data.fill_(weight)
        average.take(network)
    take_average(network, average, [])
    return network.weight.item()


def test_the_spec_names_every_average() -> None:
    names = get_args(TrainSpec.model_fields["average"].annotation)
    found = {name: average_of(OneWeight(), TrainSpec(average=name)) for name in names}
    assert [name for name, average in found.items() if average is None] == ["none"]


def test_the_plain_mean() -> None:
    assert averaged(TrainSpec(average="swa"), [1.0, 2.0, 6.0]) == pytest.approx(3.0)


def test_the_exponential_mean_forgets_faster_at_first() -> None:
    spec = TrainSpec(average="ema", ema_decay=0.5)
    expected, weights = 1.0, [1.0, 5.0, -2.0, 8.0, 3.0, 3.0, 3.0, 9.0, 1.0, 4.0]
    for count, weight in enumerate(weights[1:], start=1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * weight
    assert averaged(spec, weights) == pytest.approx(expected, rel=1e-6)
    # a long way on it is the exponential mean of its decay
    constant_then_one = [0.0] * 2000 + [1.0]
    assert averaged(TrainSpec(average="ema", ema_decay=0.99), constant_then_one) == pytest.approx(0.01, rel=1e-4)


def test_a_plain_mean_takes_the_last_epochs() -> None:
    spec = TrainSpec(average="swa", swa_start=0.75, epochs=8)
    assert [epoch for epoch in range(8) if is_taken(spec, epoch, True)] == [6, 7]
    assert not is_taken(spec, 7, False)
    assert is_taken(TrainSpec(average="swa", swa_start=0.9, epochs=1), 0, True)
    assert is_taken(TrainSpec(average="ema"), 0, False)


def test_statistics_are_of_the_averaged_weights_over_the_inputs() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.BatchNorm2d(2))
    average = average_of(network, TrainSpec(average="swa"))
    assert average is not None
    average.take(network)
    for parameter in network.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    average.take(network)
    mean = {name: value.clone() for name, value in average.module.named_parameters()}
    inputs = [3 + torch.randn(8, 1, 6, 6) for _ in range(5)]
    momentum = network[1].momentum
    network[4].eval()  # frozen
    kept = network[4].running_mean.clone()
    take_average(network, average, inputs)
    assert all(torch.equal(value, mean[name]) for name, value in network.named_parameters())
    before = torch.stack([network[0](x) for x in inputs])  # (5, 8, 4, 4, 4)
    assert torch.allclose(network[1].running_mean, before.mean(dim=(0, 1, 3, 4)), atol=1e-5)
    each = before.var(dim=(1, 3, 4)).mean(dim=0)  # the mean over batches of what each batch has
    assert torch.allclose(network[1].running_var, each, rtol=1e-4)
    assert torch.equal(network[4].running_mean, kept)
    assert network[1].momentum == momentum
