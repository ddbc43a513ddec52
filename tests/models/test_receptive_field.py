"""The receptive field by arithmetic is the one that gradients find."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from torch import nn

from system.complexity import Map, Shape
from system.models.counting import CostLayers
from system.models.float_layers import FloatLayers
from system.models.maps import Pair
from system.models.network import Network
from system.models.receptive_field import fields, mel_edges, receptive_field
from system.spec import ExperimentSpec, FeatureSpec, ModelSpec, StageSpec
from tests.models.variants import BASE, CASES

LARGE: Shape = (1, 108, 90)  # larger than any of these fields, but where a block averages over all bands


class Seeing(FloatLayers):
    """Every value depends on all that its window holds: no maxima, no statistics of the whole map, no dead units."""

    def __init__(self) -> None:
        super().__init__("deploy")

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        return self.avg_pool(x, kernel, stride, padding)

    def norm(self, x: Map, kind: str, act: str | None = None) -> nn.Module:
        return super().norm(x, "batch", act)


def seen(spec: ModelSpec, shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
    """Extent of the input, (bands, frames), that one value in the middle of the last map sees; and where it is."""
    network = Network(Seeing(), spec, shape, 3).double().eval()
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    x = torch.ones(1, *shape, dtype=torch.float64, requires_grad=True)
    y = network.features(x)  # (1, C, F', T')
    y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum().backward()
    assert x.grad is not None
    spans = [torch.nonzero(x.grad[0, 0].abs().sum(dim=1 - axis) > 0).flatten().tolist() for axis in (0, 1)]
    return tuple(span[-1] - span[0] + 1 for span in spans), tuple(span[0] for span in spans)  # type: ignore[return-value]


@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("catalog:")])
def test_the_field_is_what_the_gradient_reaches(name: str) -> None:
    spec = CASES[name][0]
    layers = CostLayers("deploy")
    network = Network(layers, spec, LARGE, 3)
    found = fields(layers.rows, network.input.map)[id(network.stages[-1].map)]
    extent, start = seen(spec, LARGE)
    for axis in (0, 1):
        if found[axis].width < LARGE[1 + axis] and start[axis] > 0:
            assert extent[axis] == found[axis].width
        else:
            assert extent[axis] <= found[axis].width
    assert min(start) > 0 or spec.block == "broadcast", "the comparison must not be vacuous"


def test_by_hand() -> None:
    """Stem 3x3 by (2, 1); a block of 5x5; a stride of (2, 2) in the next block of 5x5; no further windows."""
    model = BASE.changed(kernel_size=(5, 5), stages=(StageSpec(), StageSpec(stride=(2, 2))))
    spec = ExperimentSpec(model=model)
    found = receptive_field(spec, 10)
    assert (found["bands"], found["frames"]) == (3 + 4 * 2 + 4 * 2, 3 + 4 + 4)
    assert (found["of_bands"], found["of_frames"]) == (80, 51)
    assert found["milliseconds"] == 40 + 10 * 20
    assert found["whole_map"] == []
    edges = librosa.mel_frequencies(n_mels=82, fmin=0, fmax=11025)
    assert found["hertz"] == [round(edges[20] - edges[0], 1), round(edges[81] - edges[61], 1)]


def test_it_ends_where_the_segment_ends_and_names_what_sees_all() -> None:
    found = receptive_field(ExperimentSpec(model=BASE.changed(norm="resnorm", kernel_size=(31, 31))), 10)
    assert found["frames"] > found["of_frames"]
    assert found["milliseconds"] == 1000
    assert found["hertz"] == [11025, 11025]
    assert found["whole_map"] == ["resnorm"]


@pytest.mark.parametrize("changes", [{}, {"f_min": 50.0, "f_max": 8000.0}, {"n_mels": 256, "sample_rate": 44100}])
def test_mel_edges_are_those_of_the_front_end(changes: dict[str, Any]) -> None:
    features = FeatureSpec(**changes)
    expected: Sequence[float] = librosa.mel_frequencies(
        n_mels=features.n_mels + 2, fmin=features.f_min, fmax=features.f_max or features.sample_rate / 2
    )
    assert np.allclose(mel_edges(features), expected)
