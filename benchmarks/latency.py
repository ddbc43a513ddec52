#!/usr/bin/env python3
"""INT8 against float, the deploy form against the train form, and networks against each other, under ONNX Runtime.

    python benchmarks/latency.py dcase2024_baseline cp_mobile runs/mine --json latency.json
    python benchmarks/latency.py dcase2024_baseline system/configs/best_fast.yaml,model.width=14

A network is a run that was quantized (its own files), a name of the catalogue, or a configuration with settings; these
have fresh weights, as latency does not depend on them, and are quantized after calibration on noise. All of them and
all of their forms take turns in one process, so that a busy machine disturbs them alike; medians, with the tenth and
the ninetieth percentile. `float` is the deploy form in float32, `train` the train form, whose branches the runtime does
not merge. The first network's float form is what all others are compared with.
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path[0] = str(Path(__file__).resolve().parents[1])

import system  # isort: skip  # noqa: F401 (before torch: it sets how OpenMP threads wait)
import numpy as np
import torch
from torch import nn

from quant.backend import load_backend
from quant.check import names_of
from quant.graph import check_float, check_integer, read_graph, session
from quant.graph_cost import graph_complexity
from quant.portable import has_vnni
from system.checkpoint import load_checkpoint
from system.complexity import Shape
from system.config import override, parse
from system.errors import ConfigError, RunError, guarded
from system.files import write_json
from system.models.catalog import CATALOG
from system.models.network import build
from system.models.reparam import deploy
from system.onnx_float import INPUT, export_float
from system.progress import progress
from system.registry import unknown
from system.runs import load_experiment
from system.spec import ExperimentSpec, ModelSpec
from system.throughput import machine

WARM_UP = 10


class Forms(NamedTuple):
    """One network: where its ONNX files are, and its input."""

    shape: Shape
    files: dict[str, Path]  # form -> file


def of_run(run: Path, backend: str, folder: Path) -> Forms:
    """The files of a quantized run, and its train form. Raises RunError for one that is missing or of another kind."""
    checkpoint, quantized = load_checkpoint(run / "best" / "model.safetensors"), run / "quant" / backend
    files = {"train": folder / "train.onnx", "float": quantized / "float.onnx", "int8": quantized / "int8.onnx"}
    check_float(files["float"])
    check_integer(files["int8"])
    shape = checkpoint.spec.input_shape()
    export_float(checkpoint.network().eval(), shape, files["train"])
    return Forms(shape, files)


def of_config(text: str, folder: Path) -> Forms:
    """A configuration, and settings of it after commas, with fresh weights for ten classes."""
    file, *settings = text.split(",")
    plain = override(load_experiment(Path(file)).plain(), settings)
    experiment = parse(ExperimentSpec, plain, file)
    return fresh(experiment.model, None, experiment.input_shape(), 10, folder)


def of_catalogue(name: str, folder: Path) -> Forms:
    entry = CATALOG[name]
    return fresh(entry.spec, entry.module, entry.shape, entry.classes, folder)


def fresh(
    spec: ModelSpec | None, module: Callable[[int], nn.Module] | None, shape: Shape, classes: int, folder: Path
) -> Forms:
    """Fresh weights; a network without a specification is quantized by ONNX Runtime, and has one float form."""
    torch.manual_seed(0)
    noise = [torch.randn(4, *shape)]
    files = {form: folder / f"{form}.onnx" for form in ("train", "float", "int8")}
    network: nn.Module
    if spec is not None:
        trained = build(spec, shape, classes).eval()
        network, backend = deploy(trained, spec, shape, classes), load_backend("brevitas")
        export_float(trained, shape, files["train"])
    else:
        assert module is not None
        network, backend = module(classes).eval(), load_backend("onnxruntime")
        del files["train"]
    export_float(network, shape, files["float"])
    quantized = backend.prepare(network, spec, shape, classes)  # type: ignore[arg-type]
    backend.calibrate(quantized, noise)
    backend.export_onnx(backend.freeze(quantized), shape, files["int8"], 17)
    return Forms(shape, files)


def measure(networks: dict[str, Forms], threads: int, batch: int, turns: int) -> list[dict[str, Any]]:
    """A row per network and form: milliseconds per batch."""
    sessions = {
        (n, form): session(path, threads) for n, forms in networks.items() for form, path in forms.files.items()
    }
    generator = np.random.default_rng(0)
    inputs = {
        name: generator.standard_normal((batch, *forms.shape)).astype(np.float32) for name, forms in networks.items()
    }
    times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    with progress(f"threads {threads}, batch {batch}", WARM_UP + turns, unit="turns") as step:
        for turn in range(WARM_UP + turns):
            for key, runtime in sessions.items():
                started = time.perf_counter()
                runtime.run(None, {INPUT: inputs[key[0]]})
                if turn >= WARM_UP:
                    times[key].append(1e3 * (time.perf_counter() - started))
            step(1)
    middle = {key: float(np.median(values)) for key, values in times.items()}
    reference = middle[next(iter(networks)), "float"]
    return [
        {
            "network": name, "form": form, "threads": threads, "batch": batch, "ms": middle[name, form],
            "ms_low": float(np.percentile(values, 10)), "ms_high": float(np.percentile(values, 90)),
            "over_own_float": middle[name, "float"] / middle[name, form],
            "over_first_float": reference / middle[name, form],
        }
        for (name, form), values in times.items()
    ]  # fmt: skip


def described(networks: dict[str, Forms]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, forms in networks.items():
        cost = graph_complexity(read_graph(forms.files["int8"]))
        found[name] = {"shape": list(forms.shape), **{key: cost[key] for key in ("params", "macs", "total_bytes")}}
    return found


def show(found: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    first = next(iter(found["networks"]))
    print(f"{'network':28s} form   threads batch         ms (10 % to 90 %)  of own float  of {first}'s float")
    for r in rows:
        spread = f"({r['ms_low']:.3f} to {r['ms_high']:.3f})"
        print(
            f"{r['network']:28s} {r['form']:6s} {r['threads']:7d} {r['batch']:5d} {r['ms']:10.3f} {spread:>22s} "
            f"{r['over_own_float']:12.2f}x {r['over_first_float']:12.2f}x"
        )


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help="run folder, name, or FILE.yaml[,KEY=VALUE]")
    parser.add_argument("--backend", default="brevitas", help="whose file of a run")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--turns", type=int, default=200, help="at batch 1; fewer at larger ones (default: 200)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    runs = names_of([Path(name) for name in args.networks if Path(name).is_dir()])
    names = {run: name for name, run in runs.items()}
    with tempfile.TemporaryDirectory() as temporary:
        networks: dict[str, Forms] = {}
        for number, name in enumerate(args.networks):
            folder = Path(temporary) / str(number)
            folder.mkdir()
            if Path(name).is_dir():
                networks[names[Path(name)]] = of_run(Path(name), args.backend, folder)
            elif Path(name.partition(",")[0]).is_file():
                networks[name.removeprefix("system/configs/")] = of_config(name, folder)
            elif name in CATALOG:
                networks[name] = of_catalogue(name, folder)
            else:
                raise ConfigError(f"{name}: no such run folder or file; {unknown('model', name, CATALOG)}")
        if len(networks) < len(args.networks):
            raise RunError("two networks have one name; give each once")
        found = {"machine": {**machine(), "vnni": has_vnni(), "cores": os.cpu_count()}, "networks": described(networks)}
        print(", ".join(f"{key} {value}" for key, value in found["machine"].items() if value is not None))
        for name, row in found["networks"].items():
            shape = "x".join(map(str, row["shape"]))
            counts = f"{row['params']:,} parameters, {row['macs']:,} MACs, {row['total_bytes']:,} bytes in INT8"
            print(f"{name}: input {shape}, {counts}")
        found["rows"] = []
        for threads in args.threads:
            for batch in args.batch:
                rows = measure(networks, threads, batch, max(5, args.turns * 4 // (3 + batch)))
                show(found, rows)
                found["rows"] += rows
        if args.json:
            write_json(args.json, found)


if __name__ == "__main__":
    sys.exit(guarded(main))
