"""Quantization by brevitas: the same network definition, built from quantized layers.

Weights are int8 with a scale per output channel, biases int32, activations uint8 with a scale per tensor: plain
after ReLU, shifted by a zero point elsewhere. With these signs ONNX Runtime runs every convolution as an integer
operator. Quantized values pass between layers; additions, norms and pooling work on their real values and
quantize their result. Once frozen, convolutions, additions and products compute the runtime's own integers
(quant/integer.py).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.integer import Grid, addition, convolution, product
from system.complexity import Map
from system.files import write_with
from system.models.layers import (
    ACTIVATIONS,
    NORMS,
    Layer,
    Pair,
    ResNorm,
    conv_map,
    largest,
    mean_over_map,
    same_padding,
    stack_frequency,
)
from system.models.network import Network, Shape
from system.onnx_float import DYNAMIC_BATCH, INPUT, OUTPUT
from system.spec import ModelSpec

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # brevitas looks for a CUDA compiler
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import brevitas.nn as qnn
    from brevitas.export import export_onnx_qcdq
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.quant import (
        Int8WeightPerChannelFloat,
        Int32Bias,
        ShiftedUint8ActPerTensorFloat,
        Uint8ActPerTensorFloat,
    )
    from brevitas.quant_tensor import IntQuantTensor

warnings.filterwarnings("ignore", message="Computing zero point of output accumulator")
warnings.filterwarnings("ignore", message="Named tensors and all their associated APIs")
warnings.filterwarnings("ignore", message="Positional args are being deprecated", category=FutureWarning)


class Freezable(nn.Module):
    """`frozen` layers compute the runtime's integers instead of imitating them."""

    frozen = False


class Quantizer(Freezable, qnn.QuantIdentity):
    """real values -> uint8 with a zero point"""

    def __init__(self) -> None:
        qnn.QuantIdentity.__init__(self, act_quant=ShiftedUint8ActPerTensorFloat, return_quant_tensor=True)

    def forward(self, x: Tensor) -> IntQuantTensor:
        if self.frozen:
            x = grid_of(self).nearest(x)  # ONNX rounds, then adds the zero point; brevitas adds it first
        return super().forward(x)


def value(x: IntQuantTensor | Tensor) -> Tensor:
    return x.value if isinstance(x, IntQuantTensor) else x


def grid_of(quantize: nn.Module) -> Grid:
    """The grid of a calibrated quantizer."""
    act_quant: Any = quantize.act_quant
    return Grid(act_quant.scale().detach(), act_quant.zero_point().detach())


def grid_under(x: IntQuantTensor) -> Grid:
    return Grid(x.scale.detach(), x.zero_point.detach())


class Activation(Freezable):
    """Ends a layer. `first` is the quantizer that its input meets."""

    first: nn.Module


class Plain(Activation):
    """No activation: a quantizer alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Quantizer()

    def forward(self, x: Tensor) -> IntQuantTensor:
        return self.first(x)


class Relu(Activation):
    """ReLU and its uint8 quantizer in one: the rectifier costs nothing in the integer graph."""

    def __init__(self) -> None:
        super().__init__()
        self.first = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat, return_quant_tensor=True)

    def forward(self, x: Tensor) -> IntQuantTensor:
        return self.first(x)


class Silu(Activation):
    """x * sigmoid(x), with a quantizer after the sigmoid, so that both run as integer operators."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gate, self.after = Quantizer(), Quantizer(), Quantizer()

    def forward(self, x: Tensor) -> IntQuantTensor:
        x = value(self.first(x))
        gate = value(self.gate(torch.sigmoid(x)))
        if self.frozen:
            return self.after(product(x, grid_of(self.first), gate, grid_of(self.gate), grid_of(self.after)))
        return self.after(x * gate)


class Pointwise(Activation):
    """Any other activation: a real function between two quantizers."""

    def __init__(self, function: nn.Module) -> None:
        super().__init__()
        self.first, self.function, self.after = Quantizer(), function, Quantizer()

    def forward(self, x: Tensor) -> IntQuantTensor:
        return self.after(self.function(value(self.first(x))))


