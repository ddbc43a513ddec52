"""Equalized channels and corrected biases: what they change, what they leave, and what they win."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quant.bias_correction import correct_bias, means
from quant.equalize import by_input, chains, equalize, scales
from quant.layers import QuantConv
from quant.variants import divergence, ratio
from system.models.network import Network
from system.models.reparam import deploy
from system.spec import QuantSpec

from .conftest import CASES, CLASSES, SHAPE, made_features, random_network
from .light import LightBackend


def deployed(case: str) -> tuple[Network, Tensor]:
    torch.manual_seed(0)
    features, spec = made_features(32), CASES[case]
    return deploy(random_network(spec, features), spec, SHAPE, CLASSES), features


def test_scales_of_a_depthwise_convolution_make_ranges_equal() -> None:
    conv = nn.Conv2d(2, 2, 3, groups=2)
    assert scales(torch.tensor([1.0, 4.0]), conv).tolist() == pytest.approx([0.5, 2.0])


def test_scales_balance_activations_against_the_weights_that_read_them() -> None:
    conv = nn.Conv2d(2, 3, 1)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([4.0, 0.25])[None, :, None, None]
    assert scales(torch.tensor([1.0, 1.0]), conv).tolist() == pytest.approx([0.5, 2.0])  # sqrt(1/4), sqrt(1/0.25)
    assert scales(torch.tensor([0.0, 0.0]), conv).tolist() == [1.0, 1.0], "a dead map is left as it is"


def test_scales_of_a_group_that_reads_several_channels_are_balanced_too() -> None:
    conv = nn.Conv2d(4, 2, 1, groups=2)
    with torch.no_grad():
        conv.weight[:] = torch.tensor([[4.0, 0.25], [1.0, 1.0]])[:, :, None, None]
    assert scales(torch.ones(4), conv).tolist() == pytest.approx([0.5, 2.0, 1.0, 1.0])


def test_factors_go_to_the_weights_that_read_a_channel() -> None:
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert by_input(scale, nn.Conv2d(4, 2, 1)).flatten(1).tolist() == [[1, 2, 3, 4]] * 2
    assert by_input(scale, nn.Conv2d(4, 4, 1, groups=2)).flatten(1).tolist() == [[1, 2], [1, 2], [3, 4], [3, 4]]


def test_chains_stop_at_what_does_not_scale() -> None:
    network, _ = deployed("inverted")
    found = [tuple(chain) for chain in chains(network)]
    assert ("stages.0.blocks.0.expand", "stages.0.blocks.0.depthwise") in found
    assert all(not first.endswith("project") for first, _ in found), "a sum of maps is read by others too"
    silu, _ = deployed("silu_resnorm_attentive")
    of_silu = [first for first, _ in chains(silu)]
    assert all(isinstance(silu.get_submodule(f"{name}.act"), nn.Identity) for name in of_silu)


@pytest.mark.parametrize("case", ["inverted", "prelu_strided", "silu_resnorm_attentive", "inception"])
def test_equalization_leaves_the_function(case: str) -> None:
    network, features = deployed(case)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with torch.no_grad():
        torch.testing.assert_close(equalize(network, [features])(features), network(features), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def uneven(network: Network) -> None:
    """Scale channels between convolutions by factors from 1/16 to 16: the same function, as merging may leave it."""
    for first, second in chains(network):
        before: Any = network.get_submodule(f"{first}.conv")
        after: Any = network.get_submodule(f"{second}.conv")
        factor = 16 ** torch.empty(before.out_channels).uniform_(-1, 1)
        with torch.no_grad():
            before.weight *= factor[:, None, None, None]
            if before.bias is not None:
                before.bias *= factor
            after.weight *= by_input(1 / factor, after)


def signal_to_noise(network: Network, case: str, features: Tensor, how: QuantSpec = QuantSpec()) -> float:  # noqa: B008
    backend = LightBackend()
    quantized = backend.prepare(network, CASES[case], SHAPE, CLASSES, how)
    backend.calibrate(quantized, [features])
    if how.correct_bias:
        correct_bias(network, quantized, [features])
    with torch.inference_mode():
        return ratio(network(features).numpy(), backend.freeze(quantized)(features).numpy())


def test_equalization_repairs_uneven_channels() -> None:
    network, features = deployed("inverted")
    even = signal_to_noise(network, "inverted", features)
    with torch.no_grad():
        expected = network(features)
        uneven(network)
        torch.testing.assert_close(network(features), expected, atol=1e-4, rtol=1e-4)
    bad = signal_to_noise(network, "inverted", features)
    repaired = signal_to_noise(equalize(network, [features]), "inverted", features)
    assert bad < even - 3, "else there is nothing to repair"
    assert repaired > bad + 3
    assert repaired > even - 3


def test_corrected_biases_give_the_means_of_float() -> None:
    """With 4-bit weights, whose rounding shifts means; the input is rounded too, so that no shift stays zero."""
    network, features = deployed("inverted")
    backend = LightBackend()
    quantized = backend.prepare(network, CASES["inverted"], SHAPE, CLASSES, QuantSpec(weight_bits=4))
    backend.calibrate(quantized, [features])
    names = [f"{name}.conv" for name, m in quantized.named_modules() if isinstance(m, QuantConv)]

    def shifts() -> list[float]:
        with torch.no_grad():
            found = [(means(network, name, [features]), means(quantized, name, [features])) for name in names]
        return [float((one - other).abs().max()) for one, other in found]

    before = shifts()
    correct_bias(network, quantized, [features[:10], features[10:]])
    after = shifts()
    assert min(before) > 1e-3
    assert max(after) < 1e-4


def test_means_are_over_all_batches() -> None:
    network, features = deployed("inverted")
    whole, parts = (means(network, "head.classify.conv", list(features.split(size))) for size in (32, 5))
    np.testing.assert_allclose(whole.detach(), parts.detach(), atol=1e-5)


def test_bias_correction_wins_where_weights_are_coarse() -> None:
    network, features = deployed("inverted")
    plain, corrected = (
        signal_to_noise(network, "inverted", features, QuantSpec(weight_bits=4, correct_bias=correct))
        for correct in (False, True)
    )
    assert corrected > plain + 1


@pytest.mark.parametrize("task", ["scene", "events"])
def test_answers_diverge_by_their_probabilities_not_their_logits(task: str) -> None:
    in_float, quantized = np.random.default_rng(0).normal(size=(2, 7, 3))
    if task == "scene":
        p, q = (np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in (in_float, quantized))
        expected = (p * np.log(p / q)).sum(axis=1).mean()
        assert divergence(in_float, in_float + 5, task) == pytest.approx(0, abs=1e-12)
    else:
        p, q = (1 / (1 + np.exp(-x)) for x in (in_float, quantized))
        expected = (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    assert divergence(in_float, quantized, task) == pytest.approx(expected)
    assert divergence(in_float, in_float, task) == pytest.approx(0, abs=1e-12)
