"""What a quantizer must offer, and the table of those there are. Only `*_backend.py` import a quantizer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from system.errors import ConfigError
from system.models.network import Network, Shape
from system.registry import unknown
from system.spec import ModelSpec


class Backend(Protocol):
    """float deploy form -> quantized network -> integer ONNX graph"""

    def prepare(self, network: Network, spec: ModelSpec, shape: Shape, classes: int) -> nn.Module:
        """A quantized network with the weights of a float deploy form, not calibrated yet."""

    def calibrate(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        """Set every activation range from (B, 1, mel bands, frames) inputs."""

    def freeze(self, quantized: nn.Module) -> nn.Module:
        """The network as it will be exported: evaluation mode, ranges fixed."""

    def export_onnx(self, quantized: nn.Module, shape: Shape, path: Path, opset: int) -> None:
        """Write the integer graph: input `features`, output `logits`, free batch size."""

    def parameter_bits(self, quantized: nn.Module) -> dict[str, int]:
        """Parameter name -> bits at which it is stored."""


BACKENDS = {"brevitas": "quant.brevitas_backend"}  # name -> module that defines `backend`


def load_backend(name: str) -> Backend:
    """Import the quantizer `name`. Raises ConfigError for a name that is not in the table."""
    if name not in BACKENDS:
        raise ConfigError(f"--backend: {unknown('backend', name, BACKENDS)}")
    return importlib.import_module(BACKENDS[name]).backend