ACTIVATION_LAYERS: dict[str | None, Callable[[], Activation]] = {None: Plain, "relu": Relu, "silu": Silu}


def activation(name: str | None) -> Activation:
    """Activation and output quantizer; every layer ends in one."""
    if name in ACTIVATION_LAYERS:
        return ACTIVATION_LAYERS[name]()
    assert name is not None
    return Pointwise(ACTIVATIONS[name][0]())


class QuantConvAct(Layer, Freezable):
    """int8 convolution with int32 bias, then activation and quantizer. Quantized in, quantized out."""

    def __init__(
        self, out: Map, x: Map, kernel: Pair, stride: Pair, padding: Pair, groups: int, act: str | None,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(out)
        self.conv = qnn.QuantConv2d(
            x.channels, out.channels, kernel, stride, padding, groups=groups, bias=bias,
            weight_quant=Int8WeightPerChannelFloat, bias_quant=Int32Bias if bias else None,
        )  # fmt: skip
        self.act = activation(act)

    def forward(self, x: IntQuantTensor) -> IntQuantTensor:
        if self.frozen:
            weight = self.conv.quant_weight()
            grids = grid_under(x), grid_of(self.act.first)
            return self.act(convolution(x.value, grids[0], self.conv, weight.value, weight.scale, grids[1]))
        return self.act(self.conv(x))


class QuantAdd(Layer, Freezable):
    def __init__(self, out: Map, act: str | None) -> None:
        super().__init__(out)
        self.act = activation(act)

    def forward(self, x: IntQuantTensor, other: IntQuantTensor) -> IntQuantTensor:
        if self.frozen:
            grids = grid_under(x), grid_under(other), grid_of(self.act.first)
            return self.act(addition(x.value, grids[0], other.value, grids[1], grids[2]))
        return self.act(value(x) + value(other))


class QuantApply(Layer):
    """A real function of the dequantized map, then a quantizer."""

    def __init__(self, out: Map, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(out)
        self.function = function
        self.quantize = Quantizer()

    def forward(self, x: IntQuantTensor | Tensor) -> IntQuantTensor:
        return self.quantize(self.function(value(x)))


class QuantAttend(Layer):
    """Self-attentive pooling: the softmax and the weighted sum are real, the result is quantized."""

    def __init__(self, out: Map) -> None:
        super().__init__(out)
        self.quantize = Quantizer()

    def forward(self, x: IntQuantTensor, score: IntQuantTensor) -> IntQuantTensor:
        weight = value(score).softmax(dim=-1)
        return self.quantize((value(x) * weight).sum(dim=-1, keepdim=True))


class QuantResNorm(Layer):
    """ResNorm (system/models/layers.py) in units of its input's quantizer step, then a quantizer.

    On integers the sums of the mean and of the mean square are exact in float32, so that they do not depend on
    the order of summation, which differs between runtimes. Without it one flipped value in a quiet band is enough
    to change logits by several steps.
    """

    def __init__(self, out: Map) -> None:
        super().__init__(out)
        self.quantize = Quantizer()

    def forward(self, x: IntQuantTensor | Tensor) -> IntQuantTensor:
        if not isinstance(x, IntQuantTensor):  # while calibrating
            return self.quantize(ResNorm(self.map)(x))
        step = float(x.scale)
        k = x.value / step  # (B, C, F, T)
        if not self.training:
            k = torch.round(k)
        mean = k.mean(dim=(1, 3), keepdim=True)
        variance = torch.relu((k * k).mean(dim=(1, 3), keepdim=True) - mean * mean)
        normalized = (k - mean) / torch.sqrt(variance + ResNorm.eps / step**2)
        return self.quantize(ResNorm.weight * step * k + normalized)


NORM_LAYERS: dict[str, Callable[[Map], Layer]] = {"resnorm": QuantResNorm}


class Passed(Layer):
    """The map as it is."""

    def forward(self, x: IntQuantTensor) -> IntQuantTensor:
        return x


class Logits(Layer):
    """Quantized (B, classes, 1, 1) -> real (B, classes) on the grid of the last quantizer."""

    def forward(self, x: IntQuantTensor) -> Tensor:
        return value(x).flatten(1)


class QuantLayers:
    """The layer factory of the quantized deploy form."""

    def input(self, x: Map) -> nn.Module:
        return QuantApply(x, lambda features: features)

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool = True,
    ) -> nn.Module:  # fmt: skip
        padding = same_padding(kernel)
        out = conv_map(x, channels, kernel, stride, padding)
        return QuantConvAct(out, x, kernel, stride, padding, groups, act, bias or norm)

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> nn.Module:
        out = conv_map(x, channels, stride, stride, (0, 0), "downsampling")
        return QuantConvAct(out, x, stride, stride, (0, 0), 1, None)

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None) -> nn.Module:
        kernel = largest(kernels)
        return QuantConvAct(Map(*x), x, kernel, (1, 1), same_padding(kernel), x.channels, act)

    def add(self, x: Map, other: Map, act: str | None = None) -> nn.Module:
        return QuantAdd(Map(*x), act)

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        out = conv_map(x, x.channels, kernel, stride, padding, "pooling")
        return QuantApply(out, lambda maps: F.max_pool2d(maps, kernel, stride, padding))

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        out = conv_map(x, x.channels, kernel, stride, padding, "pooling")
        return QuantApply(out, lambda maps: F.avg_pool2d(maps, kernel, stride, padding))

    def norm(self, x: Map, kind: str) -> nn.Module:
        return Passed(x) if NORMS[kind] is None else NORM_LAYERS[kind](Map(*x))

    def global_average(self, x: Map) -> nn.Module:
        return QuantApply(Map(x.channels, 1, 1), mean_over_map)

    def stack_frequency(self, x: Map) -> nn.Module:
        return QuantApply(Map(x.channels * x.freq, 1, x.time), stack_frequency)

    def attend(self, x: Map, score: Map) -> nn.Module:
        return QuantAttend(Map(x.channels, 1, 1))

    def dropout(self, x: Map, p: float) -> nn.Module:
        return Passed(x)

    def output(self, x: Map) -> nn.Module:
        return Logits(x)


