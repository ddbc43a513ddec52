"""The memory that an integer ONNX graph needs for its maps, and where it needs most.

Counted are the 8-bit maps that are alive while one operator runs: what it reads, what it writes, and what is kept for
later ones. An operator reaches from quantized maps to the next; what it needs inside (a sum, a float value) is the
runtime's own affair, and moving a map without changing it is no operator.
"""

from __future__ import annotations

from typing import NamedTuple

from quant.graph import Graph, layer_name

MOVES = ("Reshape", "Transpose", "Flatten", "Identity", "Squeeze", "Unsqueeze")


class Step(NamedTuple):
    """One operator. Maps are named by the tensor that was first written."""

    name: str
    reads: frozenset[str]
    writes: str


class Peak(NamedTuple):
    """The operator at which most bytes are alive. `maps`: tensor -> shape without its batch axis, of all alive."""

    bytes: int
    layer: str
    maps: dict[str, tuple[int, ...]]


def peak_activations(graph: Graph) -> Peak:
    """Of one segment, at one byte a value. The first operator of those that need most."""
    steps = operators(graph)
    last_use = {tensor: number for number, step in enumerate(steps) for tensor in (*step.reads, step.writes)}
    alive: set[str] = set()
    best = Peak(0, "", {})
    for number, step in enumerate(steps):
        alive |= {*step.reads, step.writes}
        needed = sum(map(graph.size, alive))
        if needed > best.bytes:
            best = Peak(needed, step.name, {tensor: graph.shapes[tensor][1:] for tensor in sorted(alive)})
        alive = {tensor for tensor in alive if last_use[tensor] > number}
    return best


def operators(graph: Graph) -> list[Step]:
    """What writes a quantized map, in the order of running."""
    steps: list[Step] = []
    origin: dict[str, frozenset[str]] = {}  # tensor -> the maps that it is computed from, or is itself
    quantized: set[str] = set()
    for node in graph.model.graph.node:
        reads = frozenset().union(*(origin.get(name, frozenset()) for name in node.input))
        output = node.output[0]
        source = node.input[0] if node.input else ""  # a Constant reads nothing
        if node.op_type == "QuantizeLinear" or (node.op_type != "DequantizeLinear" and source in quantized):
            quantized.add(output)
            if node.op_type not in MOVES:
                computed = graph.producer.get(source) if node.op_type == "QuantizeLinear" else None
                steps.append(Step(layer_name(computed or node), reads, output))
                reads = frozenset({output})
        origin[output] = reads
    return steps
