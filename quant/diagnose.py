"""Where quantization costs: the noise of every layer, what each costs alone, and what its ranges are.

Signal-to-noise ratios are in decibels, 10 log10(power of the float values / power of the difference). `snr` is of a
layer's output in the deployed integers, with all the noise that came before; `alone` is of the logits when this layer
is quantized and all others stay float, so that the lowest costs most.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from quant.integer import LEVELS, Integers
from quant.layers import QuantConv, QuantLayer
from quant.quantizers import Quantizer
from system.files import write_with
from system.progress import progress
from system.text import aligned

SILENT = 200.0  # decibels that stand for no noise at all
SHOWN = 12  # layers in the table


@dataclass
class Seen:
    """Sums over the segments that a layer was watched on."""

    power: float = 0.0
    noise: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    clipped: int = 0
    count: int = 0
    alone: float = 0.0  # noise of the logits when only this layer is quantized
    grid: tuple[float, float] = (0.0, 0.0)

    def add(self, real: Tensor, integers: Integers) -> None:
        zero, scale = integers.grid.zero_point, integers.grid.scale
        self.grid = least, most = float(-zero * scale), float((LEVELS - zero) * scale)
        half = float(scale) / 2  # rounded onto the grid, not cut off
        self.power += float(real.double().square().sum())
        self.noise += float((integers.real.double() - real).square().sum())
        self.low, self.high = min(self.low, float(real.min())), max(self.high, float(real.max()))
        self.clipped += int(((real < least - half) | (real > most + half)).sum())
        self.count += real.numel()


@torch.inference_mode()
def diagnose(network: nn.Module, quantized: nn.Module, batches: list[Tensor]) -> list[dict[str, Any]]:
    """One row per layer that rounds, in the order of running.

    `network` is the float deploy form, `quantized` the frozen network of it, `batches` (B, 1, mel bands, frames).
    """
    layers = quantized_layers(quantized)
    seen = {name: Seen() for name in layers}
    power = 0.0
    with progress("quantizing one layer at a time", len(layers) * len(batches), unit="layers") as step:
        for x in batches:
            logits, in_float = outputs(network, x, layers)
            _, in_integers = outputs(quantized, x, layers)
            power += float(logits.double().square().sum())
            for name, layer in layers.items():
                seen[name].add(in_float.pop(name), in_integers.pop(name))
                found, _ = outputs(network, x, replaced={name: layer})
                seen[name].alone += float((found.double() - logits).square().sum())
                step(1)
    return [row(name, layer, seen[name], power) for name, layer in layers.items()]


def quantized_layers(network: nn.Module) -> dict[str, QuantLayer]:
    """Name -> every layer with a quantizer in it, not those inside of one."""
    layers: dict[str, QuantLayer] = {}
    for name, module in network.named_modules():
        inside = name.startswith(tuple(f"{outer}." for outer in layers))
        if isinstance(module, QuantLayer) and not inside and any(isinstance(m, Quantizer) for m in module.modules()):
            layers[name] = module
    return layers


def outputs(
    network: nn.Module, x: Tensor, watched: Iterable[str] = (), replaced: Mapping[str, QuantLayer] | None = None
) -> tuple[Tensor, dict[str, Any]]:
    """The logits, and the output of each layer that is watched. `replaced`: layer -> what computes it instead."""
    seen: dict[str, Any] = {}

    def watch(name: str) -> Any:
        return lambda module, inputs, output: seen.__setitem__(name, output)

    def instead(layer: QuantLayer) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            output = layer(*inputs)
            return output.real if isinstance(output, Integers) else output  # of the input's quantizer

        return hook

    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in watched]
    hooks += [network.get_submodule(n).register_forward_hook(instead(layer)) for n, layer in (replaced or {}).items()]
    try:
        return network(x), seen
    finally:
        for hook in hooks:
            hook.remove()


def row(name: str, layer: QuantLayer, seen: Seen, power: float) -> dict[str, Any]:
    least, most = seen.grid
    found = {
        "layer": name,
        "kind": kind(layer),
        "snr": decibels(seen.power, seen.noise),
        "alone": decibels(power, seen.alone),
        "range": [seen.low, seen.high],
        "grid": [least, most],
        "clipped": seen.clipped / seen.count,
        "used": (min(seen.high, most) - max(seen.low, least)) / (most - least),
    }
    return found | weights(layer) if isinstance(layer, QuantConv) else found


def weights(layer: QuantConv) -> dict[str, Any]:
    """The range of the weights, and how many times larger that of the largest output channel is than the median."""
    weight, scale = layer.conv.integers()
    real = weight * scale[:, None, None, None]
    sizes = real.abs().amax(dim=(1, 2, 3))
    median = float(sizes.median())
    return {
        "weight_range": [float(real.min()), float(real.max())],
        "channel_spread": float(sizes.max()) / median if median > 0 else 1.0,
    }


def kind(layer: nn.Module) -> str:
    if type(layer) is not QuantConv:
        return type(layer).__name__
    return "depthwise" if layer.groups == layer.map.channels > 1 else f"{layer.kernel[0]}x{layer.kernel[1]}"


def decibels(power: float, noise: float) -> float:
    return min(SILENT, 10 * math.log10(power / noise)) if noise > 0 and power > 0 else SILENT


def table(rows: list[dict[str, Any]], shown: int = SHOWN) -> str:
    """The layers that cost most, first."""
    lines = [("layer", "kind", "alone dB", "dB", "float range", "grid", "clipped", "largest channel")]
    for r in sorted(rows, key=lambda r: r["alone"])[:shown]:
        spread = f"{r['channel_spread']:.1f}x" if "channel_spread" in r else ""
        ranges = ("{:.3g} to {:.3g}".format(*r[key]) for key in ("range", "grid"))
        lines.append(
            (r["layer"], r["kind"], f"{r['alone']:.1f}", f"{r['snr']:.1f}", *ranges, f"{r['clipped']:.3%}", spread)
        )
    return aligned(lines)


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Bars by layer, in the order of running; the format is the suffix of `path`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.26 * len(rows)), 6), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    for key, text, shift in (
        ("snr", "this layer's output, all layers INT8", -0.2),
        ("alone", "logits, only it INT8", 0.2),
    ):
        axes.bar([p + shift for p in places], [r[key] for r in rows], width=0.4, label=text)
    axes.set_xticks(places, [r["layer"] for r in rows], rotation=90, fontsize=7)
    axes.set_xlabel("layer, in the order of running")
    axes.set_ylabel("signal-to-quantization-noise ratio (dB)")
    axes.set_title(title, loc="left")
    axes.grid(axis="y", alpha=0.4)
    figure.legend(loc="outside upper right", ncols=2)
    write_with(path, lambda part: figure.savefig(part, dpi=120))
