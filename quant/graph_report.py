"""What an integer file costs, under the keys of complexity.json: all is read off its graph, but the receptive field."""

from __future__ import annotations

from typing import Any

from quant.graph import Graph
from quant.graph_cost import graph_complexity
from quant.graph_memory import peak_activations
from system.models.receptive_field import receptive_field
from system.spec import ExperimentSpec


def graph_report(graph: Graph, spec: ExperimentSpec, classes: int) -> dict[str, Any]:
    """complexity.json without its budget; `weight_bits` are those of the widest weights."""
    counted, peak = graph_complexity(graph), peak_activations(graph)
    layers = counted.pop("layers")
    return {
        **counted,
        "peak_activation_bytes": peak.bytes,
        "peak_activation_layer": peak.layer,
        "peak_activation_maps": [list(shape) for shape in peak.maps.values()],
        "receptive_field": receptive_field(spec, classes),
        "form": "int8",
        "weight_bits": max(row["weight_bits"] for row in layers if "weight_bits" in row),
        "layers": layers,
    }
