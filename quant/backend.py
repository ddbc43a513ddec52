"""What a quantizer must offer, and the table of those there are. Only `*_backend.py` import a quantizer."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from system.errors import ConfigError
from system.registry import unknown
from system.spec import ModelSpec, QuantSpec

if TYPE_CHECKING:  # PyTorch takes a second, and --help asks for the names only
    from torch import Tensor, nn

    from system.complexity import Shape

USUAL = QuantSpec()


class Backend(Protocol):
    """float deploy form -> quantized network -> integer ONNX graph"""

    def prepare(
        self, network: nn.Module, spec: ModelSpec, shape: Shape, classes: int, how: QuantSpec = USUAL
    ) -> nn.Module:
        """A quantized network with the weights of a float deploy form, not calibrated yet."""

    def calibrate(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        """Set every activation range from (B, 1, mel bands, frames) inputs."""

    def freeze(self, quantized: nn.Module) -> nn.Module:
        """The network as it will be exported: evaluation mode, ranges fixed. Raises RunError if it has none."""

    def export_onnx(self, quantized: nn.Module, shape: Shape, path: Path, opset: int) -> None:
        """Write the integer graph: input `features`, output `logits`, free batch size."""

    def parameter_bits(self, quantized: nn.Module) -> dict[str, int]:
        """Parameter name -> bits at which it is stored."""


class Row(NamedTuple):
    module: str  # defines `backend`
    trains: bool  # else it quantizes any trained network, of any size and origin
    extra: str | None = None  # of this package, where the library does not come with it


BACKENDS = {
    "brevitas": Row("quant.brevitas_backend", trains=True),
    "pytorch_quantization": Row("quant.pytorch_quantization_backend", trains=True, extra="nvidia"),
    "onnxruntime": Row("quant.onnxruntime_backend", trains=False),
}


def load_backend(name: str) -> Backend:
    """Import the quantizer `name`. Raises ConfigError for a name not in the table, or a library not installed."""
    if name not in BACKENDS:
        raise ConfigError(f"--backend: {unknown('backend', name, BACKENDS)}")
    row = BACKENDS[name]
    try:
        return importlib.import_module(row.module).backend
    except ModuleNotFoundError as error:
        if row.extra is None:
            raise
        raise ConfigError(
            f"--backend {name}: the Python package {error.name!r} is not installed; "
            f"pip install 'tinyscene[{row.extra}]'"
        ) from None
