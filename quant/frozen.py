"""The quantized network beside its integer file: kept, so that the two can be compared again on other recordings."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from quant.backend import Backend
from system.checkpoint import Checkpoint
from system.config import parse
from system.errors import RunError
from system.files import whole_file
from system.spec import QuantSpec

NAME = "quantized.safetensors"


def keep(quantized: nn.Module, how: QuantSpec, folder: Path) -> None:
    state = {key: value.detach().cpu().contiguous().clone() for key, value in quantized.state_dict().items()}
    with whole_file(folder / NAME) as part:
        part.write_bytes(save(state, {"quant": json.dumps(how.plain())}))


def kept(checkpoint: Checkpoint, deployed: nn.Module, backend: Backend, folder: Path) -> nn.Module:
    """The frozen network that `int8.onnx` in `folder` was written from. Raises RunError for a missing or other one."""
    path, spec = folder / NAME, checkpoint.spec
    if not path.is_file():
        raise RunError(f"{path} does not exist; python quant/run.py qat or ptq --run RUN makes it")
    shape = spec.input_shape()
    try:
        with safe_open(path, "pt") as file:
            told = (file.metadata() or {}).get("quant")
        if told is None:
            raise RunError(f"{path} does not tell how it was quantized, as one of an older version; quantize again")
        how = parse(QuantSpec, json.loads(told), str(path))
        quantized = backend.prepare(deployed, spec.model, shape, len(checkpoint.classes), how)
        backend.calibrate(quantized, [torch.randn(2, *shape)])  # some libraries have no place for a range before
        quantized.load_state_dict(load_file(path), strict=True)
    except (SafetensorError, RuntimeError) as error:
        raise RunError(f"{path} is not of this network: {str(error).splitlines()[0]}") from None
    return backend.freeze(quantized)
