"""The estimate of latency: every layer of every network has an operator that stands for it, and the sum is theirs."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quant import cost_table
from quant.cost_table import CHANNELS, POSITIONS, REFERENCES, WHOLE_VECTORS, CostTable, lookup, wanted
from quant.operator_costs import cases, measure, row
from system.complexity import Complexity, LayerCost, Map
from system.errors import RunError
from system.files import read_json
from system.models.catalog import CATALOG, model_spec
from system.models.network import complexity
from tests.models.variants import CASES

WANTED = list(wanted())


def made_up(ms: Any = lambda c, p: 1e-6 * c * p) -> list[dict[str, Any]]:
    """A table as it would be measured, with times from a formula of channels and positions."""
    return [
        {"operator": case.name, **case.y._asdict(), "int8_ms": ms(case.y.channels, case.y.positions)} for case in WANTED
    ]


TABLE = CostTable(made_up())


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_layer_of_every_network_is_found(case: Any) -> None:
    assert TABLE.estimate(complexity(*case)) > 0


def test_an_operator_costs_what_was_measured_and_between_and_beyond_goes_on() -> None:
    for channels in CHANNELS:
        for freq, time in POSITIONS:
            assert TABLE.term("1x1", channels, freq * time) == pytest.approx(1e-6 * channels * freq * time)
    for channels, positions in ((30, 700), (7, 20), (300, 6000)):
        assert TABLE.term("silu", channels, positions) == pytest.approx(1e-6 * channels * positions, rel=1e-6)


@settings(deadline=None, max_examples=25)
@given(channels=st.integers(4, 300), positions=st.integers(8, 6000), seed=st.integers(0, 999))
def test_more_channels_or_positions_are_never_faster(channels: int, positions: int, seed: int) -> None:
    noise = random.Random(seed)
    table = CostTable(made_up(lambda c, p: noise.uniform(-0.1, 1.0) * 1e-6 * c * p))
    here = table.term("add", channels, positions)
    assert table.term("add", channels + 1, positions) >= here * (1 - 1e-9)
    assert table.term("add", channels, positions + 1) >= here * (1 - 1e-9)


def test_what_stands_for_a_layer() -> None:
    def conv(channels: int, out: Map, window: tuple[int, int], groups: int = 1) -> tuple[str, float, int, float]:
        kind, weights = ("conv", 0) if groups == 1 else ("depthwise", out.channels * math.prod(window))
        return lookup(LayerCost(kind, (Map(channels, 20, 25),), out, weights=weights, window=window))

    wide = Map(48, 20, 25)
    assert conv(12, wide, (1, 1)) == ("1x1", 24, 500, 1)
    assert conv(12, wide, (2, 2)) == ("dense 3x3", 24, 500, 4 / 9)
    assert conv(1, wide, (5, 5)) == ("stem 5x5 stride 2x1", 48, 500, 1)
    assert conv(48, wide, (5, 5), 48) == ("depthwise 5x5 whole", 48, 500, 1)
    assert conv(44, Map(44, 20, 25), (1, 11), 44) == ("depthwise 1x11", 44, 500, 1)
    assert conv(44, Map(44, 20, 25), (1, 1), 44) == ("depthwise 1x3", 44, 500, 1)
    # time stands beside the channels where a kernel slides over frequency: 44 * 12 fill whole vectors
    assert conv(44, Map(44, 20, 12), (11, 1), 44)[0] == "depthwise 11x1 whole"
    assert lookup(LayerCost("mean", (wide,), Map(48, 1, 1))) == ("global average", 48, 500, 1)
    assert lookup(LayerCost("layer_norm", (wide,), wide)) == ("norm layer", 48, 500, 1)
    assert lookup(LayerCost("reshape", (wide,), wide))[3] == 0


def test_the_factor_of_whole_networks_scales_the_sum() -> None:
    cost = complexity(model_spec("kt_final"), (1, 80, 51), 10)
    assert CostTable(made_up(), 2.0).estimate(cost) == pytest.approx(2 * TABLE.estimate(cost), abs=1e-3)


def test_a_table_with_a_hole_or_without_an_operator_is_refused() -> None:
    rows = made_up()
    with pytest.raises(RunError, match="has holes at '1x1'"):
        CostTable([r for r in rows if r["operator"] != "1x1" or r["channels"] != CHANNELS[1] or r["time"] != 25])
    table = CostTable([r for r in rows if r["operator"] != "add"])
    with pytest.raises(RunError, match="has no 'add'"):
        table.estimate(complexity(model_spec("kt_final"), (1, 80, 51), 10))


def test_a_measured_operator_is_a_row_that_the_table_reads() -> None:
    case = next(case for case in cases(Map(16, 6, 5)) if case.name == "dense 3x3")
    found = measure(case, ("int8",), turns=15)
    assert found["int8"] > 0
    assert set(row(case, found)) == {"operator", "channels", "freq", "time", "int8_ms"}


def test_the_table_is_measured_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With made-up operators, and whole networks that take three times the sum of theirs."""
    monkeypatch.setenv("TINYSCENE_CACHE", str(tmp_path))
    asked: list[int] = []

    def measured(chosen: Any) -> list[dict[str, Any]]:
        asked.append(len(chosen))
        return made_up()

    names = iter(REFERENCES)

    def three_times(path: Path, shape: Any) -> float:
        entry = CATALOG[next(names)]
        assert path.is_file()
        return 3 * TABLE.estimate(complexity(entry.spec, entry.shape, entry.classes))  # type: ignore[arg-type]

    monkeypatch.setattr(cost_table, "measured", measured)
    monkeypatch.setattr(cost_table, "milliseconds", three_times)
    first, second = cost_table.cost_table(), cost_table.cost_table()
    assert first.factor == second.factor == pytest.approx(3)
    grid = len(POSITIONS) * (len(CHANNELS) + len(WHOLE_VECTORS))
    assert asked == [len(made_up())]
    assert asked[0] > 10 * grid
    (path,) = (tmp_path / "latency").glob("*/table.json")
    kept = read_json(path, "")
    assert kept["machine"] == cost_table.machine()
    assert list(kept["references"]) == list(REFERENCES)
    assert [p.name for p in path.parent.iterdir()] == ["table.json"]


def test_a_network_without_a_layer_takes_no_time() -> None:
    assert TABLE.estimate(Complexity.of([])) == 0
