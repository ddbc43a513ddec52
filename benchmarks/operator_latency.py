#!/usr/bin/env python3
"""Milliseconds of each operator under ONNX Runtime, float32 and INT8, batch 1, one thread: what a block really costs.

    python benchmarks/operator_latency.py                                  # the usual maps, about five minutes
    python benchmarks/operator_latency.py --maps 32x40x25 --json costs.json    # channels x frequency x time

An operator is measured where it stands in a network, behind a 1x1 convolution, in the form in which it is deployed:
the time of a network with it less that of the same network without it, divided by how often it is there. The networks
take turns; medians of the differences. Stems are measured from the one channel of the input.
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

sys.path[0] = str(Path(__file__).resolve().parents[1])

import system  # isort: skip  (before torch: it sets how OpenMP threads wait)
import torch
from torch import nn

from quant.backend import load_backend
from quant.factory import QuantLayers, take_parameters
from quant.graph import session
from system.complexity import Map
from system.models.layers import ACTIVATIONS, NORMS, FloatLayers, Mapped
from system.onnx_float import INPUT, export_float
from system.progress import progress

REPEATS, TURNS, WARM_UP = 4, 120, 15
MAPS = ("20x64x16", "32x64x16", "24x40x51", "48x40x51", "36x20x25", "48x20x25", "60x10x12", "64x10x12")
KERNELS = {
    "1x1": (1, 1), "dense 3x3": (3, 3), "depthwise 3x3": (3, 3), "depthwise 5x5": (5, 5), "depthwise 7x7": (7, 7),
    "depthwise 1x3": (1, 3), "depthwise 1x11": (1, 11), "depthwise 1x21": (1, 21),
    "depthwise 3x1": (3, 1), "depthwise 11x1": (11, 1), "depthwise 21x1": (21, 1),
}  # fmt: skip
STEMS = {
    "stem 3x3 stride 2x2": ((3, 3), (2, 2)), "stem 5x5 stride 2x1": ((5, 5), (2, 1)),
    "stem 7x5 stride 2x2": ((7, 5), (2, 2)), "stem 5x7 stride 2x2": ((5, 7), (2, 2)),
}  # fmt: skip

Declare = Callable[[Any, Map], Any]  # (layer factory, input map) -> layer


class Added(Mapped):
    """A residual addition to what went in."""

    def __init__(self, make: Any, x: Map) -> None:
        super().__init__()
        self.conv = make.conv(x, x.channels, norm=False)
        self.add = make.add(self.conv.map, x)
        self.map = self.add.map

    def forward(self, x: Any) -> Any:
        return self.add(self.conv(x), x)


def pointwise(make: Any, x: Map, act: str | None = None) -> Any:
    return make.conv(x, x.channels, act=act, norm=False)


def behind(operator: Declare) -> Declare:
    """A 1x1 convolution, then the operator."""

    def declare(make: Any, x: Map) -> Mapped:
        return Sequence(make, x, [pointwise, operator])

    return declare


class Sequence(Mapped):
    def __init__(self, make: Any, x: Map, parts: list[Declare]) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for part in parts:
            self.parts.append(part(make, x))
            x = self.parts[-1].map  # type: ignore[assignment, union-attr]
        self.map = x

    def forward(self, x: Any) -> Any:
        for part in self.parts:
            x = part(x)
        return x


class Case(NamedTuple):
    """A network with an operator and one without it; how often it is there; the map they read."""

    name: str
    y: Map
    with_it: list[Declare]
    without: list[Declare]
    times: int
    x: Map


def cases(y: Map) -> Iterator[Case]:
    """Every operator on a map."""

    def repeated(name: str, unit: Declare, rest: Declare | None) -> Case:
        return Case(name, y, [unit] * REPEATS, [rest] * REPEATS if rest else [], REPEATS, y)

    def convolution(kernel: tuple[int, int], groups: int) -> Declare:
        return lambda make, x: make.conv(x, x.channels, kernel, groups=groups, norm=False)

    for name, kernel in KERNELS.items():
        groups = y.channels if name.startswith("depthwise") else 1
        yield repeated(name, behind(convolution(kernel, groups)), pointwise)
    yield repeated("add", Added, pointwise)
    for act in ACTIVATIONS:
        yield repeated(act, lambda make, x, act=act: pointwise(make, x, act), pointwise)
    for kind, norm in NORMS.items():
        if norm is not None:
            yield repeated(f"norm {kind}", behind(lambda make, x, kind=kind: make.norm(x, kind)), pointwise)
    pools: dict[str, Declare] = {
        "max pool 3x3": lambda make, x: make.max_pool(x, (3, 3), (1, 1), (1, 1)),
        "average pool 3x3": lambda make, x: make.avg_pool(x, (3, 3), (1, 1), (1, 1)),
    }
    for name, pool in pools.items():
        yield repeated(name, behind(pool), pointwise)
    whole: Declare = lambda make, x: make.global_average(x)  # noqa: E731
    yield Case("global average", y, [pointwise, whole], [pointwise], 1, y)
    for name, (kernel, stride) in STEMS.items():
        x = Map(1, y.freq * stride[0], y.time * stride[1])
        stem: Declare = lambda make, x, k=kernel, s=stride: make.conv(x, y.channels, k, s, norm=False)  # noqa: E731
        yield Case(name, y, [stem, whole], [whole], 1, x)


class Network(Mapped):
    """Input, parts, output."""

    def __init__(self, make: Any, x: Map, parts: list[Declare]) -> None:
        super().__init__()
        self.input = make.input(x)
        self.body = Sequence(make, x, parts)
        self.output = make.output(self.body.map)

    def forward(self, x: Any) -> Any:
        return self.output(self.body(self.input(x)))


def export(case: Case, parts: list[Declare], folder: Path, backend: Any) -> dict[str, Path]:
    """The network in float32 and in INT8."""
    torch.manual_seed(0)
    network = Network(FloatLayers("deploy"), case.x, parts).eval()
    features = torch.randn(2, *case.x)
    quantized = Network(QuantLayers(backend.quantizers), case.x, parts)
    take_parameters(quantized, network)
    backend.calibrate(quantized, [features])
    paths = {form: folder / f"{form}{len(parts)}.onnx" for form in ("fp32", "int8")}
    export_float(network, tuple(case.x), paths["fp32"])  # type: ignore[arg-type]
    backend.export_onnx(backend.freeze(quantized), tuple(case.x), paths["int8"], 17)
    return paths


def measure(case: Case, backend: Any) -> dict[str, float]:
    """Form -> milliseconds of the operator."""
    features = {INPUT: torch.randn(1, *case.x).numpy()}
    with tempfile.TemporaryDirectory() as name:
        for part in ("with", "without"):
            (Path(name) / part).mkdir()
        sides = {
            "with": export(case, case.with_it, Path(name) / "with", backend),
            "without": export(case, case.without, Path(name) / "without", backend),
        }
        sessions = {(form, side): session(path) for side, paths in sides.items() for form, path in paths.items()}
    differences: dict[str, list[float]] = {"fp32": [], "int8": []}
    for turn in range(WARM_UP + TURNS):
        spent = {}
        for key, runtime in sessions.items():
            started = time.perf_counter()
            runtime.run(None, features)
            spent[key] = time.perf_counter() - started
        if turn >= WARM_UP:
            for form, values in differences.items():
                values.append(spent[form, "with"] - spent[form, "without"])
    return {form: 1e3 * statistics.median(values) / case.times for form, values in differences.items()}


def parsed(text: str) -> Map:
    try:
        channels, freq, time_ = map(int, text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected channels x frequency x time, as 32x40x25; found {text!r}") from None
    return Map(channels, freq, time_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--maps", nargs="+", type=parsed, default=[parsed(text) for text in MAPS])
    parser.add_argument("--only", default="", help="operators whose name begins so")
    parser.add_argument("--json", type=Path, help="write the rows here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    backend = load_backend("brevitas")
    chosen = [case for y in args.maps for case in cases(y) if case.name.startswith(args.only)]
    rows: list[dict[str, Any]] = []
    print(f"{'operator':20s} {'map':>10s} {'fp32 ms':>9s} {'int8 ms':>9s} {'fp32/int8':>9s}")
    with progress("measuring operators", len(chosen), unit="operators") as step:
        for case in chosen:
            found = measure(case, backend)
            size = "x".join(map(str, case.y))
            ratio = found["fp32"] / found["int8"] if min(found.values()) > 2e-4 else float("nan")
            print(f"{case.name:20s} {size:>10s} {found['fp32']:9.4f} {found['int8']:9.4f} {ratio:9.2f}", flush=True)
            rows.append({"operator": case.name, **case.y._asdict(), **{f"{k}_ms": v for k, v in found.items()}})
            step(1)
    if args.json:
        args.json.write_text(json.dumps({"system": system.__version__, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
