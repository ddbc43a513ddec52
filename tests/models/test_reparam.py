"""The deploy form computes what the train form computes (paper 001, Section III-C)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from torch import nn

from system.complexity import Map
from system.models.float_layers import FloatLayers
from system.models.layers import FORMS, Branches, NormConv
from system.models.network import build
from system.models.reparam import deploy, deploy_state, fold, fold_before, merge_branches, merge_identity, merge_pair
from tests.models.variants import BASE, CASES, CLASSES, SMALL, Case, inputs, randomised


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-6), (torch.float64, 1e-12)], ids=["f32", "f64"])
def test_all_forms_give_the_same_logits(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    spec, shape, classes = case
    torch.manual_seed(0)
    network = randomised(build(spec, shape, classes)).to(dtype)
    x = inputs(shape, louder=3).to(dtype)
    with torch.inference_mode():
        expected = network(x)
        scale = expected.abs().max()
        assert expected.std(dim=0).max() > 1e-3 * scale  # the inputs are told apart
        for form in FORMS[1:]:
            found = deploy(network, spec, shape, classes, form)(x)
            assert (found - expected).abs().max() < tolerance * scale


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_deploy_form_has_no_batch_norm_and_one_kernel_per_axis(case: Case) -> None:
    spec, shape, classes = case
    trained, deployed = build(spec, shape, classes), build(spec, shape, classes, form="deploy")
    assert any(isinstance(module, nn.BatchNorm2d) for module in trained.modules())
    assert not any(isinstance(module, nn.modules.batchnorm._NormBase | Branches) for module in deployed.modules())
    assert not any("running" in key for key in deployed.state_dict())
    assert deploy_state(trained).keys() == deployed.state_dict().keys()


def test_the_trained_network_is_left_as_it_was() -> None:
    spec = BASE.changed(block="rep_inception", downsampling="separate")
    network = randomised(build(spec, SMALL, CLASSES))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    deployed = deploy(network, spec, SMALL, CLASSES)
    with torch.no_grad():
        for parameter in deployed.parameters():
            parameter.zero_()
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def numpy_norm(channels: int, generator: np.random.Generator) -> tuple[nn.BatchNorm2d, np.ndarray, np.ndarray]:
    """A BatchNorm with random numbers, in evaluation mode, as it is and as the scale and shift that it means."""
    gamma, beta, mean, deviation = generator.uniform(0.5, 2.0, (4, channels))
    norm = nn.BatchNorm2d(channels).double().eval()
    with torch.no_grad():
        for tensor, values in {norm.weight: gamma, norm.bias: beta, norm.running_mean: mean}.items():
            tensor.copy_(torch.from_numpy(values))
        norm.running_var.copy_(torch.from_numpy(deviation**2 - norm.eps))
    return norm, gamma / deviation, beta - mean * gamma / deviation


def same(x: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Depthwise correlation with zero padding by scipy: (C, F, T), (C, 1, kF, kT) -> (C, F, T)."""
    return np.stack([correlate2d(plane, kernel[0], mode="same") for plane, kernel in zip(x, kernels, strict=True)])


@pytest.mark.parametrize("identity", [True, False])
@pytest.mark.parametrize(
    "kernels",
    [[(1, 3)], [(1, 21), (1, 11), (1, 3)], [(3, 1), (7, 1)], [(5, 5), (3, 3), (1, 1)], [(3, 1), (1, 5)]],
    ids=str,
)
def test_merged_branches_against_scipy(kernels: Sequence[tuple[int, int]], identity: bool) -> None:
    """Merged, the identity is left to an addition; deployed, it is in the kernel."""
    channels, shape = 3, (9, 25)
    layer = FloatLayers("train").branches(Map(channels, *shape), kernels, act=None, identity=identity)
    generator = np.random.default_rng(0)
    x = generator.standard_normal((channels, *shape))
    expected = np.zeros_like(x)
    with torch.no_grad():
        for index, conv in enumerate(layer.double().convs):
            weight = generator.standard_normal(conv.weight.shape)
            conv.weight.copy_(torch.from_numpy(weight))
            layer.norms[index], scale, shift = numpy_norm(channels, generator)
            expected += same(x, weight) * scale[:, None, None] + shift[:, None, None]
        merged, deployed = merge_branches(layer), merge_identity(layer)
    for (weight, bias), beside in ((merged, 0), (deployed, identity)):
        assert weight.shape == (channels, 1, max(k[0] for k in kernels), max(k[1] for k in kernels))
        found = same(x, weight.numpy()) + bias.numpy()[:, None, None]
        assert np.abs(found - expected - beside * x).max() < 1e-12
    assert np.abs(expected).max() > 1


