"""What every backend keeps, on its own library; one that is not installed is told in one line."""

from __future__ import annotations

import builtins
import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quant.backend import BACKENDS, Backend, load_backend
from quant.graph import fusion, logit_scale, read_graph, session
from quant.graph_cost import graph_complexity
from quant.graph_memory import peak_activations
from quant.parity import agreement
from quant.quantizers import Quantizer
from system.errors import ConfigError, RunError
from system.models.catalog import CATALOG
from system.models.network import complexity

from .conftest import CASES, CLASSES, SHAPE, Quantized, quantize

TRAINING = [name for name, row in BACKENDS.items() if row.trains]
NETWORKS = ("silu_resnorm_attentive", "inception")


def loaded(name: str) -> Backend:
    """The backend, or a skip where its extra is not installed."""
    if BACKENDS[name].extra is not None and importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed; it comes with the extra {BACKENDS[name].extra}")
    return load_backend(name)


@pytest.fixture(scope="module", params=[(b, n) for b in BACKENDS for n in NETWORKS], ids="-".join)
def by_backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Quantized]:
    name, network = request.param
    backend = loaded(name)
    return name, quantize(CASES[network], backend, tmp_path_factory.mktemp(f"{name}-{network}"))


def test_every_layer_is_integer_and_every_parameter_is_there(by_backend: tuple[str, Quantized]) -> None:
    _, quantized = by_backend
    fused = fusion(quantized.path)
    assert fused.conv_integer == fused.conv_total > 0
    cost, planned = graph_complexity(read_graph(quantized.path)), complexity(quantized.spec, SHAPE, CLASSES)
    assert (cost["params"], cost["macs_exact"]) == (planned.params, planned.macs_exact)
    assert cost["weight_bytes"] == planned.weight_bytes


def test_the_memory_of_every_file_is_counted(by_backend: tuple[str, Quantized]) -> None:
    """Files of ONNX Runtime's own quantizer also hold Constant nodes, which read nothing."""
    _, quantized = by_backend
    peak = peak_activations(read_graph(quantized.path))
    assert max(map(math.prod, peak.maps.values())) <= peak.bytes
    assert peak.bytes >= quantized.spec.width * math.prod(SHAPE[1:]) // 4, "the stem's map, of its least stride"


def test_the_frozen_network_agrees_with_the_file(by_backend: tuple[str, Quantized]) -> None:
    """To the last LSB for our own layers; the reference without training is compared with its float simulation."""
    name, quantized = by_backend
    with torch.inference_mode():
        frozen = quantized.network(quantized.features).numpy()
        in_float = quantized.deployed(quantized.features).numpy()
    integer = session(quantized.path).run(None, {"features": quantized.features.numpy()})[0]
    result = agreement(frozen, integer, logit_scale(read_graph(quantized.path)))
    assert np.abs(frozen).std() > 10 * result["lsb"], "the comparison must not be vacuous"
    if BACKENDS[name].trains:
        assert (result["max_lsb"] <= 2, result["within_1_lsb"] >= 0.999) == (True, True)
    else:
        assert result["within_1_lsb"] >= 0.95
    assert result["decided_agreement"] >= 0.99
    noise = np.square(integer - in_float).mean() / np.square(in_float - in_float.mean(axis=0)).mean()
    assert noise < 0.1


def test_bits_are_told_for_every_parameter(by_backend: tuple[str, Quantized]) -> None:
    name, quantized = by_backend
    bits = load_backend(name).parameter_bits(quantized.network)
    kernels = {f"{key}.weight" for key, m in quantized.deployed.named_modules() if isinstance(m, nn.Conv2d)}
    assert {key for key, width in bits.items() if width == 8} == kernels
    assert set(bits.values()) == {8, 32}


def test_a_network_without_ranges_is_not_frozen(by_backend: tuple[str, Quantized]) -> None:
    name, quantized = by_backend
    backend = load_backend(name)
    fresh = backend.prepare(quantized.deployed, quantized.spec, SHAPE, CLASSES)
    with pytest.raises(RunError, match="not calibrated"):
        backend.freeze(fresh)


@pytest.mark.parametrize("name", TRAINING)
def test_gradients_reach_every_weight_in_training(name: str) -> None:
    backend = loaded(name)
    torch.manual_seed(0)
    from system.models.network import build

    spec = CASES["silu_resnorm_attentive"]
    network = backend.prepare(build(spec, SHAPE, CLASSES, "deploy"), spec, SHAPE, CLASSES)
    x = torch.randn(8, *SHAPE)
    backend.calibrate(network, [x])
    network.train()
    before = network(x).detach()
    nn.functional.cross_entropy(network(x), torch.arange(8) % CLASSES).backward()
    missing = [key for key, p in network.named_parameters() if key.endswith("weight") and p.grad is None]
    assert missing == []
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert not torch.equal(network(x), before)


