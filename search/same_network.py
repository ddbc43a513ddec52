"""Two specifications of one network become one: a choice without effect is set to its first value.

Where every block keeps its shape, as after separate downsampling layers, no shortcut is projected; where no stage has a
stride, nothing is downsampled. A search that takes such twins for two networks trains one network twice.
"""

from __future__ import annotations

from system.complexity import Complexity, Shape
from system.errors import ConfigError
from system.models.network import BYTES, complexity
from system.spec import ModelSpec, QuantSpec

MAYBE_IDLE = {"shortcut": "project", "downsampling": "pool"}  # field -> what it is set to where it changes no layer


def plainest(spec: ModelSpec, cost: Complexity, shape: Shape, classes: int, quant: QuantSpec = BYTES) -> ModelSpec:
    """The network of `spec`, whose cost is `cost`, under one name. (channels, mel bands, frames) are its input."""
    for field, usual in MAYBE_IDLE.items():
        if getattr(spec, field) != usual:
            other = spec.changed(**{field: usual})
            try:
                same = complexity(other, shape, classes, quant=quant).layers == cost.layers
            except ConfigError:  # what it is set to does not fit the map
                same = False
            spec = other if same else spec
    return spec
