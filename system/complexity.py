"""What a network costs, counted four ways, layer by layer.

Rules (facts measured on the official tools):
    exact         weights x output positions of convolutions, and the multiply-adds of attention; no bias, no norm
    torchinfo     DCASE 2022-2025: (weights + bias) x output positions; any other layer: its parameters, once
    nessi_tflite  NeSsi on a TFLite file: convolutions without bias, + kernel area per output of pooling,
                  + one per input of a mean, + one per output of an addition
    fvcore        papers 000 and 001: convolutions without bias, + 2 per output of BatchNorm, 5 of LayerNorm;
                  no official limit uses it
`macs` is the largest of the first three, so that a legal model stays legal whoever counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

SCALE_BYTES, BIAS_BYTES, QUANTIZER_BYTES = 4, 4, 5  # float32; int32; float32 scale and uint8 zero point

Shape = tuple[int, int, int]  # (channels, mel bands, frames) of a network's input


class Map(NamedTuple):
    """A feature map without its batch axis: (channels, frequency, time)."""

    channels: int
    freq: int
    time: int

    @property
    def size(self) -> int:
        return self.channels * self.freq * self.time

    @property
    def positions(self) -> int:
        return self.freq * self.time


TOTALS = (  # keys of complexity.json
    "params", "macs", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "macs_fvcore", "weight_bytes", "total_bytes",
    "peak_activation_bytes",
)  # fmt: skip


class LayerCost(NamedTuple):
    """One operator of the network. Parameter counts are numbers of values, not bytes."""

    kind: str
    inputs: tuple[Map, ...]
    output: Map
    weights: int = 0
    biases: int = 0
    other_params: int = 0  # of norms and activations
    channels_scaled: int = 0  # output channels with a weight scale of their own
    quantizers: int = 0  # of activations, each with a scale and a zero point
    macs_exact: int = 0
    macs_torchinfo: int = 0
    macs_nessi_tflite: int = 0
    macs_fvcore: int = 0
    name: str = ""  # of its module, where a built network was counted
    window: tuple[int, int] = (1, 1)  # (freq, time) of the input that one output reads, gaps included
    stride: tuple[int, int] = (1, 1)

    @property
    def params(self) -> int:
        return self.weights + self.biases + self.other_params


class Complexity(NamedTuple):
    """The cost of one network for one segment; sums over `layers`."""

    layers: tuple[LayerCost, ...]
    params: int
    macs_exact: int
    macs_torchinfo: int
    macs_nessi_tflite: int
    macs_fvcore: int
    weight_bytes: int
    total_bytes: int
    latency_ms: float | None = None  # an estimate, where a search made one

    @classmethod
    def of(cls, layers: Sequence[LayerCost], bits_of: Callable[[str], int] = lambda layer: 8) -> Complexity:
        """`bits_of`: layer name -> bits of each of its weights; those of a layer begin with a byte of their own."""
        weights = weight_bytes = biases = other = scales = exact = torchinfo = nessi = fvcore = 0
        quantizers = 1  # of the input
        for layer in layers:
            weights += layer.weights
            weight_bytes += (layer.weights * bits_of(layer.name) + 7) // 8 if layer.weights else 0
            biases += layer.biases
            other += layer.other_params
            scales += layer.channels_scaled
            quantizers += layer.quantizers
            exact += layer.macs_exact
            torchinfo += layer.macs_torchinfo
            nessi += layer.macs_nessi_tflite
            fvcore += layer.macs_fvcore
        # an int32 bias counts in steps of input times weight: its scale is theirs
        side = biases * BIAS_BYTES + (scales + other) * SCALE_BYTES + quantizers * QUANTIZER_BYTES
        return cls(
            tuple(layers), weights + biases + other, exact, torchinfo, nessi, fvcore, weight_bytes, weight_bytes + side
        )

    @property
    def macs(self) -> int:
        return max(self.macs_exact, self.macs_torchinfo, self.macs_nessi_tflite)

    def peak_activation_bytes(self) -> int:
        """Largest total of the maps alive while one layer runs, at one byte a value (8-bit activations)."""
        last_use = {id(m): step for step, layer in enumerate(self.layers) for m in layer.inputs}
        alive: dict[int, int] = {}
        peak = now = 0
        for step, layer in enumerate(self.layers):
            maps = (*layer.inputs, layer.output)
            for m in maps:
                if id(m) not in alive:
                    alive[id(m)] = m.size
                    now += m.size
            peak = max(peak, now)
            for m in maps:
                if last_use.get(id(m), -1) <= step:
                    now -= alive.pop(id(m), 0)
        return peak

    def total(self, key: str) -> Any:
        """One total under its key of complexity.json."""
        return self.peak_activation_bytes() if key == "peak_activation_bytes" else getattr(self, key)

    def totals(self) -> dict[str, Any]:
        """The totals under the keys of complexity.json."""
        estimate = {} if self.latency_ms is None else {"latency_ms": self.latency_ms}
        return {key: self.total(key) for key in TOTALS} | estimate

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary per layer, for reports."""
        return [
            {
                "name": layer.name,
                "kind": layer.kind,
                "output": list(layer.output),
                "params": layer.params,
                "macs_exact": layer.macs_exact,
                "macs_torchinfo": layer.macs_torchinfo,
                "macs_nessi_tflite": layer.macs_nessi_tflite,
                "macs_fvcore": layer.macs_fvcore,
            }
            for layer in self.layers
        ]


