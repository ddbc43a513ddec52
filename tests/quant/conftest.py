"""Small networks with the statistics of trained ones, quantized and exported once per case."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from quant.backend import USUAL, Backend
from quant.graph import read_graph
from quant.graph_cost import graph_complexity
from system.checkpoint import Checkpoint, save_checkpoint
from system.complexity import Shape
from system.files import write_json
from system.models.network import Network, build
from system.models.reparam import deploy
from system.spec import ExperimentSpec, FeatureSpec, ModelSpec, QuantSpec, StageSpec

from .light import LightBackend

SHAPE: Shape = (1, 24, 21)
CLASSES = 4
RATE = 4000
FEATURES = FeatureSpec(sample_rate=RATE, n_fft=256, win_length=200, hop_length=200, n_mels=SHAPE[1])
STAGES = (StageSpec(depth=1), StageSpec(depth=2, stride=(2, 2), ratio=2.0))
INVERTED = ModelSpec(
    width=8, width_multiple=2, stem_kernel=(3, 3), kernel_size=(3, 3), activation="relu", norm="batch",
    pooling="average", stages=STAGES,
)  # fmt: skip
INCEPTION = INVERTED.changed(block="rep_inception", branches=(3, 5), stem="conv_pool", downsampling="strided")
CASES = {
    "inverted": INVERTED,
    "silu_resnorm_attentive": INVERTED.changed(
        activation="silu", norm="resnorm", pooling="attentive", activations_kept=("depthwise",)
    ),
    "gelu_pool": INVERTED.changed(activation="gelu", downsampling="pool"),
    "prelu_strided": INVERTED.changed(activation="prelu", downsampling="strided"),
    "identity_shortcut_conv_head": INVERTED.changed(
        shortcut="identity", head="conv", stem="double_conv", downsampling="strided", dropout=0.0,
        stages=(StageSpec(depth=1), StageSpec(depth=1, stride=(1, 2)), StageSpec(depth=1, ratio=2.0)),
    ),
    "inception": INCEPTION,
    "inception_silu": INCEPTION.changed(activation="silu", norm="resnorm"),
    "inception_long_kernels": INCEPTION.changed(branches=(3, 11)),
}  # fmt: skip


@dataclass(frozen=True)
class Quantized:
    spec: ModelSpec
    network: nn.Module  # calibrated and frozen
    deployed: Network
    features: torch.Tensor
    path: Path


def random_network(spec: ModelSpec, features: torch.Tensor, classes: int = CLASSES) -> Network:
    """Fresh weights, BatchNorm statistics of `features`, logits that differ from segment to segment."""
    network = build(spec, tuple(features.shape[1:]), classes)  # type: ignore[arg-type]
    network.train()
    with torch.no_grad():
        for _ in range(4):
            network(features)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
        network.get_parameter("head.classify.conv.weight").normal_(std=0.5)
    return network.eval()


def made_features(count: int = 64, shape: Shape = SHAPE) -> torch.Tensor:
    """(count, *shape): noise with a pattern over time."""
    features = torch.from_numpy(np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32))
    features[:, :, :, ::3] += 1.0
    return features


def quantize(spec: ModelSpec, backend: Backend, folder: Path, how: QuantSpec = USUAL) -> Quantized:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    features = made_features()
    deployed = deploy(random_network(spec, features), spec, SHAPE, CLASSES)
    network = backend.prepare(deployed, spec, SHAPE, CLASSES, how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        backend.calibrate(network, list(features.split(16)))
        network = backend.freeze(network)
        path = folder / "int8.onnx"
        backend.export_onnx(network, SHAPE, path, 17)
    return Quantized(spec, network, deployed, features, path)


@pytest.fixture(scope="session", params=CASES, ids=str)
def quantized(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    return quantize(CASES[request.param], LightBackend(), tmp_path_factory.mktemp(request.param))


def checkpoint_of(
    quantized: Quantized, temperature: float = 1.7, thresholds: tuple[float, ...] | None = None
) -> Checkpoint:
    spec = ExperimentSpec(features=FEATURES, model=quantized.spec)
    assert spec.input_shape() == SHAPE
    rows = np.linspace(-1, 1, SHAPE[1], dtype=np.float32)
    names = tuple("abcd"[:CLASSES])
    return Checkpoint(spec, names, rows - 7, 2 + rows / 2, {}, thresholds, temperature)


def only(case: str) -> pytest.MarkDecorator:
    """For what does not depend on the network."""
    return pytest.mark.parametrize("quantized", [case], indirect=True)


@pytest.fixture
def deployable(quantized: Quantized, tmp_path: Path) -> Path:
    """A run folder with what deployment reads of it."""
    folder = tmp_path / "run"
    save_checkpoint(folder / "best" / "model.safetensors", checkpoint_of(quantized))
    (folder / "quant" / "brevitas").mkdir(parents=True)
    shutil.copy(quantized.path, folder / "quant" / "brevitas" / "int8.onnx")
    write_json(folder / "quant" / "brevitas" / "complexity.json", graph_complexity(read_graph(quantized.path)))
    return folder
