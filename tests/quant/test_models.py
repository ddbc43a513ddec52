"""Every block with every option, and every published network that trains, as integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from quant.activations import ACTIVATION_LAYERS
from quant.factory import QuantLayers
from quant.graph import fusion, logit_scale, read_graph, session
from quant.graph_cost import graph_complexity
from quant.norms import NORM_LAYERS
from quant.parity import agreement
from quant.qat import MOST_TRAINED
from system.models.factory import LayerFactory
from system.models.float_layers import FloatLayers
from system.models.layers import ACTIVATIONS
from system.models.network import build, complexity
from system.models.norms import NORMS
from system.models.reparam import deploy
from tests.models.variants import CASES, Case, randomised

from .light import LightBackend

COUNTS = ("params", "macs", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "weight_bytes", "total_bytes")
USUAL = ("catalog: kt_final", "catalog: dcase2024_baseline", "catalog: audio_rep_inception_128k")


def is_quick(name: str) -> bool:
    """Every option of one block, every block, and three whole networks; the others take minutes."""
    return name.startswith("inverted: ") or name.endswith(": base") or name in USUAL


SMALL_ENOUGH = {name: case for name, case in CASES.items() if complexity(*case).params <= MOST_TRAINED}
EVERY = [
    pytest.param(case, id=name, marks=() if is_quick(name) else pytest.mark.slow) for name, case in SMALL_ENOUGH.items()
]


@pytest.mark.parametrize("case", EVERY)
def test_as_integers(case: Case, tmp_path: Path) -> None:
    """Every layer and addition is an integer operator, torch and ONNX Runtime agree, and the file costs the plan."""
    spec, shape, classes = case
    torch.manual_seed(0)
    backend, path = LightBackend(), tmp_path / "int8.onnx"
    deployed = deploy(randomised(build(spec, shape, classes)), spec, shape, classes)
    features = torch.randn(12 if shape[1] * shape[2] < 1000 else 3, *shape)
    quantized = backend.prepare(deployed, spec, shape, classes)
    backend.calibrate(quantized, [features])
    with torch.inference_mode():
        in_float = deployed(features).numpy()
        in_training = quantized(features).numpy()
        quantized = backend.freeze(quantized)
        frozen = quantized(features).numpy()
    backend.export_onnx(quantized, shape, path, 17)

    fused = fusion(path)
    additions = sum(type(module).__name__ == "QuantAdd" for module in quantized.modules())
    assert (fused.conv_integer, fused.left_float) == (fused.conv_total, ())
    assert fused.operators.get("QLinearAdd", 0) == additions

    integer = session(path).run(None, {"features": features.numpy()})[0]
    graph = read_graph(path)
    result = agreement(frozen, integer, logit_scale(graph))
    assert result["max_lsb"] <= 2
    assert result["within_1_lsb"] >= 0.999
    power = np.square(in_float).mean()
    assert np.square(in_training - frozen).mean() < 0.02 * power, "training must imitate the integers"
    assert np.square(frozen - in_float).mean() < 0.05 * power, "the integers must stand for the float network"

    cost, planned = graph_complexity(graph), complexity(spec, shape, classes).totals()
    assert {key: cost[key] for key in COUNTS} == {key: planned[key] for key in COUNTS}


def test_the_factory_has_every_layer_that_networks_ask_for() -> None:
    asked = {name for name in vars(LayerFactory) if not name.startswith("_")}
    assert asked <= set(dir(QuantLayers))
    assert asked <= set(dir(FloatLayers))


def test_every_activation_and_norm_has_an_integer_form() -> None:
    assert set(ACTIVATION_LAYERS) == set(ACTIVATIONS)
    assert set(NORM_LAYERS) | {"batch"} == set(NORMS)
