"""What a network's INT8 file will take on this machine, estimated from its layers: no tensor is made.

A table of operators, measured once per processor and version of ONNX Runtime and kept in the cache folder, is
interpolated over channels and positions on logarithmic axes. Whole reference networks, measured too, give the factor
by which a sum of operators is off. It is an estimate: the file itself is measured when a network is exported.
"""

from __future__ import annotations

import functools
import math
import platform
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch

from quant.factory import QuantLayers
from quant.graph import session
from quant.operator_costs import STEMS, WARM_UP, Case, FixedRanges, cases, export_integers, measure, row
from system.complexity import Complexity, LayerCost, Map, Shape
from system.data.cache import build_once, cache_folder, digest
from system.errors import RunError
from system.files import read_json, write_json
from system.models.catalog import CATALOG
from system.models.layers import ACTIVATIONS
from system.models.network import Network, build, complexity
from system.onnx_float import INPUT
from system.progress import progress
from system.spec import ModelSpec

FORMAT = 1  # of the table; a new one is measured anew
POSITIONS = ((5, 11), (20, 25), (40, 51))
CHANNELS = (12, 44, 108)
WHOLE_VECTORS = (16, 48, 112)  # multiples of the 16 channels that depthwise kernels take at once
VECTOR = 16
TURNS = 30
LEAST = 1e-4  # ms; an operator that hides in the noise
REFERENCES = ("kt_final", "kt_kernel5", "dcase2024_baseline", "cp_mobile", "audio_rep_inception_128k", "bc_resnet_1")
SQUARE, OVER_TIME, OVER_FREQUENCY = (3, 5, 7), (3, 11, 21), (3, 11, 21)
Axis = tuple[float, ...]  # logarithms


class Grid(NamedTuple):
    """One operator's ln(ms), by ln(channels) and ln(positions); it rises along both."""

    channels: Axis
    positions: Axis
    values: tuple[Axis, ...]

    def at(self, channels: float, positions: float) -> float:
        """Bilinear; beyond an edge it goes on as the outermost cells do on average, so that it still rises."""
        i, u, over_channels = _cell(self.channels, channels)
        j, v, over_positions = _cell(self.positions, positions)
        low, high = self.values[i], self.values[i + 1]
        inside = (1 - u) * ((1 - v) * low[j] + v * low[j + 1]) + u * ((1 - v) * high[j] + v * high[j + 1])
        if over_channels:
            inside += over_channels * sum(b - a for a, b in zip(low, high, strict=True)) / len(low)
        if over_positions:
            inside += over_positions * sum(line[j + 1] - line[j] for line in self.values) / len(self.values)
        return inside


def _cell(axis: Axis, x: float) -> tuple[int, float, float]:
    """The cell, the place in it from 0 to 1, and how many cells of its size beyond it."""
    index = min(max(bisect_right(axis, x) - 1, 0), len(axis) - 2)
    place = (x - axis[index]) / (axis[index + 1] - axis[index])
    inside = min(max(place, 0.0), 1.0)
    return index, inside, place - inside


class CostTable:
    """Milliseconds of operators on one machine. `rows` as quant/operator_costs.py writes them."""

    def __init__(self, rows: Sequence[dict[str, Any]], factor: float = 1.0) -> None:
        self.factor = factor
        found: dict[str, dict[tuple[int, int], float]] = {}
        for r in rows:
            name = r["operator"] + (" whole" if _in_lanes(r["operator"]) and r["channels"] % VECTOR == 0 else "")
            found.setdefault(name, {})[r["channels"], r["freq"] * r["time"]] = r["int8_ms"]
        self.grids = {name: _grid(name, values) for name, values in found.items()}
        self._term = functools.lru_cache(maxsize=None)(self.term)

    def term(self, operator: str, channels: float, positions: int) -> float:
        """Milliseconds of one operator. Raises RunError for one that the table does not have."""
        if operator not in self.grids:
            raise RunError(f"the table of operators has no {operator!r}; expected one of {', '.join(self.grids)}")
        return math.exp(self.grids[operator].at(math.log(channels), math.log(positions)))

    def layer(self, layer: LayerCost) -> float:
        """Milliseconds of one layer of a deploy form."""
        operator, channels, positions, times = lookup(layer)
        return self.factor * times * self._term(operator, channels, positions) if times else 0.0

    def estimate(self, cost: Complexity) -> float:
        """Milliseconds of one segment on one thread."""
        return round(sum(map(self.layer, cost.layers)), 4)


def _in_lanes(operator: str) -> bool:
    return operator.startswith("depthwise")


def _grid(name: str, found: dict[tuple[int, int], float]) -> Grid:
    """Values made to rise along both axes: what noise let fall. Raises RunError for a table with holes."""
    channels, positions = (sorted({key[axis] for key in found}) for axis in (0, 1))
    if len(found) != len(channels) * len(positions) or min(len(channels), len(positions)) < 2:
        raise RunError(f"the table of operators has holes at {name!r}; remove it from {cache_folder() / 'latency'}")
    values: list[list[float]] = []
    for i, c in enumerate(channels):
        values.append([])
        for j, p in enumerate(positions):
            before = [values[i][j - 1]] if j else []
            before += [values[i - 1][j]] if i else []
            values[i].append(max(found[c, p], LEAST, *before))
    return Grid(
        tuple(map(math.log, channels)), tuple(map(math.log, positions)),
        tuple(tuple(map(math.log, line)) for line in values),
    )  # fmt: skip


