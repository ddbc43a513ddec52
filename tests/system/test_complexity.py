"""Bytes and peak activations by hand; totals under the keys of complexity.json."""

from __future__ import annotations

import pytest

from system import complexity as c
from system.complexity import Complexity, Map

X = Map(1, 4, 6)


def test_each_operator_by_hand() -> None:
    conv = c.convolution(X, Map(2, 4, 6), (3, 3), 1, bias=True)
    assert (conv.weights, conv.biases, conv.params) == (18, 2, 20)
    assert (conv.macs_exact, conv.macs_torchinfo, conv.macs_nessi_tflite) == (18 * 24, 20 * 24, 18 * 24)
    depthwise = c.convolution(Map(8, 4, 6), Map(8, 2, 3), (3, 5), 8, bias=False)
    assert (depthwise.kind, depthwise.weights, depthwise.macs_torchinfo) == ("depthwise", 120, 120 * 6)
    assert c.convolution(Map(8, 4, 6), Map(8, 4, 6), (1, 1), 2, bias=False).weights == 32
    assert (c.batch_norm(Map(5, 4, 6)).params, c.batch_norm(Map(5, 4, 6)).macs_torchinfo) == (10, 10)
    assert c.pooling(Map(3, 4, 6), Map(3, 2, 3), (2, 2)).macs_nessi_tflite == 4 * 18
    assert c.mean(Map(3, 4, 6), Map(3, 1, 1)).macs_nessi_tflite == 72
    assert c.addition(Map(3, 4, 6), Map(3, 4, 6)).macs_nessi_tflite == 72
    assert c.residual_norm(Map(3, 4, 6)).macs_nessi_tflite == 3 * 72 + 4
    assert (c.activation(X, "prelu", 1).params, c.activation(X, "relu", 0).params) == (1, 0)


def test_bytes_by_hand() -> None:
    """int8 weights; per channel a float32 scale, and for a bias int32 with a scale; 5 bytes per quantizer."""
    y = Map(2, 4, 6)
    layers = [c.convolution(X, y, (3, 3), 1, bias=True), c.activation(y, "silu", 0), c.activation(y, "prelu", 1)]
    cost = Complexity.of(layers)
    quantizers = 1 + 1 + 2 + 1  # input, convolution, SiLU, PReLU
    assert cost.weight_bytes == 18
    assert cost.total_bytes == 18 + 2 * 4 + 2 * 4 + 1 * 4 + quantizers * 5
    assert Complexity.of(layers, lambda layer: 4).weight_bytes == 9
    assert Complexity.of(layers[:1], lambda layer: 3).weight_bytes == 7  # 54 bits
    first = layers[0]._replace(name="stem.conv")
    assert Complexity.of([first, *layers], lambda layer: 4 if layer == "stem.conv" else 8).weight_bytes == 9 + 18


def test_the_peak_holds_a_residual_alive() -> None:
    """x (24) -> a (96) -> b (48) with x kept for the addition: 24 + 96 + 48 at the second layer."""
    a, b = Map(4, 4, 6), Map(2, 4, 6)
    narrow = Map(1, 4, 6)
    layers = [
        c.convolution(X, a, (1, 1), 1, bias=True),
        c.convolution(a, b, (1, 1), 1, bias=True),
        c.convolution(b, narrow, (1, 1), 1, bias=True),
    ]
    assert Complexity.of(layers).peak_activation_bytes() == 96 + 48
    assert Complexity.of([*layers, c.addition(narrow, X)]).peak_activation_bytes() == 24 + 96 + 48


def test_macs_is_the_largest_view() -> None:
    rows = [c.convolution(X, Map(2, 4, 6), (3, 3), 1, bias=True), c.mean(Map(2, 4, 6), Map(2, 1, 1))]
    cost = Complexity.of(rows)
    assert (cost.macs_exact, cost.macs_torchinfo, cost.macs_nessi_tflite) == (432, 480, 480)
    assert Complexity.of([*rows, c.addition(X, X)]).macs == 504
    assert Complexity.of([*rows, c.weighted_sum(Map(9, 4, 6), X, Map(9, 1, 1))]).macs == 648


def test_totals_and_rows_add_up() -> None:
    y = Map(2, 4, 6)
    cost = Complexity.of([c.convolution(X, y, (3, 3), 1, bias=False), c.batch_norm(y), c.activation(y, "relu", 0)])
    totals, rows = cost.totals(), cost.rows()
    assert set(totals) == {
        "params", "macs", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "macs_fvcore", "weight_bytes",
        "total_bytes",
        "peak_activation_bytes",
    }  # fmt: skip
    assert [row["kind"] for row in rows] == ["conv", "batch_norm", "relu"]
    for key in ("params", "macs_exact", "macs_torchinfo", "macs_nessi_tflite"):
        assert totals[key] == sum(row[key] for row in rows)
    assert totals["params"] == 18 + 4


@pytest.mark.parametrize(("channels", "freq", "time"), [(1, 1, 1), (3, 5, 7)])
def test_a_map_knows_its_size(channels: int, freq: int, time: int) -> None:
    assert Map(channels, freq, time).size == channels * freq * time
    assert Map(channels, freq, time).positions == freq * time
