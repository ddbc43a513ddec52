#!/usr/bin/env python3
"""Quantize a run and check the integer file: python quant/run.py qat --run runs/NAME"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import ConfigError, guarded

CHANGEABLE = ("quant.", "data.root=", "data.train_list=", "temperature=")


def opened(args: argparse.Namespace) -> Any:
    """The run's checkpoint, with --set quant.KEY=VALUE applied."""
    from system.checkpoint import load_checkpoint
    from system.config import override, parse
    from system.spec import ExperimentSpec

    checkpoint = load_checkpoint(args.run / "best" / "model.safetensors")
    wrong = [setting for setting in args.settings if not setting.startswith(CHANGEABLE)]
    if wrong:
        raise ConfigError(
            f"--set {wrong[0]}: only quant.KEY, data.root, data.train_list and temperature can change after training"
        )
    settings = [*args.settings, *([f"seed={args.seed}"] if args.seed is not None else [])]
    plain = override(checkpoint.spec.plain(), settings)
    return checkpoint, parse(ExperimentSpec, plain, str(args.run))


def quantize(args: argparse.Namespace) -> None:
    from quant.backend import BACKENDS, load_backend
    from quant.check import compare
    from quant.qat import quantize as run_recipe
    from system.dataset import prepare
    from system.options import check_device
    from system.runs import locked

    check_device(args.device)
    if args.command == "qat" and not BACKENDS[args.backend].trains:
        raise ConfigError(f"--backend {args.backend} does not train: python quant/run.py ptq --backend {args.backend}")
    backend = load_backend(args.backend)
    checkpoint, spec = opened(args)
    checkpoint = replace(checkpoint, spec=spec)
    train = first_exported(args, spec) != "calibrated" and args.command == "qat"
    data = prepare(spec.data, spec.features, spec.seed)
    with locked(args.run):
        folder = args.run / "quant" / args.backend
        run_recipe(checkpoint, data, backend, folder, train=train, device=args.device)
    print(compare({args.backend: folder}))


def first_exported(args: argparse.Namespace, spec: Any) -> str | None:
    """For a refit, which has no validation part: whether training paid where there was one; else None."""
    from system.files import read_json
    from system.runs import first_run

    first = first_run(args.run, spec)
    if first == args.run:
        return None
    made_by = f"python quant/run.py {args.command} --run {first} --backend {args.backend}"
    parity = read_json(first / "quant" / args.backend / "parity.json", made_by)
    return parity.get("validation", {}).get("exported")


def export(args: argparse.Namespace) -> None:
    if args.whole or args.ort or args.c_array or args.c_network:
        export_deployment(args)
        return
    from quant.qat import deployable
    from system.onnx_float import export_float

    checkpoint, spec = opened(args)
    path = args.run / "quant" / args.backend / "float.onnx"
    export_float(deployable(checkpoint), spec.input_shape(), path, spec.quant.opset)
    print(f"{path}: the float deploy form; qat and ptq write int8.onnx beside it")


def export_deployment(args: argparse.Namespace) -> None:
    """What --whole, --ort, --c-network and --c-array ask for, from the backend's int8.onnx."""
    from quant.deployment.c.check import export_network
    from quant.deployment.c.weights import write_c
    from quant.deployment.mobile import write_ort
    from quant.deployment.waveform import TOLERANCE, network_inputs, signals, write_whole
    from system.prediction import recorded
    from system.runs import locked

    checkpoint, spec = opened(args)
    folder = args.run / "quant" / args.backend
    integer, whole = folder / "int8.onnx", folder / "whole.onnx"
    checkpoint = replace(checkpoint, temperature=spec.temperature or recorded.temperature(folder, checkpoint))
    if args.whole:
        found = write_whole(checkpoint, integer, whole)
        print(
            f"{whole}: waveform to probabilities, {whole.stat().st_size:,} bytes; on {found.segments} made signals "
            f"{found.largest:.1e} from the python path with float64 spectra; with float32 spectra "
            f"{found.within:.1%} are within {TOLERANCE:g}, at most {found.largest_float32:.1e}"
        )
    if args.ort:
        sources = {integer: network_inputs(checkpoint)} | ({whole: signals(checkpoint)} if args.whole else {})
        for source, inputs in sources.items():
            path = source.with_suffix(".ort")
            difference = write_ort(source, path, inputs)
            print(f"{path}: {path.stat().st_size:,} bytes; outputs differ by {difference:.1e} from {source.name}")
    if args.c_network:
        with locked(args.run):
            print(export_network(checkpoint, folder, signals(checkpoint)))
    if args.c_array:
        manifest = write_c(folder)
        print(f"{folder / 'weights.c'}, .h and .json: {len(manifest['tensors'])} tensors, {manifest['bytes']:,} bytes, "
              f"as complexity.json counts them")  # fmt: skip


def check(args: argparse.Namespace) -> None:
    from quant.backend import BACKENDS
    from quant.check import compare, compare_runs, names_of

    def quantized(run: Path) -> dict[str, Path]:
        if not run.is_dir():
            raise ConfigError(f"--beside {run}: no such run folder")
        folders = {name: run / "quant" / name for name in BACKENDS}
        found = {name: folder for name, folder in folders.items() if (folder / "parity.json").is_file()}
        if not found:
            raise ConfigError(f"--run {run}: nothing is quantized yet; python quant/run.py qat --run {run}")
        return found

    if args.beside:
        if args.portable:
            raise ConfigError("--portable is told of one run; leave --beside out")
        print(compare_runs({name: quantized(run) for name, run in names_of([args.run, *args.beside]).items()}))
        return
    found = quantized(args.run)
    print(compare(found))
    for name in [name for name in BACKENDS if name not in found]:
        command = "qat" if BACKENDS[name].trains else "ptq"
        print(f"{name}: not yet; python quant/run.py {command} --run {args.run} --backend {name}")
    if args.portable:
        for name, folder in found.items():
            print(f"\n{name}: {proven(folder)}")
        print_variants(args, "portable")