def lookup(layer: LayerCost) -> tuple[str, float, int, float]:
    """The operator of the table that stands for a layer, its channels and positions, and how many of it there are."""
    kind, y = layer.kind, layer.output
    x = layer.inputs[0] if layer.inputs else y
    area = layer.window[0] * layer.window[1]
    if kind in ("conv", "linear"):
        if area == 1:
            return "1x1", math.sqrt(x.channels * y.channels), y.positions, 1.0
        if x.channels == 1:
            stem = min(STEMS, key=lambda name: abs(_area(STEMS[name][0]) - area))
            return stem, y.channels, y.positions, area / _area(STEMS[stem][0])
        return "dense 3x3", math.sqrt(x.channels * y.channels), y.positions, area / 9
    if kind in ("depthwise", "grouped"):
        return depthwise(layer)
    if kind in ACTIVATIONS:
        return kind, y.channels, y.positions, 1.0
    if kind == "pool":
        return ("average" if layer.quantizers else "max") + " pool 3x3", y.channels, y.positions, area / 9
    if kind in ("mean", "mean_and_max", "weighted_sum"):
        return "global average", x.channels, x.positions, 1.0 if kind == "mean" else 3.0
    norm = {"layer_norm": "layer"}.get(kind, kind)
    if kind == "add":
        return "add", y.channels, y.positions, 1.0
    return (f"norm {norm}", y.channels, y.positions, 1.0) if kind != "reshape" else ("", 1, 1, 0.0)


def depthwise(layer: LayerCost) -> tuple[str, float, int, float]:
    """The measured kernel of the same shape with the nearest area; its weights, without gaps, give the share.

    A smaller kernel than those measured is not taken to be faster: what it saves is little beside finding its inputs.
    """
    y, (freq, time) = layer.output, layer.window
    taps = max(1, layer.weights // y.channels)
    if min(freq, time) > 1:
        size = min(SQUARE, key=lambda k: abs(k * k - taps))
        name, area = f"{size}x{size}", size * size
    else:
        size = min(OVER_TIME, key=lambda k: abs(k - taps))
        name, area = (f"1x{size}" if freq == 1 else f"{size}x1"), size
    beside = y.channels * (y.time if time == 1 and freq > 1 else 1)  # time stands beside the channels there
    lane = " whole" if beside % VECTOR == 0 else ""
    return f"depthwise {name}{lane}", y.channels, y.positions, max(1.0, taps / area)


def _area(kernel: tuple[int, int]) -> int:
    return kernel[0] * kernel[1]


# -- measuring


def machine() -> dict[str, Any]:
    """What a table is measured for."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text(errors="replace").splitlines() if line.startswith(("model name",))]
        flags = [line for line in cpuinfo.read_text(errors="replace").splitlines() if line.startswith("flags")]
        vnni = bool(flags) and any(flag.endswith("_vnni") for flag in flags[0].split())
        name = (lines[0].partition(":")[2].strip() if lines else name) + (" with VNNI" if vnni else "")
    return {"processor": name, "onnxruntime": onnxruntime.__version__, "format": FORMAT}


def wanted() -> Iterator[Case]:
    """The cases of the table: every operator on a grid of maps, depthwise kernels also at whole vectors."""
    for channels in (*CHANNELS, *WHOLE_VECTORS):
        for positions in POSITIONS:
            for case in cases(Map(channels, *positions)):
                if channels in CHANNELS or _in_lanes(case.name):
                    yield case


def measured(chosen: Sequence[Case], turns: int = TURNS) -> list[dict[str, Any]]:
    """The rows of a table; says how far it is."""
    rows = []
    with progress("measuring operators, once on this machine", len(chosen), unit="operators") as step:
        for case in chosen:
            rows.append(row(case, measure(case, ("int8",), turns)))
            step(1)
    return rows


def integer_file(spec: ModelSpec, shape: Shape, classes: int, path: Path) -> Path:
    """The integer graph of a network with fresh weights: as fast as a trained one."""
    torch.manual_seed(0)
    network = build(spec, shape, classes, "deploy").eval()
    export_integers(Network(QuantLayers(FixedRanges.quantizers), spec, shape, classes), network, Map(*shape), path)
    return path


def milliseconds(path: Path, shape: Shape, turns: int = 200) -> float:
    """What an integer file takes here: one segment, one thread, the median of the thread's own time."""
    runtime, features = session(path), {INPUT: torch.randn(1, *shape).numpy()}
    spent = []
    for _ in range(turns + WARM_UP):
        started = time.thread_time()
        runtime.run(None, features)
        spent.append(time.thread_time() - started)
    return round(1e3 * statistics.median(spent[WARM_UP:]), 4)


def measure_table(folder: Path) -> None:
    """table.json: operators, and what whole networks take against the sum of theirs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows = measured(list(wanted()))
        table, networks = CostTable(rows), {}
        for name in REFERENCES:
            spec, shape, classes = (entry := CATALOG[name]).spec, entry.shape, entry.classes
            assert spec is not None
            networks[name] = {
                "measured_ms": milliseconds(integer_file(spec, shape, classes, folder / "network.onnx"), shape),
                "sum_of_operators_ms": table.estimate(complexity(spec, shape, classes)),
            }
            (folder / "network.onnx").unlink()
    finally:
        torch.set_num_threads(threads)
    factor = statistics.geometric_mean(n["measured_ms"] / n["sum_of_operators_ms"] for n in networks.values())
    write_json(folder / "table.json", {"machine": machine(), "factor": factor, "references": networks, "rows": rows})


def cost_table() -> CostTable:
    """This machine's table; measured first, which takes minutes, where the cache folder has none."""
    folder = build_once(cache_folder() / "latency" / digest(machine()), measure_table)
    found = read_json(folder / "table.json", f"the first search with a limit of latency, once {folder} is removed,")
    return CostTable(found["rows"], found["factor"])


@functools.lru_cache(maxsize=1)
def estimator() -> Callable[[Complexity], float]:
    """Cost of a network -> estimated milliseconds of one segment, INT8, one thread."""
    return cost_table().estimate
