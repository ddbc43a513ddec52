"""MACs and parameter memory of a model, as the rules of DCASE 2025 Task 1 count them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torchinfo

MAX_MACS = 30_000_000
MAX_PARAMS_MEMORY = 128_000  # bytes


def get_torch_macs_memory(model: torch.nn.Module, input_size: Sequence[int]) -> tuple[int, int]:
    """(MACs by torchinfo for one input of this shape, bytes of the parameters)."""
    profile = torchinfo.summary(copy.deepcopy(model).float(), input_size=tuple(input_size), verbose=0)
    return int(profile.total_mult_adds), get_model_size_bytes(model)


def get_model_size_bytes(model: torch.nn.Module) -> int:
    """Bytes of every parameter at its own type: an int8 weight is one."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
