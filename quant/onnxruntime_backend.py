"""ONNX Runtime's static quantization: the reference without training, for any network that can be exported.

Activations are uint8, weights int8 with a scale per output channel (all convolutions then run as integers).
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from quant.backend import USUAL
from quant.graph import session
from quant.quantizers import WeightForm, weight_range
from system.complexity import Shape
from system.errors import ConfigError, RunError
from system.files import write_with
from system.onnx_float import INPUT, export_float
from system.progress import progress
from system.spec import ModelSpec, QuantSpec

WEIGHTED = ("Conv", "Gemm", "MatMul")
ROOTS = ("Sqrt", "ReduceL2", "Reciprocal")  # a module with one of these computes a norm
TRAINABLE_ONLY = ("weight_bits", "layer_bits", "learned_scales", "correct_bias")  # of QuantSpec
OPSET = 17  # of the graph that is compared before one is exported


class Batches(CalibrationDataReader):
    def __init__(self, batches: list[Tensor]) -> None:
        self.rest: Iterator[Tensor] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.rest, None)
        return None if batch is None else {INPUT: batch.numpy()}


class StaticNetwork(nn.Module):
    """The float network until it is calibrated, then the quantized graph as it is written: not optimized, in float."""

    def __init__(self, network: nn.Module, shape: Shape, form: WeightForm) -> None:
        super().__init__()
        self.network, self.shape, self.form = network, shape, form
        self.batches: list[Tensor] = []
        self.runtime: onnxruntime.InferenceSession | None = None

    def graph(self, opset: int) -> onnx.ModelProto:
        """Raises RunError before calibration."""
        if not self.batches:
            raise RunError("the network is not calibrated: ONNX Runtime quantizes by ranges that it has seen")
        with tempfile.TemporaryDirectory() as folder, progress("quantizing with ONNX Runtime", None):
            source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
            export_float(self.network, self.shape, source, opset)
            model = onnx.load(str(source))
            quietly(
                quantize_static, source, target, Batches(self.batches), quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                nodes_to_exclude=inside_norms(model),
                extra_options={"TensorQuantOverrides": weight_scales(model, self.form)},
            )  # fmt: skip
            return onnx.load(str(target))

    def forward(self, x: Tensor) -> Tensor:
        if self.runtime is None:
            return self.network(x)
        return torch.from_numpy(self.runtime.run(None, {INPUT: x.detach().cpu().numpy()})[0])


def inside_norms(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes of modules that compute a norm: its statistics do not fit 8 bits."""

    def scope(name: str) -> str:
        return name.rpartition("/")[0]

    scopes = {scope(node.name) for node in model.graph.node if node.op_type in ROOTS}
    return [n.name for n in model.graph.node if scope(n.name) in scopes and n.op_type not in WEIGHTED]


def weight_scales(model: onnx.ModelProto, form: WeightForm) -> dict[str, list[dict[str, Any]]]:
    """What the quantizer is told of every weight: its scale for each output channel."""
    matrices = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer if len(tensor.dims) > 1
    }
    scales = {}
    for node in model.graph.node:
        if node.op_type not in WEIGHTED or node.input[1] not in matrices:
            continue
        weight = matrices[node.input[1]]
        transposed = any(a.name == "transB" and a.i for a in node.attribute)
        axis = 0 if node.op_type == "Conv" or transposed else 1
        rows = torch.from_numpy(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).copy())
        scale = weight_range(rows, form).numpy() / np.float32(form.largest)
        scale[scale == 0] = 1  # weights that are nothing but zero
        scales[node.input[1]] = [{"axis": axis, "scale": s, "zero_point": np.int8(0)} for s in scale]
    return scales


def quietly(call: Any, *arguments: Any, **options: Any) -> None:
    """The quantizer advises, by the root logger, to preprocess: the deploy form has nothing left to fuse."""
    logging.disable(logging.WARNING)
    try:
        call(*arguments, **options)
    finally:
        logging.disable(logging.NOTSET)


class StaticBackend:
    """See quant.backend.Backend."""

    def prepare(
        self, network: nn.Module, spec: ModelSpec | None, shape: Shape, classes: int, how: QuantSpec = USUAL
    ) -> StaticNetwork:
        for key in TRAINABLE_ONLY:
            if getattr(how, key) != getattr(USUAL, key):
                raise ConfigError(f"quant.{key}: the backend onnxruntime has no such thing; brevitas has")
        return StaticNetwork(network.eval(), shape, WeightForm(portable=how.portable))

    def calibrate(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        assert isinstance(quantized, StaticNetwork)
        quantized.batches = batches
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "int8.onnx"
            onnx.save(quantized.graph(OPSET), str(path))
            quantized.runtime = session(path, threads=torch.get_num_threads(), level="off")

    def freeze(self, quantized: nn.Module) -> nn.Module:
        assert isinstance(quantized, StaticNetwork)
        if quantized.runtime is None:
            raise RunError("the network is not calibrated: ONNX Runtime quantizes by ranges that it has seen")
        return quantized.eval()

    def export_onnx(self, quantized: nn.Module, shape: Shape, path: Path, opset: int) -> None:
        assert isinstance(quantized, StaticNetwork)
        model = quantized.graph(opset)
        write_with(path, lambda part: onnx.save(model, str(part)))

    def parameter_bits(self, quantized: nn.Module) -> dict[str, int]:
        assert isinstance(quantized, StaticNetwork)
        return {name: 8 if p.dim() > 1 else 32 for name, p in quantized.network.named_parameters()}


backend = StaticBackend()
