"""A quantizer of a few lines, so that every network can be quantized in a fraction of a second.

Ranges are the smallest and largest value seen. Real backends are tested on few networks, layers on all.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quant.factory import TrainableBackend
from quant.integer import Grid
from quant.quantizers import BYTES, IntegerWeights, Quantizer, Quantizers, WeightForm, weight_range


class SeenRange(Quantizer):
    def __init__(self, rectified: bool) -> None:
        super().__init__()
        self.rectified, self.watching = rectified, False
        self.low, self.high = 0.0, 1e-6

    def grid(self) -> Grid:
        scale = (self.high - self.low) / 255
        return Grid.of(scale, round(-self.low / scale))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(x) if self.rectified else x
        if self.watching:
            self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
            return x
        return x + (self.grid().nearest(x.detach()).real - x.detach())


class RoundedConv2d(nn.Conv2d):
    def __init__(self, *shape: Any, form: WeightForm = BYTES, **options: Any) -> None:
        super().__init__(*shape, **options)
        self.form = form

    def integers(self) -> IntegerWeights:
        scale = weight_range(self.weight.detach().flatten(1), self.form).clamp(min=1e-12) / self.form.largest
        return IntegerWeights(torch.round(self.weight.detach() / scale[:, None, None, None]), scale)

    def forward(self, x: Tensor) -> Tensor:
        weight, scale = self.integers()
        rounded = weight * scale[:, None, None, None]
        weight = self.weight + (rounded - self.weight.detach())
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class LightBackend(TrainableBackend):
    quantizers = Quantizers(SeenRange, RoundedConv2d)

    def find_ranges(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        seen: Any = [module for module in quantized.modules() if isinstance(module, SeenRange)]
        for quantizer in seen:
            quantizer.watching = True
        for batch in batches:
            quantized(batch)
        for quantizer in seen:
            quantizer.watching = False
