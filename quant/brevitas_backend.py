"""Quantizers of brevitas: learned activation ranges, weight scales from the weights."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from quant.factory import TrainableBackend
from quant.integer import Grid
from quant.quantizers import BYTES, IntegerWeights, Quantizer, Quantizers, WeightForm, weight_range

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # brevitas looks for a CUDA compiler
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import brevitas.nn as qnn
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.quant import Int8WeightPerChannelFloat, ShiftedUint8ActPerTensorFloat, Uint8ActPerTensorFloat

warnings.filterwarnings("ignore", message="Named tensors and all their associated APIs")
warnings.filterwarnings("ignore", message="Positional args are being deprecated", category=FutureWarning)


class BrevitasQuantizer(Quantizer):
    """real values -> uint8: cut at zero if `rectified`, else with a zero point"""

    def __init__(self, rectified: bool) -> None:
        super().__init__()
        if rectified:
            self.inner = qnn.QuantReLU(act_quant=Uint8ActPerTensorFloat)
        else:
            self.inner = qnn.QuantIdentity(act_quant=ShiftedUint8ActPerTensorFloat)

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


class Weights(Int8WeightPerChannelFloat):  # brevitas reads these by name
    scaling_stats_impl = WeightRange


class Convolution(qnn.QuantConv2d):
    """Integer weights, a scale per output channel."""

    def __init__(self, *shape: Any, form: WeightForm = BYTES, **options: Any) -> None:
        super().__init__(*shape, **options, weight_quant=Weights, weight_bit_width=form.bits, weight_form=form)

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
