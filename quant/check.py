"""What the backends reached, side by side; the files are opened again and their latencies measured together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from quant.graph import check_float, check_integer, read_graph
from quant.parity import COMPARED, latency
from quant.portable import has_vnni, proof
from system.errors import RunError
from system.files import read_json
from system.onnx_float import INPUT
from system.text import aligned
from system.throughput import cpu_name

MADE_BY = "python quant/run.py qat or ptq"


def compare(folders: dict[str, Path]) -> str:
    """A table with a column per backend of one run, from its folder. Raises RunError as `columns_of`."""
    return f"{table(columns_of(folders))}\n({where()})"


def compare_runs(runs: dict[str, dict[str, Path]]) -> str:
    """A Markdown table with a column per run and backend; `runs`: the folders of each by backend."""
    found = {
        name if len(folders) == 1 else f"{name}, {backend}": cells
        for name, folders in runs.items()
        for backend, cells in columns_of(folders).items()
    }
    quantities = list(dict.fromkeys(key for cells in found.values() for key in cells))
    rows = [["", *found], ["---"] * (len(found) + 1)]
    rows += [[key, *(cells.get(key, "") for cells in found.values())] for key in quantities]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n({where()})"


def where() -> str:
    vnni = {True: ", with VNNI", False: ", without VNNI", None: ""}[has_vnni()]
    return f"batch 1 on {cpu_name()}{vnni}"


def columns_of(folders: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Backend -> quantity -> value of one run; its files are timed together.

    Raises RunError for a file that is missing, damaged, or not what it should be.
    """
    models: dict[str, Path] = {}
    for name, folder in folders.items():
        check_float(folder / "float.onnx")
        check_integer(folder / "int8.onnx")
        models |= {"float": folder / "float.onnx", name: folder / "int8.onnx"}
    milliseconds = latency(models, noise(models["float"]))
    return {name: column(folder, milliseconds[name], milliseconds["float"]) for name, folder in folders.items()}


def names_of(runs: Sequence[Path]) -> dict[str, Path]:
    """Runs by the part of their paths that tells them apart, such as cp_mobile of a/cp_mobile/f1 and a/bc_resnet/f1."""
    parts = [run.resolve().parts for run in runs]
    while len({some[0] for some in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [some[1:] for some in parts]
    while len({some[-1] for some in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [some[:-1] for some in parts]
    return {"/".join(some): run for some, run in zip(parts, runs, strict=True)}


def noise(path: Path) -> np.ndarray:
    """One input of the graph's own shape: the time does not depend on the values."""
    return np.random.default_rng(0).standard_normal(read_graph(path).shapes[INPUT]).astype(np.float32)


def widths(cost: dict[str, Any]) -> str:
    """Bits of the weights of the file."""
    return " and ".join(map(str, sorted({row["weight_bits"] for row in cost["layers"] if "weight_bits" in row}))) or "8"


def column(folder: Path, int8_ms: float, float_ms: float) -> dict[str, str]:
    """Quantity -> value, as text."""
    parity = _read(folder / "parity.json", ("fused", "validation", "n"))
    cost = _read(folder / "complexity.json", ("layers", "params", "within_budget"))
    change, fused = parity.get("float_vs_int8", {}), parity["fused"]
    scores = {
        key.replace("_", " "): f"{change['int8'][key]:.4f} ({change[key]:+.4f} of float)"
        for key in COMPARED
        if key in change
    }
    return {
        "weights": f"{parity['validation']['exported']}, {widths(cost)} bits",
        **scores,
        "segments compared": f"{parity['n']:,}",
        "same decision": f"{parity['argmax_agreement']:.2%}",
        "logits within 1 LSB": f"{parity['within_1_lsb']:.3%}",
        "logits apart at most": f"{parity['max_lsb']} LSB",
        "integer layers": f"{fused['conv_integer']} of {fused['conv_total']}",
        "without VNNI": "the same, proven"
        if proof(read_graph(folder / "int8.onnx"))["proven"]
        else "not proven the same",
        "parameters": f"{cost['params']:,}",
        "MACs": f"{cost['macs']:,}",
        "bytes": f"{cost['total_bytes']:,}{'' if cost['within_budget'] else ' OVER ITS BUDGET'}",
        "ms, one thread": f"{int8_ms:.3f} ({float_ms / int8_ms:.2f}x of float's {float_ms:.3f})",
    }


def _read(path: Path, keys: Sequence[str]) -> dict[str, Any]:
    """A JSON file of a quantized run; what `keys` name are parts of it. Raises RunError."""
    found = read_json(path, MADE_BY)
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise RunError(f"{path}: expected {', '.join(keys)}, found no {missing[0]}; {MADE_BY} writes it anew")
    return found


def table(columns: dict[str, dict[str, str]]) -> str:
    """Quantities downwards, backends side by side."""
    quantities = list(dict.fromkeys(key for cells in columns.values() for key in cells))
    rows = [[key, *(cells.get(key, "") for cells in columns.values())] for key in quantities]
    return aligned([["", *columns], *rows])
