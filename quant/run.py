#!/usr/bin/env python3
"""Quantize a run and check the integer file: python quant/run.py qat --run runs/NAME"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import ConfigError, guarded


def opened(args: argparse.Namespace) -> Any:
    """The run's checkpoint, with --set quant.KEY=VALUE applied."""
    from system.checkpoint import load_checkpoint
    from system.config import override, parse
    from system.spec import ExperimentSpec

    checkpoint = load_checkpoint(args.run / "best" / "model.safetensors")
    wrong = [setting for setting in args.settings if not setting.startswith(("quant.", "data.root="))]
    if wrong:
        raise ConfigError(f"--set {wrong[0]}: only quant.KEY and data.root can change after training")
    settings = [*args.settings, *([f"seed={args.seed}"] if args.seed is not None else [])]
    plain = override(checkpoint.spec.plain(), settings)
    return checkpoint, parse(ExperimentSpec, plain, str(args.run))


def quantize(args: argparse.Namespace) -> None:
    from dataclasses import replace

    from quant.backend import load_backend
    from quant.qat import quantize as run_recipe
    from system.dataset import prepare
    from system.options import check_device
    from system.runs import locked

    check_device(args.device)
    checkpoint, spec = opened(args)
    backend = load_backend(args.backend)
    checkpoint = replace(checkpoint, spec=spec)
    data = prepare(spec.data, spec.features, spec.seed)
    with locked(args.run):
        folder = args.run / "quant" / args.backend
        show(run_recipe(checkpoint, data, backend, folder, train=args.command == "qat", device=args.device), folder)


def export(args: argparse.Namespace) -> None:
    from system.models.reparam import deploy
    from system.onnx_float import export_float

    checkpoint, spec = opened(args)
    shape = spec.input_shape()
    network = deploy(checkpoint.network(), spec.model, shape, len(checkpoint.classes))
    path = args.run / "quant" / args.backend / "float.onnx"
    export_float(network, shape, path, spec.quant.opset)
    print(f"{path}: the float deploy form; qat and ptq write int8.onnx beside it")


def check(args: argparse.Namespace) -> None:
    from quant.backend import BACKENDS
    from system.files import read_json

    folders = [args.run / "quant" / name for name in BACKENDS if (args.run / "quant" / name / "parity.json").is_file()]
    if not folders:
        raise ConfigError(f"--run {args.run}: nothing is quantized yet; python quant/run.py qat --run {args.run}")
    for folder in folders:
        show(read_json(folder / "parity.json", "quant/run.py qat"), folder)


def show(parity: dict[str, Any], folder: Path) -> None:
    from system.files import read_json

    cost = read_json(folder / "complexity.json", "quant/run.py qat")
    change, fused, ms = parity["float_vs_int8"], parity["fused"], parity["latency_ms"]
    print(
        f"{folder}: INT8 accuracy {change['int8']['accuracy']:.4f} ({change['accuracy']:+.4f} of float), "
        f"log loss {change['int8']['log_loss']:.4f} ({change['log_loss']:+.4f})\n"
        f"  {cost['params']:,} parameters, {cost['macs']:,} MACs, {cost['total_bytes']:,} bytes"
        f"{'' if cost['within_budget'] else ' - OVER ITS BUDGET'}\n"
        f"  {fused['conv_integer']} of {fused['conv_total']} convolutions on integers; torch and ONNX Runtime agree "
        f"on {parity['argmax_agreement']:.2%} of {parity['n']} segments, at most {parity['max_lsb']} LSB apart\n"
        f"  one segment, one thread: {ms['fp32']:.3f} ms float, {ms['int8']:.3f} ms INT8 "
        f"({ms['fp32'] / ms['int8']:.2f}x)"
    )


COMMANDS = {
    "qat": (quantize, "calibrate, train with quantization, export and compare"),
    "ptq": (quantize, "calibrate, export and compare, without training"),
    "export": (export, "write the float deploy form as ONNX"),
    "check": (check, "print what the backends reached, side by side"),
}


def main(argv: list[str]) -> None:
    from quant.backend import BACKENDS
    from system.options import add_common_options

    parser = argparse.ArgumentParser(prog="quant/run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (call, text) in COMMANDS.items():
        p = commands.add_parser(name, help=text)
        p.add_argument("--run", type=Path, required=True, metavar="runs/NAME")
        p.add_argument("--backend", default="brevitas", choices=sorted(BACKENDS))
        p.add_argument("--set", dest="settings", action="append", default=[], metavar="quant.KEY=VALUE")
        add_common_options(p)
        p.set_defaults(call=call)
    args = parser.parse_args(argv)
    if not args.run.is_dir():
        raise ConfigError(f"--run {args.run}: no such run folder")
    args.call(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
