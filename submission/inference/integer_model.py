"""An INT8 classifier in plain PyTorch: recording -> log-mel -> integer network -> logits.

The network is a list of steps, read off the integer ONNX file it was deployed as. Its parameters are the numbers of
that file at their own types (int8 weights, int32 biases, float32 scales, uint8 zero points), so that a checker that
adds up `model.parameters()` by type counts what is deployed. Convolutions, additions and products compute the
integers that ONNX Runtime computes.

This file is copied into packages, with quant/integer.py beside it; it needs nothing else of TinyScene.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.integer import Grid, Integers, addition, convolution, global_average, instance_norm, layer_norm, product

Attributes = Mapping[str, Any]
Tensors = Mapping[str, Tensor]


class Stored(nn.Module):
    """Tensors of the deployed file, as parameters that no training changes."""

    def __init__(self, tensors: Tensors, attributes: Attributes) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))


class Quantizer(Stored):
    """The grid of one activation tensor: `scale` () float32, `zero_point` () uint8."""

    scale: Tensor
    zero_point: Tensor

    def grid(self) -> Grid:
        return Grid(self.scale, self.zero_point.float())


class Learned(Stored):
    """One float tensor of a norm or an activation: `weight`, or `value` where the official counter overlooks it."""

    def forward(self) -> Tensor:
        return next(self.parameters())[None]  # (1, ...)


class IntegerConv2d(Stored):
    """int8 convolution with int32 bias. `repeats`: the same weights for so many groups of channels side by side."""

    weight: Tensor  # (C', C/g, kF, kT) int8
    channel_scale: Tensor  # (C') float32: weight = integer * scale
    bias: Tensor | None  # (C') int32
    sum_scale: Tensor  # (C') float32: bias = integer * scale; not every file stores it

    def __init__(self, tensors: Tensors, attributes: Attributes) -> None:
        super().__init__(tensors, attributes)
        if "bias" not in tensors:
            self.register_parameter("bias", None)
        self.geometry = [tuple(attributes[key]) for key in ("strides", "pads", "dilations")]
        self.groups, self.repeats = attributes["group"], attributes["repeats"]

    def forward(self, x: Integers, y: Grid) -> Tensor:
        """-> (B, C', repeats, F', T') integers on the grid y"""
        bias = None
        if self.bias is not None:
            bias = self.bias.double()
            if "sum_scale" in self._parameters:  # else it is in steps of input times weight already
                bias = torch.round(bias * (self.sum_scale.double() / (x.grid.scale * self.channel_scale)))
            bias = bias.repeat(self.repeats)
        weight, scale = self.weight.repeat(self.repeats, 1, 1, 1), self.channel_scale.repeat(self.repeats)
        stride, padding, dilation = self.geometry
        result = convolution(x, weight, scale, bias, y, stride, padding[:2], dilation, self.groups)
        return result.q.unflatten(1, (self.repeats, -1)).transpose(1, 2)


class EqualConv(IntegerConv2d):
    """A convolution whose weights are all one and not stored: a mean."""

    def __init__(self, tensors: Tensors, attributes: Attributes) -> None:
        super().__init__({}, attributes)
        self.register_buffer("weight", torch.ones(attributes["shape"]), persistent=False)
        scale = torch.full((attributes["shape"][0],), attributes["scale"])
        self.register_buffer("channel_scale", scale, persistent=False)


def _axes(a: Attributes, inputs: Sequence[Tensor]) -> list[int]:
    return list(a["axes"]) if "axes" in a else [int(axis) for axis in inputs[1].tolist()]


def _keep(a: Attributes) -> bool:
    return bool(a.get("keepdims", 1))


def _reshape(a: Attributes, x: Tensor, shape: Tensor) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _clip(a: Attributes, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    return x.clamp(None if low is None else low.to(x.dtype), None if high is None else high.to(x.dtype))


def _slice(a: Attributes, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor, *steps: Tensor) -> Tensor:
    for start, end, axis in zip(starts.tolist(), ends.tolist(), axes.tolist(), strict=True):
        first, last, _ = slice(start, end).indices(x.shape[axis])
        x = x.narrow(axis, first, max(0, last - first))
    return x


def _instance_norm(a: Attributes, x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    normed = instance_norm(x.flatten(2), a.get("epsilon", 1e-5))
    return (normed * gain.reshape(-1, 1) + shift.reshape(-1, 1)).reshape(x.shape)


MOVES: dict[str, Callable[..., Tensor]] = {  # ONNX operators that move or compare values: on integers as on reals
    "Clip": _clip,
    "Concat": lambda a, *x: torch.cat(x, a["axis"]),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gather": lambda a, x, index: x.index_select(a.get("axis", 0), index.reshape(-1)).reshape(index.shape),
    "Identity": lambda a, x: x,
    "MaxPool": lambda a, x: F.max_pool2d(
        x, tuple(a["kernel_shape"]), tuple(a["strides"]), tuple(a.get("pads", (0, 0)))[:2]
    ),
    "ReduceMax": lambda a, *x: x[0].amax(_axes(a, x), keepdim=_keep(a)),
    "Reshape": _reshape,
    "Shape": lambda a, x: torch.tensor(x.shape),
    "Slice": _slice,
    "Squeeze": lambda a, *x: x[0].squeeze(_axes(a, x)),
    "Transpose": lambda a, x: x.permute(*a["perm"]),
    "Unsqueeze": lambda a, *x: x[0].unsqueeze(_axes(a, x)[0]),
}
REAL: dict[str, Callable[..., Tensor]] = {  # ONNX operator -> function of (attributes, inputs)
    **MOVES,
    "Add": lambda a, x, y: x + y,
    "AveragePool": lambda a, x: F.avg_pool2d(
        x, tuple(a["kernel_shape"]), tuple(a["strides"]), tuple(a.get("pads", (0, 0)))[:2]
    ),
    "Div": lambda a, x, y: x / y,
    "Erf": lambda a, x: torch.erf(x),
    "Exp": lambda a, x: torch.exp(x),
    "GlobalAveragePool": lambda a, x: x.mean((2, 3), keepdim=True),
    "HardSigmoid": lambda a, x: (a.get("alpha", 0.2) * x + a.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "InstanceNormalization": _instance_norm,
    "LayerNormalization": lambda a, x, gain, shift: layer_norm(x, gain, shift, a.get("epsilon", 1e-5)),
    "LeakyRelu": lambda a, x, *slope: torch.where(x < 0, x * (slope[0] if slope else a.get("alpha", 0.01)), x),
    "Mul": lambda a, x, y: x * y,
    "Neg": lambda a, x: -x,
    "Pow": lambda a, x, y: x**y,
    "PRelu": lambda a, x, slope: torch.where(x < 0, x * slope, x),
    "ReduceL2": lambda a, *x: (x[0].double() ** 2).sum(_axes(a, x), keepdim=_keep(a)).float().sqrt(),
    "ReduceMean": lambda a, *x: x[0].mean(_axes(a, x), keepdim=_keep(a)),
    "ReduceSum": lambda a, *x: x[0].sum(_axes(a, x), keepdim=_keep(a)),
    "Relu": lambda a, x: torch.relu(x),
    "Round": lambda a, x: torch.round(x),
    "Sigmoid": lambda a, x: torch.sigmoid(x),
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)),
    "Sqrt": lambda a, x: torch.sqrt(x),
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: torch.tanh(x),
}
INTEGER: dict[str, Callable[..., Integers]] = {  # between quantizers
    "Add": addition,
    "Mul": product,
    "GlobalAveragePool": global_average,
}
LAYERS: dict[str, type[Stored]] = {
    "conv": IntegerConv2d, "equal": EqualConv, "learned": Learned, "quantizer": Quantizer,
}  # fmt: skip
INPUT, OUTPUT = "features", "logits"
SMALLEST = 1e-9  # probability; a class that nothing stands for has this one


class IntegerNet(nn.Module):
    """(B, 1, mel bands, frames) standardized log-mel -> (B, classes) logits.

    `program`: layers (name -> kind, attributes), constants, and the steps in order; `tensors`: `layer.name` -> value.
    A step has an `op`, the names of its `inputs` and its `output`; `read`: the grid that each input is read on, where
    that is not the one it was quantized with; `to`: the quantizer that it ends in; `rectified`: after a ReLU.
    """

    def __init__(self, program: Mapping[str, Any], tensors: Tensors) -> None:
        super().__init__()
        self.steps = program["steps"]
        self.constants = {name: torch.tensor(value) for name, value in program["constants"].items()}
        self.layers = nn.ModuleDict()
        for name, (kind, attributes) in program["layers"].items():
            own = {key.partition(".")[2]: value for key, value in tensors.items() if key.partition(".")[0] == name}
            self.layers[name] = LAYERS[kind](own, attributes)

    def forward(self, x: Tensor) -> Tensor:
        values: dict[str, Any] = {INPUT: x, **{name: value.to(x.device) for name, value in self.constants.items()}}
        for step in self.steps:
            inputs = [self.read(values[name], grid, x.device)
                      for name, grid in zip(step["inputs"], step["read"], strict=True)]  # fmt: skip
            values[step["output"]] = self.run(step, inputs)
        return values[OUTPUT]  # (B, classes)

    def read(self, value: Any, grid: Sequence[float] | None, device: torch.device) -> Any:
        """Integers as the other values of `grid`, a scale and a zero point."""
        return value if grid is None else value.on(Grid(*(torch.tensor(part, device=device) for part in grid)))

    def run(self, step: Mapping[str, Any], inputs: list[Any]) -> Any:
        op = step["op"]
        if op == "dequantize":
            return inputs[0].real
        if op == "learned":
            return self.layers[step["layer"]]()[0]
        if "to" not in step:
            if isinstance(inputs[0], Integers):
                return inputs[0]._replace(q=MOVES[op](step["attributes"], inputs[0].q, *inputs[1:]))
            return REAL[op](step["attributes"], *inputs)
        quantizer = self.layers[step["to"]]
        assert isinstance(quantizer, Quantizer)
        to = quantizer.grid()
        if op == "quantize":
            return to.nearest(*inputs)
        if op == "conv":
            result = Integers(self.layers[step["layer"]](*inputs, to).transpose(1, 2).flatten(1, 2), to)
        else:
            result = INTEGER[op](*inputs, to)
        return result._replace(q=torch.maximum(result.q, to.zero_point)) if step["rectified"] else result


class LogMel(nn.Module):
    """(segments, samples) -> (segments, 1, mel bands, frames): standardized natural logarithm of the mel power."""

    window: Tensor  # (win_length)
    filters: Tensor  # (n_fft / 2 + 1, mel bands)
    mean: Tensor  # (mel bands, 1)
    std: Tensor  # (mel bands, 1)

    def __init__(self, features: Attributes, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.n_fft, self.win_length = features["n_fft"], features["win_length"]
        self.hop_length, self.floor = features["hop_length"], features["log_floor"]
        self.register_buffer("window", tensors["features.window"])
        self.register_buffer("filters", tensors["features.filters"])
        self.register_buffer("mean", tensors["features.mean"][:, None])
        self.register_buffer("std", tensors["features.std"][:, None])

    def forward(self, samples: Tensor) -> Tensor:
        spectrum = torch.stft(
            samples, self.n_fft, self.hop_length, self.win_length, self.window, center=True, pad_mode="reflect",
            return_complex=True,
        )  # (segments, n_fft / 2 + 1, frames)  # fmt: skip
        mel = torch.matmul(spectrum.abs().pow(2.0).transpose(1, 2), self.filters).transpose(1, 2)
        return ((torch.log(mel + self.floor) - self.mean) / self.std)[:, None]


class Classifier(nn.Module):
    """A trained system: `front_end`, `model` (the integer network alone) and `classes` in the order of the logits.

    `about` is what TinyScene writes beside the tensors: features, program, temperature, classes, class map.
    """

    class_map: Tensor  # (classes of the training, classes) float64

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.classes: list[str] = about["classes"]
        self.temperature: float = about["temperature"]  # of the softmax
        self.sample_rate: int = about["features"]["sample_rate"]
        self.length = round(about["segment_seconds"] * self.sample_rate)  # samples of a segment
        self.front_end = LogMel(about["features"], tensors)
        self.model = IntegerNet(about["program"], tensors)
        # Classes of the training that stand for one class of the challenge are added up.
        self.register_buffer("class_map", torch.tensor(about["class_map"], dtype=torch.float64))
        self.eval()

    def samples(self, recording: np.ndarray, rate: int) -> Tensor:
        """A recording (n,) or (n, channels) as mono float32 samples at the sample rate of the front end."""
        mono = recording.astype(np.float32).reshape(len(recording), -1).mean(axis=1, dtype=np.float32)
        if rate != self.sample_rate:
            import soxr

            mono = soxr.resample(mono, rate, self.sample_rate)
        return torch.from_numpy(mono)

    @torch.inference_mode()
    def inputs(self, samples: Tensor) -> Tensor:
        """(n,) samples -> (segments, 1, mel bands, frames); a remainder of half a segment or more is padded."""
        count = max(1, (len(samples) + self.length // 2) // self.length)
        kept = samples[: count * self.length].to(self.class_map.device)
        return self.front_end(F.pad(kept, (0, count * self.length - len(kept))).reshape(count, self.length))

    @torch.inference_mode()
    def logits(self, inputs: Sequence[Tensor], net: nn.Module | None = None) -> list[Tensor]:
        """(segments, 1, mel bands, frames) of each recording -> its (classes,) log probabilities.

        Segments are joined by the mean of their log probabilities. `net`: another integer network, of one device.
        """
        logs = torch.log_softmax((net or self.model)(torch.cat(list(inputs))).double() / self.temperature, dim=1)
        means = torch.stack([some.mean(dim=0) for some in logs.split([len(x) for x in inputs])])
        shares = torch.softmax(means, dim=1) @ self.class_map  # (recordings, classes)
        return list(torch.log(shares.clamp_min(SMALLEST)))
