"""Quantizers of NVIDIA's toolkit: activation ranges from histograms, fixed while training; symmetric where signed.

A signed range is stored as uint8 with the zero point in its middle, so that it runs as those of the other backends.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from absl import logging
from torch import Tensor, nn

from quant.factory import TrainableBackend
from quant.integer import Grid
from quant.quantizers import BYTES, IntegerWeights, Quantizer, Quantizers, WeightForm, weight_range
from system.errors import ConfigError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from pytorch_quantization.nn import QuantConv2d, TensorQuantizer
    from pytorch_quantization.tensor_quant import QuantDescriptor

PERCENTILE = 99.99  # of absolute values that a range takes in
LEAST = 1e-8  # scale of a map that was zero throughout
logging.set_verbosity(logging.ERROR)  # the toolkit warns of each step it takes


class ToolkitQuantizer(Quantizer):
    """real values -> 8 bits: cut at zero, or symmetric"""

    def __init__(self, rectified: bool) -> None:
        super().__init__()
        self.rectified = rectified
        descriptor = QuantDescriptor(num_bits=8, calib_method="histogram", unsigned=rectified, narrow_range=False)
        self.inner = TensorQuantizer(descriptor)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(torch.relu(x) if self.rectified else x)

    def grid(self) -> Grid:
        zero_point = 0.0 if self.rectified else 128.0
        return Grid(self.inner.step_size.detach().reshape(()).clamp(min=LEAST), torch.tensor(zero_point))


class WeightQuantizer(TensorQuantizer):
    """A range per output channel, of the weights as they are."""

    def __init__(self, form: WeightForm) -> None:
        super().__init__(QuantDescriptor(num_bits=form.bits, axis=(0,)))
        self.form = form

    def _get_amax(self, inputs: Tensor) -> Tensor:
        return weight_range(inputs.detach().flatten(1), self.form).reshape(-1, 1, 1, 1)


class Convolution(QuantConv2d):
    """Integer weights, a scale per output channel; the input is quantized already."""

    def __init__(self, *shape: Any, form: WeightForm = BYTES, **options: Any) -> None:
        if form.learned:
            raise ConfigError(
                "quant.learned_scales: pytorch_quantization has none for channels; --backend brevitas has"
            )
        super().__init__(*shape, **options)
        self.input_quantizer.disable()
        self.form, self._weight_quantizer = form, WeightQuantizer(form)

    def integers(self) -> IntegerWeights:
        weight = self.weight.detach()
        scale = weight_range(weight.flatten(1), self.form).clamp(min=1e-12) / self.form.largest
        return IntegerWeights(torch.round(weight / scale[:, None, None, None]), scale)


class ToolkitBackend(TrainableBackend):
    quantizers = Quantizers(ToolkitQuantizer, Convolution)

    def find_ranges(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        found = [module.inner for module in quantized.modules() if isinstance(module, ToolkitQuantizer)]
        for quantizer in found:
            quantizer.disable_quant()
            quantizer.enable_calib()
        for batch in batches:
            quantized(batch)
        for quantizer in found:
            quantizer.load_calib_amax("percentile", percentile=PERCENTILE)
            quantizer.disable_calib()
            quantizer.enable_quant()


backend = ToolkitBackend()