def convolution(x: Map, y: Map, kernel: tuple[int, int], groups: int, bias: bool) -> LayerCost:
    """A convolution or, at one position, a linear layer."""
    weights = kernel[0] * kernel[1] * (x.channels // groups) * y.channels
    biases = y.channels if bias else 0
    exact = weights * y.positions
    return LayerCost(
        "conv" if groups == 1 else "depthwise" if groups == x.channels else "grouped",
        (x,), y, weights, biases, 0, y.channels, 1, exact, exact + biases * y.positions, exact, exact,
    )  # fmt: skip


def linear(x: Map, y: Map, bias: bool) -> LayerCost:
    """A matrix applied at every position. torchinfo charges it once, however many positions there are."""
    weights, biases = x.channels * y.channels, y.channels if bias else 0
    exact = weights * y.positions
    return LayerCost("linear", (x,), y, weights, biases, 0, y.channels, 1, exact, weights + biases, exact, exact)


def batch_norm(x: Map) -> LayerCost:
    params = 2 * x.channels
    return LayerCost("batch_norm", (x,), Map(*x), other_params=params, macs_torchinfo=params, macs_fvcore=2 * x.size)


def layer_scale(x: Map) -> LayerCost:
    """A gain per channel: a bare parameter, which no official tool counts as work."""
    return LayerCost("layer_scale", (x,), Map(*x), other_params=x.channels)


def layer_norm(x: Map, params: int | None = None) -> LayerCost:
    """Over the channels of each position. TFLite: two means, epsilon added per position, the shift added.

    `params`: a gain and a shift per channel if None.
    """
    params = 2 * x.channels if params is None else params
    return LayerCost(
        "layer_norm", (x,), Map(*x), other_params=params, quantizers=1, macs_torchinfo=params,
        macs_nessi_tflite=3 * x.size + x.positions, macs_fvcore=5 * x.size if params else 4 * x.size,
    )  # fmt: skip


def activation(x: Map, name: str, params: int) -> LayerCost:
    """ReLU is a part of the quantizer before it, in place; a gate and a product add two, others one."""
    added = {"relu": 0, "silu": 2, "gelu": 2, "hardswish": 2}.get(name, 1)
    gate = (Map(*x),) if added == 2 else ()  # kept beside the map that it multiplies
    y = Map(*x) if added else x
    return LayerCost(name, (x, *gate), y, other_params=params, quantizers=added, macs_torchinfo=params)


def addition(x: Map, other: Map) -> LayerCost:
    return LayerCost("add", (x, other), Map(*x), quantizers=1, macs_nessi_tflite=x.size)


def pooling(x: Map, y: Map, kernel: tuple[int, int], quantizers: int = 1) -> LayerCost:
    """A mean has values of its own to round; a maximum is one of its inputs."""
    area = kernel[0] * kernel[1]
    return LayerCost("pool", (x,), y, quantizers=quantizers, macs_nessi_tflite=area * y.size)


def mean(x: Map, y: Map) -> LayerCost:
    return LayerCost("mean", (x,), y, quantizers=1, macs_nessi_tflite=x.size)


def mean_and_max(x: Map, y: Map) -> LayerCost:
    """A mean over frequency; of what is left a mean over time, and a maximum, which costs nothing, added."""
    return LayerCost("mean_and_max", (x,), y, quantizers=3, macs_nessi_tflite=x.size + x.channels * x.time + y.size)


def global_response(x: Map) -> LayerCost:
    """GRN with one gain and one shift. TFLite: a mean over channels, three additions to a value per channel or of all.

    The norms over the map are no operator that NeSsi counts.
    """
    return LayerCost("grn", (x,), Map(*x), other_params=2, quantizers=1, macs_nessi_tflite=2 * x.channels + 1 + x.size)


def frequency_norm(x: Map) -> LayerCost:
    """FreqIN in TFLite: a mean, a mean of squared differences, epsilon added per band."""
    return LayerCost("freq_in", (x,), Map(*x), quantizers=1, macs_nessi_tflite=2 * x.size + x.freq)


def residual_norm(x: Map) -> LayerCost:
    """ResNorm in TFLite: FreqIN and an addition."""
    return LayerCost("resnorm", (x,), Map(*x), quantizers=1, macs_nessi_tflite=3 * x.size + x.freq)


def reshape(x: Map, y: Map) -> LayerCost:
    return LayerCost("reshape", (x,), y)


def weighted_sum(x: Map, score: Map, y: Map) -> LayerCost:
    """Attention over time: invisible to both official tools, counted in `exact`."""
    return LayerCost("weighted_sum", (x, score), y, quantizers=1, macs_exact=x.size)
