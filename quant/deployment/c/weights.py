"""The parameters as one C array with a JSON manifest, for devices that bring their own integer operators.

`weights.c` and `weights.h` hold the bytes, little-endian, in the order int32, float32, int8, uint8, so that each tensor
is aligned to its own type and nothing is padded; `weights.json` says where each one is, its shape, and what its
integers stand for: (integer - zero point) * scale. The bytes are those that complexity.json counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx

from quant.graph import Graph, layer_name, read_graph
from quant.graph_cost import BIAS, WEIGHT, array_bytes, counted
from system.errors import RunError
from system.files import read_json, write_json, write_text

PACKED = "int4"  # two in a byte, the first in the lower half
ORDER = ("<i4", "<f4", "|i1", "|u1")  # widest first
PREFIX = "tinyscene"
CHECKED = ("weight_bytes", "bias_bytes", "total_bytes")
PER_LINE = 20


class Tensor(NamedTuple):
    """One array of the file. `scale` and `zero_point` are of its integers; of a scale or zero point None."""

    name: str
    role: str  # weight, bias, parameter, scale or zero_point
    array: np.ndarray
    operator: onnx.NodeProto
    scale: np.ndarray | None = None


def tensors(graph: Graph) -> Iterator[Tensor]:
    """Every stored parameter with its scales, then the scale and zero point of every activation quantizer.

    Raises RunError for a tensor of a type that C has no array for.
    """
    for node, row in counted(graph):
        name = layer_name(node)
        for role, arrays, places in (("weight", row.weights, WEIGHT), ("bias", row.biases, BIAS)):
            for array in arrays:
                scale = scale_of(graph, node, role, places.get(node.op_type, 1), array)
                yield Tensor(f"{name}.{role}", role, array, node, scale)
                if scale is not None and not (role == "bias" and node.op_type == "QLinearConv"):
                    yield Tensor(f"{name}.{role}.scale", "scale", scale, node)
        for index, array in enumerate(row.others):
            yield Tensor(f"{name}.parameter{index}", "parameter", array, node)
    for node in graph.nodes("QuantizeLinear", "QLinearConv"):
        place = 6 if node.op_type == "QLinearConv" else 1
        scale, zero_point = (graph.constants[name] for name in node.input[place : place + 2])
        yield Tensor(f"{layer_name(node)}.output.scale", "scale", scale, node)
        yield Tensor(f"{layer_name(node)}.output.zero_point", "zero_point", zero_point, node)


def scale_of(graph: Graph, node: onnx.NodeProto, role: str, place: int, array: np.ndarray) -> np.ndarray | None:
    """(n,) float32: a scale per output channel of a weight, per value of a bias; None for float numbers.

    Raises RunError for integers without one.
    """
    if array.dtype == np.float32:
        return None
    if node.op_type == "QLinearConv":
        scale = graph.stored(node.input[4])  # through the Tile of a weight that serves many rows
        if scale is not None and role == "bias":
            scale = graph.constants[node.input[1]] * scale
    else:
        reader = graph.producer.get(node.input[place])
        while reader is not None and reader.op_type != "DequantizeLinear":
            reader = graph.producer.get(reader.input[0])
        scale = None if reader is None else graph.stored(reader.input[1])
    if scale is None:
        raise RunError(f"{layer_name(node)}: the integers of its {role} have no stored scale")
    return np.broadcast_to(np.asarray(scale, np.float32).reshape(-1), (len(array),)).copy()


def write_c(folder: Path) -> dict[str, Any]:
    """Write weights.h, weights.c and weights.json from `folder`/int8.onnx. Returns the manifest.

    Raises RunError where the bytes are not those of `folder`/complexity.json.
    """
    placed, content = layout(list(tensors(read_graph(folder / "int8.onnx"))))
    manifest = {
        "array": f"{PREFIX}_weights",
        "bytes": len(content),
        "byte_order": "little",
        **totals(placed),
        "tensors": [described(tensor, offset) for offset, tensor in placed],
    }
    check_bytes(manifest, folder / "complexity.json")
    write_text(folder / "weights.h", header(placed, len(content)))
    write_text(folder / "weights.c", source(content))
    write_json(folder / "weights.json", manifest)
    return manifest


def layout(found: list[Tensor]) -> tuple[list[tuple[int, Tensor]], bytes]:
    """Each tensor with its offset, and the bytes of all."""
    placed, content = [], bytearray()
    kinds = [kind_of(tensor) for tensor in found]
    for order in ORDER:
        for tensor, kind in zip(found, kinds, strict=True):
            if kind == order:
                placed.append((len(content), tensor))
                content += stored(tensor.array)
    return placed, bytes(content)


def stored(array: np.ndarray) -> bytes:
    """Little-endian."""
    if str(array.dtype) != PACKED:
        return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes()
    halves = np.pad(array.astype(np.int8).ravel() & 15, (0, array.size % 2)).astype(np.uint8)
    return (halves[::2] | halves[1::2] << 4).tobytes()


def kind_of(tensor: Tensor) -> str:
    kind = "|i1" if str(tensor.array.dtype) == PACKED else tensor.array.dtype.newbyteorder("<").str
    if kind not in ORDER:
        raise RunError(
            f"{tensor.name}: expected int4, int8, uint8, int32 or float32 for a C array, found {tensor.array.dtype}"
        )
    return kind


def totals(placed: list[tuple[int, Tensor]]) -> dict[str, int]:
    """Bytes by role, under the names of complexity.json."""
    sizes = {"weight": 0, "bias": 0, "scale": 0, "parameter": 0, "zero_point": 0}
    for _, tensor in placed:
        sizes[tensor.role] += array_bytes(tensor.array)
    named = {("other" if role == "parameter" else role) + "_bytes": size for role, size in sizes.items()}
    return {**named, "total_bytes": sum(sizes.values())}


def described(tensor: Tensor, offset: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": tensor.name, "role": tensor.role, "type": str(tensor.array.dtype), "shape": list(tensor.array.shape),
        "offset": offset, "bytes": array_bytes(tensor.array), "operator": tensor.operator.op_type,
    }  # fmt: skip
    if tensor.role in ("weight", "bias"):
        row["attributes"] = {a.name: onnx.helper.get_attribute_value(a) for a in tensor.operator.attribute}
        row["attributes"] = {key: value for key, value in row["attributes"].items() if not isinstance(value, bytes)}
    if tensor.scale is not None:
        row["scale"], row["zero_point"] = [float(value) for value in tensor.scale], 0
    if tensor.role in ("scale", "zero_point"):
        row["value"] = tensor.array.reshape(-1).tolist()
    return row


def check_bytes(manifest: dict[str, Any], path: Path) -> None:
    counted_bytes = read_json(path, "python quant/run.py qat")
    wrong = [key for key in CHECKED if counted_bytes.get(key) != manifest[key]]
    if wrong:
        raise RunError(
            f"{path}: {wrong[0]}: expected the {manifest[wrong[0]]} bytes of int8.onnx, found "
            f"{counted_bytes.get(wrong[0])}; quantize the run again"
        )


def header(placed: list[tuple[int, Tensor]], size: int) -> str:
    """Offsets by name; the names of the manifest in capitals, numbered where two would be the same."""
    lines, seen = [], dict[str, int]()
    for offset, tensor in placed:
        name = re.sub(r"\W+", "_", tensor.name).upper().strip("_")
        seen[name] = seen.get(name, 0) + 1
        name = name if seen[name] == 1 else f"{name}_{seen[name]}"
        shape = "x".join(map(str, tensor.array.shape)) or "1"
        lines.append(f"#define {PREFIX.upper()}_{name} {offset}u /* {tensor.array.dtype} {shape} */")
    guard = f"{PREFIX.upper()}_WEIGHTS_H"
    return "\n".join([
        f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "",
        "/* Offsets in bytes; weights.json describes each tensor. Little-endian. */",
        *lines, "",
        f"#define {PREFIX.upper()}_WEIGHTS_BYTES {size}u",
        f"extern const uint8_t {PREFIX}_weights[{PREFIX.upper()}_WEIGHTS_BYTES];", "", "#endif", "",
    ])  # fmt: skip


def source(content: bytes) -> str:
    rows = (content[start : start + PER_LINE] for start in range(0, len(content), PER_LINE))
    body = ",\n".join("    " + ",".join(map(str, row)) for row in rows)
    declared = f"_Alignas(4) const uint8_t {PREFIX}_weights[{PREFIX.upper()}_WEIGHTS_BYTES]"
    return f'#include "weights.h"\n\n{declared} = {{\n{body}\n}};\n'
