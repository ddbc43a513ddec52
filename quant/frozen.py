"""The quantized network beside its integer file: kept, so that the two can be compared again on other recordings."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from quant.backend import Backend
from system.checkpoint import Checkpoint
from system.errors import RunError
from system.files import whole_file

NAME = "quantized.safetensors"


def keep(quantized: nn.Module, folder: Path) -> None:
    state = {key: value.detach().cpu().contiguous().clone() for key, value in quantized.state_dict().items()}
    with whole_file(folder / NAME) as part:
        part.write_bytes(save(state))


def kept(checkpoint: Checkpoint, deployed: nn.Module, backend: Backend, folder: Path) -> nn.Module:
    """The frozen network that `int8.onnx` in `folder` was written from. Raises RunError for a missing or other one."""
    path, spec = folder / NAME, checkpoint.spec
    if not path.is_file():
        raise RunError(f"{path} does not exist; python quant/run.py qat or ptq --run RUN makes it")
    shape = spec.input_shape()
    quantized = backend.prepare(deployed, spec.model, shape, len(checkpoint.classes))
    backend.calibrate(quantized, [torch.randn(2, *shape)])  # some libraries have no place for a range before
    try:
        quantized.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"{path} is not of this network: {str(error).splitlines()[0]}") from None
    return backend.freeze(quantized)
