"""Networks of the catalogue that no specification describes, to be trained as teachers: no other form is declared."""

from __future__ import annotations

from torch import nn

from system.complexity import Shape
from system.errors import ConfigError
from system.models.entry import CATALOG
from system.models.hooked import count


def foreign(name: str, shape: Shape, classes: int) -> nn.Module:
    """`model.module`, with fresh weights. Raises ConfigError if there is none, or it cannot read maps of `shape`."""
    entry = CATALOG[name]
    if entry.module is None:
        raise ConfigError(f"model.module: {name} has a specification: a configuration of its own says it")
    module = entry.module(classes)
    try:
        # on the meta device a kernel larger than its map is no error, but leaves a map of nothing
        empty = [layer.name for layer in count(module, shape).layers if layer.output.size == 0]
        reason = f"nothing is left after its layer {empty[0]}" if empty else ""
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
    if reason:
        raise ConfigError(
            f"model.module: {name} does not read {shape[1]} mel bands of {shape[2]} frames; it was made for "
            f"{entry.shape[1]} of {entry.shape[2]} ({reason})"
        )
    return module