@pytest.mark.parametrize("name", TRAINING)
def test_a_layer_that_calibration_never_moved_still_exports(name: str, tmp_path: Path) -> None:
    """A dead layer: all its sums are cut to zero, and its weights are nothing but zero."""
    backend, spec = loaded(name), CASES["inverted"]
    torch.manual_seed(0)
    from system.models.network import build

    network = build(spec, SHAPE, CLASSES, "deploy")
    with torch.no_grad():
        network.get_parameter("stages.0.blocks.0.expand.conv.weight").zero_()
        network.get_parameter("stages.0.blocks.0.expand.conv.bias").fill_(-1.0)
    quantized = backend.prepare(network, spec, SHAPE, CLASSES)
    x = torch.randn(8, *SHAPE)
    backend.calibrate(quantized, [x])
    quantized = backend.freeze(quantized)
    backend.export_onnx(quantized, SHAPE, tmp_path / "int8.onnx", 17)
    found = session(tmp_path / "int8.onnx").run(None, {"features": x.numpy()})[0]
    lsb = logit_scale(read_graph(tmp_path / "int8.onnx"))
    with torch.inference_mode():
        assert np.isfinite(found).all()
        np.testing.assert_allclose(quantized(x).numpy(), found, atol=2 * lsb)


def test_a_foreign_module_is_quantized_after_training(tmp_path: Path) -> None:
    """A network that no specification describes, with a linear layer and BatchNorm left in."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, groups=8),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, CLASSES),
    ).eval()  # fmt: skip
    backend: Any = load_backend("onnxruntime")
    x = torch.randn(32, *SHAPE)
    quantized = backend.prepare(module, None, SHAPE, CLASSES)
    backend.calibrate(quantized, list(x.split(8)))
    backend.export_onnx(backend.freeze(quantized), SHAPE, tmp_path / "int8.onnx", 17)
    fused = fusion(tmp_path / "int8.onnx")
    assert (fused.conv_total, fused.conv_integer) == (3, 3)
    cost = graph_complexity(read_graph(tmp_path / "int8.onnx"))
    assert cost["params"] == sum(p.numel() for p in module.parameters()) - 2 * 8  # BatchNorm's are in the convolution
    found = session(tmp_path / "int8.onnx").run(None, {"features": x.numpy()})[0]
    np.testing.assert_allclose(found, module(x).detach().numpy(), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in CATALOG.items() if entry.module is not None])
def test_the_catalogues_modules_are_quantized_after_training(name: str, tmp_path: Path) -> None:
    entry, shape = CATALOG[name], (1, 64, 100)
    assert entry.module is not None
    module = entry.module(CLASSES).eval()
    backend: Any = load_backend("onnxruntime")
    quantized = backend.prepare(module, None, shape, CLASSES)
    backend.calibrate(quantized, [torch.randn(4, *shape)])
    backend.export_onnx(backend.freeze(quantized), shape, tmp_path / "int8.onnx", 17)
    fusion(tmp_path / "int8.onnx").check(tmp_path / "int8.onnx")


def without(monkeypatch: pytest.MonkeyPatch, package: str, module: str) -> None:
    """Let imports of a package fail as if it were not installed."""
    real: Callable[..., Any] = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(builtins, "__import__", refuse)


def test_an_absent_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "pytorch_quantization", "quant.pytorch_quantization_backend")
    with pytest.raises(
        ConfigError, match=r"'pytorch_quantization' is not installed; pip install 'tinyscene\[nvidia\]'"
    ):
        load_backend("pytorch_quantization")


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean 'brevitas'"):
        load_backend("brevitaz")


def test_the_runtime_is_everywhere_but_its_quantizer_in_its_backend() -> None:
    sources = (Path(__file__).resolve().parents[2] / "quant").rglob("*.py")
    assert [path.name for path in sources if "onnxruntime.quantization" in path.read_text()] == [
        "onnxruntime_backend.py"
    ]


def test_every_quantizer_of_a_network_is_of_the_protocol() -> None:
    network = loaded("brevitas").prepare(*_prepared())
    quantizers = [module for module in network.modules() if isinstance(module, Quantizer)]
    assert len(quantizers) > 5


def _prepared() -> tuple[Any, ...]:
    from system.models.network import build

    spec = CASES["inverted"]
    return build(spec, SHAPE, CLASSES, "deploy"), spec, SHAPE, CLASSES
