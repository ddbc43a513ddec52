"""The layer factory of quantized networks, and what every quantization library shares that trains on it."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from quant import layers, norms, pools
from quant.backend import USUAL
from quant.quantizers import Quantizer, Quantizers, WeightForm
from quant.writer import write_onnx
from system.complexity import Map, Shape
from system.errors import ConfigError, RunError
from system.models.factory import has_bias, largest
from system.models.maps import Pair, conv_map, dilated, same_padding
from system.models.network import Network
from system.spec import ModelSpec, QuantSpec


class QuantLayers:
    """Builds the deploy form of a network from quantized layers, with the quantizers of a library."""

    def __init__(self, make: Quantizers) -> None:
        self.make = make

    def input(self, x: Map) -> nn.Module:
        return layers.Input(x, self.make)

    def conv(
        self, x: Map, channels: int, kernel: Pair = (1, 1), stride: Pair = (1, 1), groups: int = 1,
        act: str | None = None, norm: bool = True, bias: bool | None = None, padding: Pair | None = None,
        scale: float | None = None, dilation: Pair = (1, 1),
    ) -> nn.Module:  # fmt: skip
        size = dilated(kernel, dilation)
        padding = same_padding(size) if padding is None else padding
        out = conv_map(x, channels, size, stride, padding)
        biased = has_bias(bias, norm, folded=norm)
        return layers.QuantConv(out, x, self.make, kernel, stride, padding, dilation, groups, act, biased)

    def band_norm(self, x: Map) -> nn.Module:
        return layers.BandNorm(x, self.make)

    def norm_conv(self, x: Map, channels: int, stride: Pair) -> nn.Module:
        out = conv_map(x, channels, stride, stride, (0, 0), "downsampling")
        return layers.QuantConv(out, x, self.make, stride, stride)

    def branches(self, x: Map, kernels: Sequence[Pair], act: str | None, identity: bool = True) -> nn.Module:
        return self.conv(x, x.channels, largest(kernels), groups=x.channels, act=act)

    def linear_pair(self, x: Map, hidden: int, channels: int, act: str | None = None) -> nn.Module:
        return self.conv(x, channels, act=act)

    def add(self, x: Map, other: Map, act: str | None = None) -> nn.Module:
        return layers.QuantAdd(Map(*x), act, self.make)

    def max_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        return pools.MaxPool(conv_map(x, x.channels, kernel, stride, padding, "pooling"), kernel, stride, padding)

    def avg_pool(self, x: Map, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> nn.Module:
        out = conv_map(x, x.channels, kernel, stride, padding, "pooling")
        return pools.AveragePool(out, kernel, stride, padding, self.make)

    def norm(self, x: Map, kind: str, act: str | None = None) -> nn.Module:
        return norms.norm(kind, x, act, self.make)

    def sub_band_norm(self, x: Map, sub_bands: int) -> nn.Module:
        return layers.SubBandNorm(x, sub_bands, self.make)

    def global_average(self, x: Map) -> nn.Module:
        return pools.GlobalAverage(Map(x.channels, 1, 1), x.positions, self.make)

    def frequency_average(self, x: Map) -> nn.Module:
        return pools.FrequencyAverage(Map(x.channels, 1, x.time), x.freq, self.make)

    def mean_and_max(self, x: Map) -> nn.Module:
        return pools.MeanAndMax(x, self.make)

    def stack_frequency(self, x: Map) -> nn.Module:
        return pools.StackFrequency(Map(x.channels * x.freq, 1, x.time))

    def attend(self, x: Map, score: Map) -> nn.Module:
        return pools.Attend(Map(x.channels, 1, 1), self.make)

    def dropout(self, x: Map, p: float, channels: bool = False) -> nn.Module:
        return layers.Passed(x)

    def output(self, x: Map) -> nn.Module:
        return layers.Output(x)


def plain(key: str) -> str:
    """A parameter's name without the modules that a quantized layer holds it in and a float layer does not."""
    return ".".join(word for word in key.split(".") if word not in ("function", "norm"))


def take_parameters(quantized: nn.Module, network: nn.Module) -> None:
    """Copy the parameters of a float deploy form into the same network of quantized layers. Every one must be there."""
    targets: dict[str, nn.Parameter] = {}
    for name, parameter in quantized.named_parameters():
        if targets.setdefault(plain(name), parameter) is not parameter:
            raise ValueError(f"two parameters are {plain(name)!r} but for the modules around them")
    for key, tensor in network.state_dict().items():
        target = targets[plain(key)]
        if target.shape != tensor.shape:
            raise ValueError(f"{key}: expected the shape {tuple(target.shape)}, found {tuple(tensor.shape)}")
        with torch.no_grad():
            target.copy_(tensor)


def weight_forms(names: Collection[str], how: QuantSpec) -> dict[str, WeightForm]:
    """Layer -> how its weights are stored. Raises ConfigError for a pattern that fits none."""
    if unused := [pattern for pattern in how.layer_bits if not fnmatch.filter(names, pattern)]:
        raise ConfigError(f"quant.layer_bits: {unused[0]!r} fits no layer; layers are {', '.join(names)}")
    return {name: WeightForm(how.bits_of(name), how.portable, how.learned_scales) for name in names}


class TrainableBackend:
    """quant.backend.Backend for a library whose quantizers train: all but how ranges are found."""

    quantizers: Quantizers

    def prepare(
        self, network: Network, spec: ModelSpec, shape: Shape, classes: int, how: QuantSpec = USUAL
    ) -> nn.Module:
        quantized = Network(QuantLayers(self.quantizers), spec, shape, classes)
        weighted = {name: m for name, m in quantized.named_modules() if isinstance(m, layers.QuantConv)}
        for name, form in weight_forms(weighted, how).items():
            weighted[name].store(form)
        take_parameters(quantized, network)
        return quantized

    def find_ranges(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        """Set the range of every quantizer."""
        raise NotImplementedError

    def calibrate(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        quantized.eval()
        with torch.no_grad():
            self.find_ranges(quantized, batches)
        setattr(quantized, "calibrated", True)  # noqa: B010 (nn.Module declares no such attribute)

    def freeze(self, quantized: nn.Module) -> nn.Module:
        if not getattr(quantized, "calibrated", False):
            raise RunError("the network is not calibrated: its quantizers have no ranges yet")
        quantized = quantized.cpu().eval().requires_grad_(False)
        for name, module in quantized.named_modules():
            if isinstance(module, Quantizer) and not torch.isfinite(module.grid().scale):
                raise RunError(f"{name}: the values that reach it are infinite or not numbers: it has no range")
            if isinstance(module, layers.Input):
                module.frozen = True
        return quantized

    def export_onnx(self, quantized: nn.Module, shape: Shape, path: Path, opset: int) -> None:
        write_onnx(quantized, shape, path, opset)

    def parameter_bits(self, quantized: nn.Module) -> dict[str, int]:
        bits = {}
        for name, module in quantized.named_modules():
            if isinstance(module, layers.QuantConv):
                bits[f"{name}.conv.weight"] = module.form.bits
                if module.conv.bias is not None:
                    bits[f"{name}.conv.bias"] = 32
        return bits
