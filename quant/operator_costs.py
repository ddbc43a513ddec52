"""Milliseconds of each operator under ONNX Runtime, float32 and INT8, batch 1, one thread: what a block really costs.

An operator is measured where it stands in a network, behind a 1x1 convolution, in the form in which it is deployed:
the time of a network with it less that of the same network without it, divided by how often it is there. The networks
take turns; medians of the differences. Stems are measured from the one channel of the input. Time is that of the
thread, which runs alone: what else the machine does is not counted, but for what it takes from the caches.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from quant.factory import QuantLayers, TrainableBackend, take_parameters
from quant.graph import session
from quant.quantizers import FixedQuantizer, IntegerWeights, Quantizers
from system.complexity import Map
from system.models.float_layers import FloatLayers
from system.models.layers import ACTIVATIONS, Mapped
from system.models.maps import Pair
from system.models.norms import NORMS
from system.onnx_float import INPUT, export_float

REPEATS, TURNS, WARM_UP = 4, 120, 15
FORMS = ("fp32", "int8")
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


class RoundedConv2d(nn.Conv2d):
    def __init__(self, *shape: Any, form: Any = None, **options: Any) -> None:
        super().__init__(*shape, **options)

    def integers(self) -> IntegerWeights:
        scale = self.weight.detach().abs().amax(dim=(1, 2, 3)).clamp(min=1e-12) / 127
        return IntegerWeights(torch.round(self.weight.detach() / scale[:, None, None, None]), scale)


class FixedRanges(TrainableBackend):
    """Ranges that nobody measured: the file runs as fast as one with the right ones, and is made much sooner."""

    quantizers = Quantizers(lambda rectified: FixedQuantizer(1 / 16, 0 if rectified else 128), RoundedConv2d)

    def find_ranges(self, quantized: nn.Module, batches: list[Tensor]) -> None:
        pass


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


def normed(make: Any, x: Map, kind: str) -> Any:
    return make.norm(x, kind)


def stem_of(make: Any, x: Map, channels: int, kernel: Pair, stride: Pair) -> Any:
    return make.conv(x, channels, kernel, stride, norm=False)


def behind(operator: Declare) -> Declare:
    """A 1x1 convolution, then the operator."""

    def declare(make: Any, x: Map) -> Mapped:
        return Chain(make, x, [pointwise, operator])

    return declare


class Chain(Mapped):
    def __init__(self, make: Any, x: Map, parts: list[Declare]) -> None:
        super().__init__()
        self.parts = nn.ModuleList()
        for part in parts:
            self.parts.append(part(make, x))
            x = self.parts[-1].map  # type: ignore[assignment]
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
        yield repeated(act, partial(pointwise, act=act), pointwise)
    for kind, norm in NORMS.items():
        if norm is not None:
            yield repeated(f"norm {kind}", behind(partial(normed, kind=kind)), pointwise)
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
        stem: Declare = partial(stem_of, channels=y.channels, kernel=kernel, stride=stride)
        yield Case(name, y, [stem, whole], [whole], 1, x)


class Network(Mapped):
    """Input, parts, output."""

    def __init__(self, make: Any, x: Map, parts: list[Declare]) -> None:
        super().__init__()
        self.input = make.input(x)
        self.body = Chain(make, x, parts)
        self.output = make.output(self.body.map)

    def forward(self, x: Any) -> Any:
        return self.output(self.body(self.input(x)))


def export(case: Case, parts: list[Declare], folder: Path, forms: Sequence[str]) -> dict[str, Path]:
    """The network in float32, in INT8, or both."""
    torch.manual_seed(0)
    network = Network(FloatLayers("deploy"), case.x, parts).eval()
    paths = {form: folder / f"{form}.onnx" for form in forms}
    if "fp32" in forms:
        export_float(network, tuple(case.x), paths["fp32"])  # type: ignore[arg-type]
    if "int8" in forms:
        export_integers(Network(QuantLayers(FixedRanges.quantizers), case.x, parts), network, case.x, paths["int8"])
    return paths


def export_integers(quantized: nn.Module, network: nn.Module, x: Map, path: Path) -> None:
    """The integer graph of `quantized`, with the weights of the float deploy form `network`; `x` is its input."""
    backend = FixedRanges()
    take_parameters(quantized, network)
    backend.calibrate(quantized, [])
    backend.export_onnx(backend.freeze(quantized), tuple(x), path, 17)  # type: ignore[arg-type]


def measure(case: Case, forms: Sequence[str] = FORMS, turns: int = TURNS) -> dict[str, float]:
    """Form -> milliseconds of the operator."""
    features = {INPUT: torch.randn(1, *case.x).numpy()}
    with tempfile.TemporaryDirectory() as name:
        sides = {"with": case.with_it, "without": case.without}
        sessions = {}
        for side, parts in sides.items():
            (folder := Path(name) / side).mkdir()
            for form, path in export(case, parts, folder, forms).items():
                sessions[form, side] = session(path)
    differences: dict[str, list[float]] = {form: [] for form in forms}
    for turn in range(WARM_UP + turns):
        spent = {}
        for key, runtime in sessions.items():
            started = time.thread_time()
            runtime.run(None, features)
            spent[key] = time.thread_time() - started
        if turn >= WARM_UP:
            for form, values in differences.items():
                values.append(spent[form, "with"] - spent[form, "without"])
    return {form: 1e3 * statistics.median(values) / case.times for form, values in differences.items()}


def row(case: Case, found: dict[str, float]) -> dict[str, Any]:
    """One line of a table: operator, channels, freq, time, and the milliseconds of each form."""
    return {"operator": case.name, **case.y._asdict(), **{f"{form}_ms": value for form, value in found.items()}}