def proven(folder: Path) -> str:
    """What the integer file's weights prove, and the layers that keep it from more."""
    from quant.graph import read_graph
    from quant.portable import proof, statement

    found = proof(read_graph(folder / "int8.onnx"))
    return "\n".join(
        [statement(found), *(f"  {name}: {count} filters" for name, count in found["unsafe_layers"].items())]
    )


def print_variants(args: argparse.Namespace, which: str, train: bool = False) -> None:
    """The run's network, quantized anew by --backend in each of the ways to compare."""
    from quant.backend import load_backend
    from quant.check import table
    from quant.variants import ONLY_TRAINED, VARIANTS, best, cells, compare_variants
    from system.dataset import prepare
    from system.registry import unknown

    if which not in VARIANTS:
        raise ConfigError(f"--compare: {unknown('comparison', which, VARIANTS)}")
    if which in ONLY_TRAINED and not train:
        raise ConfigError(f"--compare {which}: they differ in how they are trained; add --train")
    checkpoint, spec = opened(args)
    data = prepare(spec.data, spec.features, spec.seed)
    rows = compare_variants(
        replace(checkpoint, spec=spec),
        data,
        load_backend(args.backend),
        VARIANTS[which],
        train=train,
        device=args.device,
    )
    chosen = best(rows)
    print(f"\n{which}, {args.backend}" + (f"; lowest log loss on validation data: {chosen}" if chosen else ""))
    print(table({name: cells(row) for name, row in rows.items()}))


def diagnose(args: argparse.Namespace) -> None:
    """layers.json, layers.png and a table of where quantization costs; or several ways to quantize, side by side."""
    import torch

    from quant import frozen
    from quant.backend import BACKENDS, load_backend
    from quant.diagnose import diagnose as by_layer
    from quant.diagnose import plot, table
    from quant.qat import calibration_inputs, deployable
    from system.dataset import prepare
    from system.files import write_json

    if args.compare:
        print_variants(args, args.compare, args.train)
        return
    if not BACKENDS[args.backend].trains:
        raise ConfigError(f"--backend {args.backend}: its graph has no layers that can be quantized one at a time")
    checkpoint, spec = opened(args)
    checkpoint = replace(checkpoint, spec=spec)
    folder, deployed = args.run / "quant" / args.backend, deployable(checkpoint)
    quantized = frozen.kept(checkpoint, deployed, load_backend(args.backend), folder)
    segments = torch.cat(calibration_inputs(checkpoint, prepare(spec.data, spec.features, spec.seed)))
    rows = by_layer(deployed, quantized, list(segments[: args.segments].split(16)))
    write_json(folder / "layers.json", {"segments": min(len(segments), args.segments), "layers": rows})
    plot(rows, folder / "layers.png", f"{args.run.name}, {args.backend}")
    print(table(rows))
    print(f"\nAll {len(rows)} layers: {folder / 'layers.json'}, {folder / 'layers.png'}")


COMMANDS = {
    "qat": (quantize, "calibrate, train with quantization, export and compare"),
    "ptq": (quantize, "calibrate, export and compare, without training"),
    "export": (export, "write the float deploy form as ONNX; or, by an option, files to deploy the integers"),
    "check": (check, "print what the backends reached, side by side"),
    "diagnose": (diagnose, "find the layers that cost most, or compare ways to quantize"),
}


def main(argv: list[str]) -> None:
    from quant.backend import BACKENDS
    from system.options import add_common_options

    parser = argparse.ArgumentParser(prog="quant/run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (call, text) in COMMANDS.items():
        p = commands.add_parser(name, help=text, description=text)
        p.add_argument("--run", type=Path, required=True, metavar="runs/NAME", help="a trained run")
        p.add_argument("--backend", default="brevitas", choices=sorted(BACKENDS), help="(default: brevitas)")
        p.add_argument(
            "--set", dest="settings", action="append", default=[], metavar="quant.KEY=VALUE",
            help="change one value of QuantSpec (system/spec/quant.py), where the data is, or temperature; may be "
            "repeated",
        )  # fmt: skip
        add_common_options(p)
        if name == "export":
            p.add_argument("--whole", action="store_true", help="whole.onnx: int8.onnx from waveform to probabilities")
            p.add_argument("--ort", action="store_true", help="int8.ort, with --whole also whole.ort: for mobiles")
            p.add_argument(
                "--c-network", action="store_true", help="network.c and .h: the integers in C99, for any device"
            )
            p.add_argument("--c-array", action="store_true", help="weights.c, .h and .json: the parameters alone")
        if name == "check":
            p.add_argument("--beside", type=Path, nargs="+", default=[], metavar="RUN", help="a table with other runs")
            p.add_argument("--portable", action="store_true", help="prove that no product overflows without VNNI")
        if name == "diagnose":
            p.add_argument("--segments", type=int, default=64, metavar="N", help="to watch the layers on (default: 64)")
            p.add_argument(
                "--compare", metavar="WHAT", help="ways to quantize: portable, repairs, bits, scales or teachers"
            )
            p.add_argument("--train", action="store_true", help="with --compare: train each on, quant.epochs long")
        p.set_defaults(call=call)
    args = parser.parse_args(argv)
    if not args.run.is_dir():
        raise ConfigError(f"--run {args.run}: no such run folder")
    args.call(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
