"""Weights whose products no 8-bit kernel can overflow, whatever rounding does; and the proof of it from a file."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from quant.backend import BACKENDS
from quant.graph import Graph, read_graph
from quant.portable import proof, statement
from quant.quantizers import BYTES, PAIR, WeightForm, weight_range
from system.spec import QuantSpec

from .conftest import CASES, quantize
from .test_backends import loaded

FULL = WeightForm(portable=False)


def pair(rows: torch.Tensor) -> tuple[int, int]:
    """The largest and the smallest sum of two integers of a row, zeros among them."""
    ordered = torch.cat([rows, torch.zeros(len(rows), 2)], dim=1).sort(dim=1).values
    return int(ordered[:, -2:].sum(dim=1).max()), int(ordered[:, :2].sum(dim=1).min())


def integers(rows: torch.Tensor, form: WeightForm) -> torch.Tensor:
    scale = weight_range(rows, form) / form.largest
    return torch.round(rows / scale[:, None])


@pytest.mark.parametrize(
    ("weights", "portable"),
    [
        ([1.0, 1.0, 0.0], 2 * 127 / 128),  # 1 and 1 are 128 steps together
        ([1.0, -1.0, 0.5], 1.5 * 127 / 128),  # so are 1 and 0.5
        ([1.0, -1.0, 0.0], 1.0),  # one of each sign: their products are no neighbours that add up
        ([-1.0, -1.0, -1.0], 2 * 127 / 128),
        ([1.0], 1.0),  # beside the zeros that a filter is filled up with
        ([0.0, 0.0], 0.0),
    ],
)
def test_ranges_of_a_filter(weights: list[float], portable: float) -> None:
    rows = torch.tensor([weights])
    assert float(weight_range(rows, BYTES)) == pytest.approx(portable, rel=1e-5)
    assert float(weight_range(rows, FULL)) == max(map(abs, weights))


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=6).filter(lambda values: max(map(abs, values)) > 1e-3))
def test_rounding_never_lifts_a_pair_above_the_limit(weights: list[float]) -> None:
    rounded = integers(torch.tensor([weights]), BYTES)
    high, low = pair(rounded)
    assert -PAIR <= low <= high <= PAIR
    assert int(rounded.abs().max()) <= 127


@pytest.mark.parametrize(("count", "most"), [(9, 1.7), (64, 1.85)])
def test_a_pair_costs_less_than_a_bit(count: int, most: float) -> None:
    """The range of filters of normal weights grows by less than 7 bits for all would let it."""
    torch.manual_seed(0)
    rows = torch.randn(1000, count)
    growth = weight_range(rows, BYTES) / weight_range(rows, FULL)
    assert float(growth.min()) >= 1
    assert float(growth.max()) <= 2 * 127 / 128 + 1e-5
    assert float(growth.mean()) < most


def convolution(weights: list[list[int]]) -> Graph:
    """A graph with one convolution of these integer weights (C', C, 1, 1)."""
    array = torch.tensor(weights, dtype=torch.int8)[:, :, None, None].numpy()
    names = ["x", "s", "z", "w", "s", "wz", "s", "z"]
    node = helper.make_node("QLinearConv", names, ["y"], name="/stem/conv")
    return Graph(
        helper.make_model(
            helper.make_graph(
                [node], "one", [helper.make_tensor_value_info("x", TensorProto.UINT8, ["b", len(weights[0]), 1, 1])],
                [helper.make_tensor_value_info("y", TensorProto.UINT8, None)], [numpy_helper.from_array(array, "w")],
            )
        ),
        {"w": array}, {"y": node}, {},
    )  # fmt: skip


def test_the_proof_counts_filters_that_can_overflow() -> None:
    found = proof(convolution([[127, 1, -128], [127, 2, 0], [-100, -29, 100], [64, 64, 64]]))
    assert (found["filters"], found["unsafe_filters"], found["largest_pair"]) == (4, 2, 129)
    assert (found["proven"], found["unsafe_layers"]) == (False, {"stem.conv": 2})
    assert "in 2 of 4 filters" in statement(found)
    safe = proof(convolution([[127, 1, -128], [64, 64, 64]]))
    assert (safe["proven"], safe["unsafe_layers"]) == (True, {})
    assert "proven from the integer weights of all 2 filters" in statement(safe)


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_is_portable_unless_told_otherwise(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = {}
    for portable in (True, False):
        folder = tmp_path_factory.mktemp(name)
        quantized = quantize(CASES["inverted"], loaded(name), folder, QuantSpec(portable=portable))
        found[portable] = proof(read_graph(quantized.path))
    assert (found[True]["proven"], found[False]["proven"]) == (True, False)
    assert found[True]["filters"] == found[False]["filters"] > 50
