"""Rounding to a grid, and what gradients pass through it."""

from __future__ import annotations

import pytest
import torch
from brevitas.core.quant import IntQuant
from brevitas.graph.calibrate import calibration_mode
from torch import Tensor

from quant.brevitas_backend import BrevitasQuantizer, Convolution, OnGrid
from quant.quantizers import FixedQuantizer, on_grid


def straight_through(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The same step by step, for autograd."""
    steps = x / scale + zero_point
    steps = steps + (torch.round(steps) - steps).detach()
    return (steps.clamp(0, 255) - zero_point) * scale


LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "every second": lambda x: torch.stack([x, x], dim=-1)[..., 0],
}


@pytest.mark.parametrize("zero_point", [0.0, 100.0])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gradient", LAYOUTS)
def test_values_and_gradients_are_those_of_the_single_steps(zero_point: float, layout: str, gradient: str) -> None:
    torch.manual_seed(0)
    x, g = LAYOUTS[layout](torch.randn(3, 4, 6, 5).double()), LAYOUTS[gradient](torch.randn(3, 4, 6, 5).double())
    found = []
    for function in (on_grid, straight_through):
        grid = (torch.tensor(0.01), torch.tensor(zero_point))
        inputs = [part.clone().double().requires_grad_() for part in (x, *grid)]
        y = function(*inputs)
        y.backward(g)
        found.append([y.detach(), *(part.grad for part in inputs)])
    outside = found[1][1] == 0
    assert 0 < outside.sum() < outside.numel()
    for one, other in zip(*found, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-12)


def test_a_gradient_that_is_one_number_everywhere() -> None:
    x = torch.linspace(-2, 2, 101)[None, None, None].requires_grad_()
    on_grid(x, torch.tensor(1 / 128), torch.tensor(128.0)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, ((x > -1 - 1 / 256) & (x < 1 - 1 / 256)).float())


def test_a_range_that_is_held_gets_no_gradient() -> None:
    x, scale, zero_point = torch.randn(1, 2, 3, 4).requires_grad_(), torch.tensor(0.01), torch.tensor(7.0)
    on_grid(x, scale, zero_point).sum().backward()
    assert x.grad is not None
    assert scale.grad is None
    assert zero_point.grad is None


@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_brevitas_rounds_as_with_its_own_steps(rectified: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    quantizer = BrevitasQuantizer(rectified).to(device)
    x, g = torch.randn(2, 8, 4, 6, 5, device=device).unbind()
    with torch.no_grad(), calibration_mode(quantizer):
        quantizer(0.7 * x)
    quantizer.train()
    found = []
    for forward in (OnGrid.forward, IntQuant.forward):
        monkeypatch.setattr(OnGrid, "forward", forward)
        quantizer.zero_grad()
        own = x.clone().requires_grad_()
        y = quantizer(own)
        y.backward(g)
        found.append([y.detach(), own.grad, *(parameter.grad for parameter in quantizer.parameters())])
    assert len(found[0]) == (3 if rectified else 4)
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        assert one is not None
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_fixed_grid_rounds_and_cuts() -> None:
    x = torch.tensor([-1.0, 0.0, 0.0019, 0.0021, 0.5, 2.0], requires_grad=True)
    y = FixedQuantizer(1 / 256, 0)(x)
    assert y.tolist() == [0.0, 0.0, 0.0, 1 / 256, 0.5, 255 / 256]
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("channels", [(1, 16, 1), (16, 16, 16), (16, 8, 1)])
def test_a_convolution_keeps_channels_last(channels: tuple[int, int, int]) -> None:
    """Also where it is its weights that tell: of one channel both layouts are the same memory."""
    torch.manual_seed(0)
    into, out, groups = channels
    convolution = Convolution(into, out, (3, 3), 1, 1, 1, groups)
    x = torch.randn(2, into, 9, 7)
    plain = convolution(x)
    convolution.to(memory_format=torch.channels_last)
    y = convolution(x.contiguous(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert not plain.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(y, plain, atol=1e-5)
    y.sum().backward()
    assert convolution.weight.grad is not None
    assert convolution.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("offset", [-6.0, -0.5, 0.0, 6.0])
def test_a_range_takes_in_zero_and_all_values(offset: float) -> None:
    """Logits of rare events and scores of attention may all be negative."""
    quantizer = BrevitasQuantizer(rectified=False).eval()
    x = offset + torch.rand(64, 100, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with calibration_mode(quantizer):
            quantizer(x)
        step = max(1.0, abs(offset) + 1) / 255
        assert (quantizer(x) - x).abs().max() < step
        assert quantizer(torch.zeros(1)).item() == 0
