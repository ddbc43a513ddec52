"""Weights of 4 bits, alone and beside 8: packed in the file, counted as packed, and the same integers everywhere."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quant.backend import BACKENDS
from quant.deployment.c.weights import stored, write_c
from quant.factory import QuantLayers
from quant.graph import LEVELS, fusion, logit_scale, read_graph, session
from quant.graph_cost import graph_complexity
from quant.layers import QuantConv
from quant.portable import proof
from quant.writer import INT4
from system.errors import ConfigError
from system.files import write_json
from system.models.catalog import model_spec
from system.models.counting import CostLayers
from system.models.network import Network, complexity, weighted
from system.spec import QuantSpec

from . import interpreter
from .conftest import CASES, CLASSES, SHAPE, Quantized, quantize
from .light import LightBackend
from .test_backends import loaded

TRAINING = [name for name, row in BACKENDS.items() if row.trains]
MIXED = QuantSpec(weight_bits=4, layer_bits={"stem*": 8, "head*": 8})
WIDTHS = {
    "4 bits": QuantSpec(weight_bits=4), "mixed": MIXED, "last stage": QuantSpec(layer_bits={"stages.1.*": 4}),
}  # fmt: skip


@pytest.fixture(scope="module", params=WIDTHS)
def narrow(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[QuantSpec, Quantized]:
    how = WIDTHS[request.param]
    return how, quantize(CASES["inverted"], LightBackend(), tmp_path_factory.mktemp("narrow"), how)


def test_bytes_are_those_of_the_bits(narrow: tuple[QuantSpec, Quantized]) -> None:
    how, quantized = narrow
    bits = LightBackend().parameter_bits(quantized.network)
    sizes = {name: p.numel() for name, p in quantized.deployed.named_parameters()}
    cost = graph_complexity(read_graph(quantized.path))
    planned = complexity(quantized.spec, SHAPE, CLASSES, quant=how)
    for key in ("params", "macs_exact", "weight_bytes", "total_bytes"):
        assert cost[key] == planned.total(key), key
    assert cost["weight_bytes"] == sum(-(-sizes[name] * n // 8) for name, n in bits.items() if name.endswith("weight"))
    assert cost["bias_bytes"] == sum(sizes[name] * 4 for name in bits if name.endswith("bias"))
    wide = {name for name, n in bits.items() if n == 8}
    if how.layer_bits.get("stages.1.*") == 4:
        assert wide == {name for name, n in bits.items() if n != 32 and not name.startswith("stages.1.")} != set()
    else:
        assert wide == ({"stem.conv.conv.weight", "head.classify.conv.weight"} if how.layer_bits else set())
    assert quantized.path.stat().st_size > cost["weight_bytes"]


@pytest.mark.parametrize("case", [*CASES, "dcase2024_baseline", "cp_resnet_c32", "bc_resnet_1", "kt_final"])
def test_layers_are_counted_under_the_names_that_they_are_quantized_by(case: str) -> None:
    spec = CASES[case] if case in CASES else model_spec(case)
    shape = SHAPE if case in CASES else (1, 40, 101) if case.startswith("bc_") else (1, 80, 51)
    counted = weighted(Network(CostLayers("deploy"), spec, shape, CLASSES))
    quantized = Network(QuantLayers(LightBackend().quantizers), spec, shape, CLASSES)
    names = [name for name, module in quantized.named_modules() if isinstance(module, QuantConv)]
    assert sorted(name for _, name in counted) == sorted(names)


def test_no_weight_needs_more_bits(narrow: tuple[QuantSpec, Quantized]) -> None:
    _, quantized = narrow
    graph = read_graph(quantized.path)
    weights = [graph.stored(node.input[3]) for node in graph.nodes("QLinearConv")]
    packed = [w for w in weights if w is not None and w.dtype == INT4]
    assert packed
    assert max(int(np.abs(w.astype(int)).max()) for w in packed) == 7
    assert proof(graph)["filters"] == sum(len(w) for w in weights if w is not None)
    assert proof(graph)["proven"]


def test_the_file_computes_the_same_integers_everywhere(narrow: tuple[QuantSpec, Quantized]) -> None:
    _, quantized = narrow
    features = quantized.features.numpy()
    lsb = logit_scale(read_graph(quantized.path))
    with torch.inference_mode():
        expected = quantized.network(quantized.features).numpy()
    assert np.ptp(expected, axis=0).max() > 10 * lsb, "the comparison must not be vacuous"
    fused = fusion(quantized.path)
    assert fused.conv_integer == fused.conv_total > 0
    for level, threads in itertools.product(LEVELS, (1, 2)):
        found = session(quantized.path, threads, level=level).run(None, {"features": features})[0]
        assert np.rint(np.abs(found - expected) / lsb).max() <= 1, (level, threads)
    assert np.rint(np.abs(interpreter.run(quantized.path, features) - expected) / lsb).max() <= 1


def test_halves_of_a_byte_in_c(narrow: tuple[QuantSpec, Quantized]) -> None:
    _, quantized = narrow
    assert stored(np.array([1, -1, 7], INT4)) == bytes([0xF1, 0x07])
    folder = quantized.path.parent
    write_json(folder / "complexity.json", graph_complexity(read_graph(quantized.path)))
    manifest = write_c(folder)
    narrow_ones = [tensor for tensor in manifest["tensors"] if tensor["type"] == "int4"]
    assert narrow_ones
    assert all(tensor["bytes"] == -(-int(np.prod(tensor["shape"])) // 2) for tensor in narrow_ones)


@pytest.mark.parametrize("name", TRAINING)
def test_libraries_round_to_the_width(name: str, tmp_path: Path) -> None:
    quantized = quantize(CASES["inverted"], loaded(name), tmp_path, MIXED)
    graph = read_graph(quantized.path)
    weights = [graph.stored(node.input[3]) for node in graph.nodes("QLinearConv")]
    largest = {str(w.dtype): int(np.abs(w.astype(int)).max()) for w in weights if w is not None}
    assert largest["int4"] == 7
    assert 64 <= largest["int8"] <= 127
    with torch.inference_mode():
        frozen = quantized.network(quantized.features).numpy()
    found = session(quantized.path).run(None, {"features": quantized.features.numpy()})[0]
    assert np.rint(np.abs(found - frozen) / logit_scale(graph)).max() <= 2


def test_a_pattern_that_fits_no_layer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"quant\.layer_bits: 'stam\*' fits no layer; layers are stem"):
        quantize(CASES["inverted"], LightBackend(), tmp_path, QuantSpec(layer_bits={"stam*": 4}))


@pytest.mark.parametrize(
    ("backend", "setting"),
    [
        ("onnxruntime", {"weight_bits": 4}),
        ("onnxruntime", {"correct_bias": True}),
        ("pytorch_quantization", {"learned_scales": True}),
    ],
)
def test_what_a_backend_has_not_is_refused(backend: str, setting: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"quant\.{next(iter(setting))}: .*{backend} has no.*brevitas has"):
        quantize(CASES["inverted"], loaded(backend), tmp_path, QuantSpec(**setting))


def test_learned_scales_learn_and_stay_portable(tmp_path: Path) -> None:
    backend: Any = loaded("brevitas")
    how = QuantSpec(learned_scales=True)
    quantized = quantize(CASES["inverted"], backend, tmp_path, how)
    network = backend.prepare(quantized.deployed, quantized.spec, SHAPE, CLASSES, how)
    backend.calibrate(network, [quantized.features])
    network.train()
    nn.functional.cross_entropy(network(quantized.features), torch.arange(64) % CLASSES).backward()
    factors = {name: p for name, p in network.named_parameters() if name.endswith("factor")}
    assert len(factors) == sum(name.endswith("weight") for name in backend.parameter_bits(network))
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in factors.values())
    with torch.no_grad():
        for factor in factors.values():
            factor.fill_(0.5)  # cuts the largest weights
    network = backend.freeze(network)
    backend.export_onnx(network, SHAPE, tmp_path / "cut.onnx", 17)
    found = proof(read_graph(tmp_path / "cut.onnx"))
    assert (found["proven"], found["largest_pair"] in (128, -128)) == (True, True)