def test_a_merged_pair_against_numpy() -> None:
    """Two matrices with a scale and a shift each, and no activation between them (paper 000)."""
    layer = FloatLayers("train").linear_pair(Map(3, 4, 5), 12, 2, act="relu").double()
    generator = np.random.default_rng(0)
    matrices, affine = [], []
    with torch.no_grad():
        for part in (layer.expand, layer.project):
            matrices.append(generator.standard_normal(part.conv.weight.shape[:2]))
            part.conv.weight.copy_(torch.from_numpy(matrices[-1])[:, :, None, None])
            part.norm, scale, shift = numpy_norm(part.conv.out_channels, generator)
            affine.append((scale, shift))
        weight, bias = merge_pair(layer)
    x = generator.standard_normal((3, 50))
    y = matrices[0] @ x * affine[0][0][:, None] + affine[0][1][:, None]
    y = matrices[1] @ y * affine[1][0][:, None] + affine[1][1][:, None]
    assert weight.shape == (2, 3, 1, 1)
    assert np.abs(weight.numpy()[:, :, 0, 0] @ x + bias.numpy()[:, None] - y).max() < 1e-12


def test_the_merged_form_has_one_kernel_beside_the_identity_and_keeps_every_other_norm() -> None:
    """Paper 001, Figure 2b and Section III-C, as its authors deploy."""
    spec = BASE.changed(block="rep_inception")
    trained, merged = (build(spec, SMALL, CLASSES, form) for form in FORMS[:2])
    before, after = (
        [module for module in network.modules() if isinstance(module, Branches)] for network in (trained, merged)
    )
    assert len(before) == len(after) == 2 * sum(stage.depth for stage in spec.stages)
    assert {len(layer.convs) for layer in before} == {3}
    assert {len(layer.convs) for layer in after} == {1}
    assert all(layer.identity for layer in after)

    def norms(network: nn.Module) -> int:
        return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())

    assert norms(merged) == norms(trained) - 3 * len(before) > 0


def test_fold_by_hand() -> None:
    """2 x + 1, then mean 3, deviation 0.5, gamma 4, beta 5: ((2 x + 1) - 3) / 0.5 * 4 + 5 = 16 x - 11."""
    norm = nn.BatchNorm2d(1, eps=0.0)
    with torch.no_grad():
        for tensor, value in {norm.weight: 4.0, norm.bias: 5.0, norm.running_mean: 3.0, norm.running_var: 0.25}.items():
            tensor.fill_(value)
    weight, bias = fold(torch.full((1, 1, 1, 1), 2.0), torch.tensor([1.0]), norm)
    assert (weight.item(), bias.item()) == (16.0, -11.0)
    weight, bias = fold(torch.full((1, 1, 1, 1), 2.0), None, norm)
    assert (weight.item(), bias.item()) == (16.0, -19.0)
    # the other way round: ((x - 3) / 0.5 * 4 + 5) * 2 + 1 = 16 x - 37
    layer = NormConv(Map(1, 1, 1), norm, nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        layer.conv.weight.fill_(2.0)
        layer.conv.bias.fill_(1.0)
    weight, bias = fold_before(layer)
    assert (weight.item(), bias.item()) == (16.0, -37.0)
