"""Bias correction (Nagel et al. 2019, Section 4.2, measured on data as in their Appendix D).

Rounding shifts the mean of a layer's sums; the shift, seen on calibration segments, is taken out of the bias. Layer
after layer, so that each is corrected on what those before it give once they are corrected.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from quant.layers import QuantConv
from system.progress import progress


class _Seen(Exception):
    """Ends a forward pass at the layer that was watched."""


def correct_bias(network: nn.Module, quantized: nn.Module, batches: list[Tensor]) -> None:
    """Change the biases of a calibrated network, so that its sums have the means of the float deploy form `network`."""
    layers: dict[str, Any] = {name: m for name, m in quantized.named_modules() if isinstance(m, QuantConv)}
    biased = [name for name, layer in layers.items() if layer.conv.bias is not None]
    with torch.no_grad(), progress("correcting biases", len(biased), unit="layers") as step:
        wanted = {name: means(network, f"{name}.conv", batches) for name in biased}
        for name in biased:
            layers[name].conv.bias += wanted[name] - means(quantized, f"{name}.conv", batches)
            step(1)


def means(network: nn.Module, layer: str, batches: list[Tensor]) -> Tensor:
    """(C',) the mean of each channel that a layer gives."""
    seen: list[Tensor] = []

    def watch(module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen.append(output.mean(dim=(0, 2, 3)) * len(output))
        raise _Seen

    hook = network.get_submodule(layer).register_forward_hook(watch)
    try:
        for batch in batches:
            try:
                network(batch)
            except _Seen:
                continue
    finally:
        hook.remove()
    return torch.stack(seen).sum(dim=0) / sum(map(len, batches))
