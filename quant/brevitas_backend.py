"""Quantizers of brevitas: learned activation ranges, weight scales from the weights."""

from __future__ import annotations

import logging
import math
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from quant.factory import TrainableBackend
from quant.integer import Grid
from quant.quantizers import (
    BYTES,
    IntegerWeights,
    Quantizer,
    Quantizers,
    WeightForm,
    least_range,
    on_grid,
    weight_range,
)

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # brevitas looks for a CUDA compiler
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import brevitas.nn as qnn
    from brevitas.core.quant import IntQuant
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.quant import Int8WeightPerChannelFloat, ShiftedUint8ActPerTensorFloat, Uint8ActPerTensorFloat

warnings.filterwarnings("ignore", message="Named tensors and all their associated APIs")
warnings.filterwarnings("ignore", message="Positional args are being deprecated", category=FutureWarning)

SMALLEST = 1e-10  # range of weights


class OnGrid(IntQuant):
    """Rounding with brevitas's scale and zero point: its own steps, as one."""

    def forward(self, scale: Tensor, zero_point: Tensor, bit_width: Tensor, x: Tensor) -> Tensor:
        return on_grid(x, scale, zero_point)


class Interval(nn.Module):
    """From the low to the high percentile of values, and always over zero: (...) -> ()

    brevitas's own does not reach zero where all values are negative, as its zero point does: it cuts them off.
    """

    def __init__(self, low_percentile_q: float, high_percentile_q: float) -> None:  # brevitas fills them in by name
        super().__init__()
        self.low, self.high = low_percentile_q / 100, high_percentile_q / 100

    def forward(self, x: Tensor) -> Tensor:
        values = x.reshape(-1)
        low = values.kthvalue(math.ceil(self.low * len(values))).values
        high = values.kthvalue(math.floor(self.high * len(values) + 0.5)).values
        return high.clamp(min=0) - low.clamp(max=0)


class Rectified(Uint8ActPerTensorFloat):  # brevitas reads what these define by name
    int_quant = OnGrid


class Shifted(ShiftedUint8ActPerTensorFloat):
    scaling_stats_impl = Interval
    int_quant = OnGrid


class BrevitasQuantizer(Quantizer):
    """real values -> uint8: cut at zero if `rectified`, else with a zero point"""

    def __init__(self, rectified: bool) -> None:
        super().__init__()
        if rectified:
            self.inner = qnn.QuantReLU(act_quant=Rectified)
        else:
            self.inner = qnn.QuantIdentity(act_quant=Shifted)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def grid(self) -> Grid:
        proxy: Any = self.inner.act_quant
        return Grid(proxy.scale().detach().reshape(()), proxy.zero_point().detach().float().reshape(()))


class WeightRange(nn.Module):
    """Where brevitas takes the largest absolute weight of each output channel: (C', n) -> (C',)"""

    def __init__(self, form: WeightForm) -> None:
        super().__init__()
        self.form = form

    def forward(self, rows: Tensor) -> Tensor:
        return weight_range(rows, self.form)


class LearnedRange(nn.Module):
    """Trained factors of the ranges that weights need (after LSQ, Esser et al. 2020): below one, weights are cut."""

    def __init__(self, scaling_shape: tuple[int, ...], form: WeightForm) -> None:
        super().__init__()
        self.form = form
        self.factor = nn.Parameter(torch.ones(scaling_shape))

    def forward(self, weight: Tensor, threshold: Tensor) -> Tensor:
        rows = weight.detach().flatten(1)
        needed, least = (f(rows, self.form).reshape(self.factor.shape) for f in (weight_range, least_range))
        return torch.maximum(self.factor.abs() * needed, least).clamp(min=SMALLEST) / threshold


class Weights(Int8WeightPerChannelFloat):
    scaling_stats_impl = WeightRange


class LearnedWeights(Int8WeightPerChannelFloat):
    scaling_impl = LearnedRange


class Convolution(qnn.QuantConv2d):
    """Integer weights, a scale per output channel."""

    def __init__(self, *shape: Any, form: WeightForm = BYTES, **options: Any) -> None:
        weights = LearnedWeights if form.learned else Weights
        super().__init__(*shape, **options, weight_quant=weights, weight_bit_width=form.bits, weight_form=form)

    def inner_forward_impl(self, x: Tensor, quant_weight: Any, quant_bias: Tensor | None) -> Tensor:
        weight: Tensor = getattr(quant_weight, "value", quant_weight)  # a plain tensor while ranges are found
        if self.weight.shape[1] == self.weight.stride(1) == 1:  # channels last, which arithmetic on one channel forgets
            weight = weight.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)
        return self._conv_forward(x, weight, quant_bias)

    def integers(self) -> IntegerWeights:
        weight = self.quant_weight()
        return IntegerWeights(torch.round(weight.value / weight.scale).detach(), weight.scale.detach().flatten())


class BrevitasBackend(TrainableBackend):
    quantizers = Quantizers(BrevitasQuantizer, Convolution)

    def find_ranges(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        with calibration_mode(quantized):
            for batch in batches:
                quantized(batch)


backend = BrevitasBackend()