def set_frozen(quantized: nn.Module, frozen: bool) -> nn.Module:
    for module in quantized.modules():
        if isinstance(module, Freezable):
            module.frozen = frozen
    return quantized


class BrevitasBackend:
    """See quant.backend.Backend."""

    def prepare(self, network: Network, spec: ModelSpec, shape: Shape, classes: int) -> nn.Module:
        quantized = Network(QuantLayers(), spec, shape, classes)
        targets = dict(quantized.named_parameters())
        for key, tensor in network.state_dict().items():
            target = targets[key if key in targets else key.replace(".act.", ".act.function.")]  # a PReLU's slope
            if target.shape != tensor.shape:
                raise ValueError(f"{key}: expected the shape {tuple(target.shape)}, found {tuple(tensor.shape)}")
            with torch.no_grad():
                target.copy_(tensor)
        return quantized

    def calibrate(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        quantized.eval()
        with torch.no_grad(), calibration_mode(quantized):
            for batch in batches:
                quantized(batch)

    def freeze(self, quantized: nn.Module) -> nn.Module:
        return set_frozen(quantized.cpu().eval(), True)

    def export_onnx(self, quantized: nn.Module, shape: Shape, path: Path, opset: int) -> None:
        def save(part: Path) -> None:
            set_frozen(quantized, False)  # the graph holds the operators, not their arithmetic
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                export_onnx_qcdq(
                    quantized, args=torch.zeros(1, *shape), export_path=str(part), opset_version=opset, dynamo=False,
                    input_names=[INPUT], output_names=[OUTPUT], dynamic_axes=DYNAMIC_BATCH,
                )  # fmt: skip

        try:
            write_with(path, save)
        finally:
            set_frozen(quantized, True)

    def parameter_bits(self, quantized: nn.Module) -> dict[str, int]:
        bits = {}
        for name, module in quantized.named_modules():
            if isinstance(module, qnn.QuantConv2d):
                bits[f"{name}.weight"] = int(module.weight_quant.bit_width().item())
                if module.bias is not None:
                    bits[f"{name}.bias"] = 32
        return bits


backend = BrevitasBackend()
