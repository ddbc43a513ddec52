"""Noise by layer, on numbers that can be checked by hand, and on a network with one layer spoiled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quant.diagnose import Seen, decibels, diagnose, plot, quantized_layers, table
from quant.integer import Grid
from quant.layers import QuantConv

from .conftest import CASES, quantize
from .light import LightBackend, SeenRange

SPOILED = "stages.1.blocks.0.expand"


def test_decibels() -> None:
    assert decibels(100.0, 1.0) == pytest.approx(20.0)
    assert decibels(1.0, 0.0) == decibels(0.0, 0.0) == 200.0


def test_what_is_seen_of_a_layer() -> None:
    """Steps of 1 from 0 to 255: 0.5 and 1.75 are rounded, 258 is cut off, 255.4 is rounded onto the last step."""
    grid, real = Grid.of(1.0, 0), torch.tensor([0.5, 1.75, 258.0, 255.4])
    seen = Seen()
    seen.add(real[:2], grid.nearest(real[:2]))
    seen.add(real[2:], grid.nearest(real[2:]))
    assert seen.power == pytest.approx(0.25 + 1.75**2 + 258**2 + 255.4**2)
    assert seen.noise == pytest.approx(0.25 + 0.0625 + 9 + 0.16, rel=1e-4)
    assert (seen.low, seen.high, seen.grid) == (0.5, 258.0, (0.0, 255.0))
    assert (seen.clipped, seen.count) == (1, 4)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    """Of a network in which one layer's grid is forty times wider than what reaches it."""
    quantized = quantize(CASES["inverted"], LightBackend(), tmp_path_factory.mktemp("diagnosed"))
    layer = quantized.network.get_submodule(SPOILED)
    (spoiled,) = [module for module in layer.modules() if isinstance(module, SeenRange)]
    spoiled.high *= 40
    names = quantized_layers(quantized.network)
    found = diagnose(quantized.deployed, quantized.network, list(quantized.features.split(16)))
    assert [row["layer"] for row in found] == list(names)
    assert sum(isinstance(layer, QuantConv) for layer in names.values()) == sum("weight_range" in r for r in found)
    return found


def test_the_spoiled_layer_costs_most(rows: list[dict[str, object]]) -> None:
    ordered = sorted(rows, key=lambda row: row["alone"])  # type: ignore[arg-type, return-value]
    assert ordered[0]["layer"] == SPOILED
    assert float(ordered[0]["alone"]) < float(ordered[1]["alone"]) - 6  # type: ignore[arg-type]
    assert float(ordered[0]["used"]) == pytest.approx(1 / 40, rel=0.3)  # type: ignore[arg-type]
    assert all(float(row["used"]) > 0.4 for row in ordered[1:])  # type: ignore[arg-type]


def test_all_noise_so_far_is_more_than_that_of_the_first(rows: list[dict[str, object]]) -> None:
    assert rows[0]["layer"] == "input"
    assert float(rows[-1]["snr"]) < float(rows[0]["snr"]) - 6  # type: ignore[arg-type]


def test_table_and_picture(rows: list[dict[str, object]], tmp_path: Path) -> None:
    lines = table(rows, shown=3).splitlines()
    assert lines[0].split()[:2] == ["layer", "kind"]
    assert [len(lines), lines[1].split()[0]] == [4, SPOILED]
    plot(rows, tmp_path / "layers.png", "spoiled")
    assert (tmp_path / "layers.png").read_bytes().startswith(b"\x89PNG")
