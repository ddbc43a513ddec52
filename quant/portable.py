"""Can the 8-bit kernels of an x86 processor without VNNI saturate? Answered from the stored weights alone.

Such a kernel multiplies 8-bit unsigned activations by 8-bit signed weights with vpmaddubsw, which adds two neighbouring
products in 16 bits and cuts the sum off at -32768 and 32767 (Intel SDM, PMADDUBSW). With VNNI sums are 32 bits wide
from the start. Neighbours lie side by side along the axis that is summed over, which holds the weights of one filter
(input channel, kernel row, kernel column) in an order that is the kernel's own affair. So all pairs of weights of a
filter are taken: 255 (w1 + w2) stays within 16 bits for every activation if w1 + w2 is from -128 to 128 for the two
largest and for the two smallest, zero among them, for a filter may be filled up with zeros.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from quant.graph import Graph, layer_name
from quant.quantizers import PAIR

WEIGHT = {"QLinearConv": 3, "Conv": 1}  # which input of the operator
MATRICES = ("Gemm", "MatMul")


class Layer(NamedTuple):
    """Integer weights of one layer. `pair`: the sum of two weights of a filter that is farthest from zero."""

    name: str
    filters: int
    unsafe: int  # filters with a pair beyond the limit
    pair: int


def proof(graph: Graph) -> dict[str, Any]:
    """What parity.json says under `portable`."""
    layers = [layer for node in graph.nodes(*WEIGHT, *MATRICES) if (layer := examined(graph, node)) is not None]
    unsafe = sum(layer.unsafe for layer in layers)
    return {
        "proven": unsafe == 0,
        "filters": sum(layer.filters for layer in layers),
        "unsafe_filters": unsafe,
        "largest_pair": max((layer.pair for layer in layers), key=abs, default=0),
        "limit": PAIR,
        "unsafe_layers": {layer.name: layer.unsafe for layer in layers if layer.unsafe},
    }


def examined(graph: Graph, node: onnx.NodeProto) -> Layer | None:
    weight = graph.stored(node.input[WEIGHT[node.op_type]]) if node.op_type in WEIGHT else graph.matrix(node)
    if weight is None or str(weight.dtype) not in ("int4", "int8"):
        return None
    filters = np.sort(weight.astype(int).reshape(len(weight), -1), axis=1)
    filters = np.sort(np.pad(filters, ((0, 0), (0, 2))), axis=1)  # zeros that a filter may be filled up with
    high, low = filters[:, -2:].sum(axis=1), filters[:, :2].sum(axis=1)
    farthest = np.where(high > -low, high, low)
    unsafe = int(((high > PAIR) | (low < -PAIR)).sum())
    return Layer(layer_name(node), len(weight), unsafe, int(farthest[np.abs(farthest).argmax()]))


def statement(found: dict[str, Any]) -> str:
    """One sentence for reports."""
    filters = f"{found['filters']:,} filters"
    if found["proven"]:
        return (
            f"Portable: proven from the integer weights of all {filters} that no two products overflow 16 bits "
            f"(|w1 + w2| is at most {abs(found['largest_pair'])} of {found['limit']}), so that x86 processors without "
            "VNNI compute the same."
        )
    return (
        f"Not proven portable: in {found['unsafe_filters']:,} of {filters} two products can overflow 16 bits on x86 "
        f"processors without VNNI (|w1 + w2| is up to {abs(found['largest_pair'])}, the limit {found['limit']}) where "
        "a kernel makes them neighbours and activations are large."
    )


def has_vnni() -> bool | None:
    """Whether this processor has the 8-bit dot products that sum in 32 bits; None where that is not an x86 of Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    return None if flags is None else bool({"avx512_vnni", "avx_vnni"} & set(flags))
