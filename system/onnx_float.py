"""A float network as ONNX: input `features` (batch, 1, mel bands, frames), output `logits` (batch, classes)."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from torch import nn

from system.complexity import Shape
from system.files import write_with

INPUT, OUTPUT = "features", "logits"
DYNAMIC_BATCH = {INPUT: {0: "batch"}, OUTPUT: {0: "batch"}}


def export_float(network: nn.Module, shape: Shape, path: Path, opset: int = 17) -> None:
    """Write a network, which must be in evaluation mode, as float32 ONNX with a free batch size.

    The graph is the form's own: the branches and the BatchNorm of a train form are in it, for the runtime to fold.
    """

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
                training=torch.onnx.TrainingMode.PRESERVE,  # else BatchNorm is folded on the way
            )

    write_with(path, save)
