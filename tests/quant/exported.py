"""Integer files of the contract networks, each made once in a test session."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quant.graph import logit_scale, read_graph
from quant.qat import MOST_TRAINED
from system.models.blocks import BLOCKS
from system.models.network import build, complexity
from system.models.reparam import deploy
from tests.models.variants import CASES, randomised

from .light import LightBackend

NAMES = [name for name, case in CASES.items() if complexity(*case).params <= MOST_TRAINED]
FEW = [  # every block, and every operator that a file can hold
    *(f"{block}: base" for block in BLOCKS),
    *(name for name in NAMES if name in ("inverted: all of KT", "inverted: all of ConvNeXt", "cp_mobile: norm grn")),
    *(name for name in NAMES if name in ("inverted: activation prelu", "inverted: activation tanh")),
    *(name for name in NAMES if name in ("inverted: pooling mean_max", "broadcast: sub-bands, dilated")),
]


@dataclass(frozen=True)
class Exported:
    path: Path
    features: np.ndarray  # (n, 1, mel bands, frames)
    lsb: float  # one step of the logits

    def steps(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """How many LSB two sets of logits differ by."""
        return np.rint(np.abs(one.astype(np.float64) - other) / self.lsb).astype(int)


@functools.cache
def exported(name: str, folder: Path) -> Exported:
    """`folder` is that of the session."""
    spec, shape, classes = CASES[name]
    torch.manual_seed(0)
    backend, path = LightBackend(), folder / f"{NAMES.index(name)}.onnx"
    count = 12 if shape[1] * shape[2] < 1000 else 2
    level = torch.linspace(-1.0, 1.0, count)[:, None, None, None]  # else random networks tell no input from another
    features = torch.randn(count, *shape) * (1.5 + level) + level
    quantized = backend.prepare(
        deploy(randomised(build(spec, shape, classes)), spec, shape, classes), spec, shape, classes
    )
    backend.calibrate(quantized, [features])
    backend.export_onnx(backend.freeze(quantized), shape, path, 17)
    return Exported(path, features.numpy(), logit_scale(read_graph(path)))


def few_or_slow() -> list[object]:
    """The parameters of a test over networks: a few by default, all in the slow suite."""
    import pytest

    return [pytest.param(name, id=name, marks=() if name in FEW else pytest.mark.slow) for name in NAMES]
