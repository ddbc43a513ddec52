"""Clips per second of a network in each of its forms, by the protocol of paper 001, Section IV-D.

A GPU reads batches of 32, a CPU one clip at a time on one thread; 50 runs warm up, 50 are timed. Beyond the paper, the
CPU is timed by ONNX Runtime too, the forms take turns so that the machine's other work meets all of them alike, and
the median counts instead of the mean.
"""

from __future__ import annotations

import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from system.models.audio_inception import THROUGHPUT
from system.models.entry import Entry
from system.models.forms import converted, fresh
from system.models.layers import Form
from system.onnx_float import INPUT, export_float
from system.progress import Step, progress

WARM_UP, TIMED = 50, 50  # runs of each form
MODELS = (*THROUGHPUT, "audio_rep_inception_128k")  # unless others are asked for

Run = Callable[[], object]


class Setting(NamedTuple):
    """One line of the table: what runs the network, and how many clips it gets at a time."""

    runtime: str
    device: str
    batch: int


CPU_SETTINGS = (Setting("eager", "cpu", 1), Setting("onnxruntime", "cpu", 1))
GPU_SETTINGS = (Setting("eager", "cuda", 32),)


def measure(
    entry: Entry, network: nn.Module | None, forms: Sequence[Form], settings: Sequence[Setting], seed: int, step: Step
) -> dict[str, Any]:
    """Time the network of `entry`, trained or (None) with fresh weights, in these forms.

    Returns its input, the largest difference of the forms' logits relative to the largest logit, and a row per setting.
    """
    torch.manual_seed(seed)
    trained = lively(fresh(entry) if network is None else network)
    networks = {form: converted(entry, trained, form).eval() for form in forms}
    with one_thread(), torch.inference_mode(), tempfile.TemporaryDirectory() as folder:
        difference = largest_difference(networks, torch.randn(2, *entry.shape))
        rows = []
        for setting in settings:
            x = torch.randn(setting.batch, *entry.shape)
            runs = {form: RUNTIMES[setting.runtime](net, x, setting, Path(folder)) for form, net in networks.items()}
            seconds = take_turns(runs, seed, step)
            found = {
                form: {
                    "median_ms": 1e3 * seconds[form],
                    "clips_per_second": setting.batch / seconds[form],
                    "speedup": seconds[forms[0]] / seconds[form],
                }
                for form in forms
            }
            rows.append({**setting._asdict(), "forms": found})
    return {"input": [1, *entry.shape], "difference": difference, "rows": rows}


def lively(network: nn.Module) -> nn.Module:
    """Every BatchNorm that starts at zero set to one: folded zeros are not what is deployed."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and module.affine and not module.weight.any():
                module.weight.fill_(1.0)
    return network


def largest_difference(networks: Mapping[Form, nn.Module], x: Tensor) -> float:
    outputs = [network(x) for network in networks.values()]
    return max(float((y - outputs[0]).abs().max() / outputs[0].abs().max()) for y in outputs)


def take_turns(runs: Mapping[Form, Run], seed: int, step: Step) -> dict[Form, float]:
    """Median seconds of each run; the order changes each round, so that no form always meets the same interruption."""
    order, shuffle = list(runs), random.Random(seed).shuffle
    seconds: dict[Form, list[float]] = {form: [] for form in runs}
    for _ in range(WARM_UP + TIMED):
        shuffle(order)
        for form in order:
            started = time.perf_counter()
            runs[form]()
            seconds[form].append(time.perf_counter() - started)
            step()
    return {form: statistics.median(times[WARM_UP:]) for form, times in seconds.items()}


def eager(network: nn.Module, x: Tensor, setting: Setting, folder: Path) -> Run:
    network, x = network.to(setting.device), x.to(setting.device)

    def run() -> None:
        network(x)
        if setting.device == "cuda":
            torch.cuda.synchronize()

    return run


def by_onnx_runtime(network: nn.Module, x: Tensor, setting: Setting, folder: Path) -> Run:
    import onnxruntime

    shape, path = (x.shape[1], x.shape[2], x.shape[3]), folder / f"{id(network)}.onnx"
    export_float(network.to(setting.device), shape, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    features = {INPUT: x.numpy()}
    return lambda: session.run(None, features)


RUNTIMES: dict[str, Callable[[nn.Module, Tensor, Setting, Path], Run]] = {
    "eager": eager,
    "onnxruntime": by_onnx_runtime,
}


@contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, str | None]:
    """What the numbers depend on besides the network."""
    return {
        "cpu": cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "onnxruntime": version("onnxruntime"),
    }


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def throughput_report(
    candidates: Mapping[str, tuple[Entry, nn.Module | None]],
    forms: Sequence[Form],
    settings: Sequence[Setting],
    seed: int,
) -> dict[str, Any]:
    """The protocol, the machine, and what was timed of each model: name -> its entry and, if trained, its network."""
    total = len(candidates) * len(settings) * len(forms) * (WARM_UP + TIMED)
    models = {}
    with progress("measuring throughput", total, unit="runs") as step:
        for name, (entry, network) in candidates.items():
            step(0, note=name)
            models[name] = measure(entry, network, forms, settings, seed, step)
    protocol = {"warm_up": WARM_UP, "timed": TIMED, "threads": 1, "seed": seed}
    return {"protocol": protocol, "machine": machine(), "models": models}


def print_throughput(report: dict[str, Any], forms: Sequence[Form]) -> None:
    """A line per model and setting: clips per second of each form, and how many times those of the first."""
    print(", ".join(f"{key} {value}" for key, value in report["machine"].items() if value))
    line = "{:<27} {:<17} {:>5}" + " {:>16}" * len(forms) + " {:>6} {:>11}"
    print(line.format("clips per second", "run by", "batch", *forms, "paper", "difference"))
    for name, model in report["models"].items():
        for row in model["rows"]:
            rates = [f"{found['clips_per_second']:.4g} ({found['speedup']:.2f}x)" for found in row["forms"].values()]
            published = THROUGHPUT.get(name, {}).get(row["device"]) if row["runtime"] == "eager" else None
            paper = f"{published[1] / published[0]:.2f}x" if published else ""
            by = f"{row['runtime']}, {row['device']}"
            print(line.format(name, by, row["batch"], *rates, paper, f"{model['difference']:.1e}"))
