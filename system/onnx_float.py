"""The float deploy form as ONNX: input `features` (batch, 1, mel bands, frames), output `logits` (batch, classes)."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from system.files import write_with
from system.models.network import Network, Shape

INPUT, OUTPUT = "features", "logits"
DYNAMIC_BATCH = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}


def export_float(network: Network, shape: Shape, path: Path, opset: int = 17) -> None:
    """Write a deploy-form network, which must be in evaluation mode, as float32 ONNX with a free batch size."""

    def save(part: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (torch.zeros(1, *shape),),
                str(part),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=DYNAMIC_BATCH,
                opset_version=opset,
                dynamo=False,
            )

    write_with(path, save)
