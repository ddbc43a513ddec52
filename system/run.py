#!/usr/bin/env python3
"""Train, evaluate and inspect float models: python system/run.py COMMAND --help"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import ConfigError, guarded


def train(args: argparse.Namespace) -> None:
    from system.options import check_device, experiment

    # everything that can be refused is refused before a run folder exists, and the quick things first
    spec = experiment(args)
    check_device(args.device)
    from system.dataset import prepare
    from system.experiment import budget_of, complexity_report, show_scores, train_and_report
    from system.runs import check_same, locked, provenance, write_settings

    best: Path = args.run / "best"
    same = check_same(best / "config.yaml", spec.plain())
    if same and (best / "scores.json").is_file():
        print(f"{best} is finished; nothing to do")
        return
    complexity_report(spec, classes=2)  # a budget or a model that cannot be is refused before any audio is read
    data = prepare(spec.data, spec.features, spec.seed)
    if budget := budget_of(spec):
        budget.check(complexity_report(spec, len(data.classes)), "the model of this experiment")
    best.mkdir(parents=True, exist_ok=True)
    with locked(args.run):
        write_settings(best / "config.yaml", spec.plain(), provenance(spec, data.checksum))
        show_scores(train_and_report(spec, data, best, args.device), f"{best} (float, test fold)")


def evaluate(args: argparse.Namespace) -> None:
    from system.checkpoint import load_checkpoint
    from system.dataset import prepare
    from system.evaluation import score
    from system.experiment import predictions_of, show_scores
    from system.options import check_device
    from system.training import logits_of

    device = check_device(args.device)
    checkpoint = load_checkpoint(args.run / "best" / "model.safetensors")
    spec = checkpoint.spec
    data = prepare(spec.data, spec.features, spec.seed)  # the split of the training, whatever --seed says
    part = getattr(data, args.part)
    logits = logits_of(checkpoint.network().to(device), part, checkpoint.mean, checkpoint.std)
    seed = spec.seed if args.seed is None else args.seed  # of the bootstrap
    show_scores(score(predictions_of(data, part, logits), args.part, data.device_groups, seed), str(args.run))


def predict(args: argparse.Namespace) -> None:
    import torch

    from system.checkpoint import load_checkpoint
    from system.dataset import stream_features
    from system.evaluation import probabilities_of
    from system.options import check_device

    device = check_device(args.device)
    checkpoint = load_checkpoint(args.run / "best" / "model.safetensors")
    network, spec = checkpoint.network().to(device), checkpoint.spec
    with torch.inference_mode():
        for rows, features in stream_features(args.files, spec.features, spec.data.segment_seconds):
            batch = torch.from_numpy(checkpoint.standardize(features)).to(device)
            probabilities = probabilities_of(network(batch).cpu().numpy())
            for row, p in zip(rows, probabilities, strict=True):
                print(f"{args.files[row]}\t{checkpoint.classes[p.argmax()]}\t{p.max():.4f}")


def complexity(args: argparse.Namespace) -> None:
    import json

    from system.models.catalog import CATALOG
    from system.models.report import catalog_report, print_catalog

    report = catalog_report([args.model] if args.model else list(CATALOG))
    if args.json:
        print(json.dumps(report, indent=2))
    else:
        print_catalog(report)


def data(args: argparse.Namespace) -> None:
    from system.dataset import prepare
    from system.options import experiment

    spec = experiment(args)
    prepared = prepare(spec.data, spec.features, spec.seed)
    print(f"{prepared.name}: {len(prepared.classes)} classes ({', '.join(prepared.classes)})")
    print(f"  checksum {prepared.checksum}")
    for name in ("train", "validation", "test"):
        part = getattr(prepared, name)
        devices = ", ".join(f"{device} {part.device.count(device)}" for device in sorted(set(part.device)))
        print(f"  {name}: {len(part)} segments of {len(set(part.filename))} clips, "
              f"{len(set(part.source))} sources; devices: {devices}")  # fmt: skip
    if prepared.skipped:
        print(f"  {prepared.skipped} damaged recordings left out")


def main(argv: list[str]) -> None:
    from system.options import add_common_options, add_experiment_options

    parser = argparse.ArgumentParser(prog="system/run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(call: Callable[[argparse.Namespace], None], text: str, run: bool = False) -> argparse.ArgumentParser:
        p = commands.add_parser(call.__name__, help=text)
        add_common_options(p)
        if run:
            p.add_argument("--run", type=Path, required=True, metavar="runs/NAME")
        p.set_defaults(call=call)
        return p

    add_experiment_options(command(train, "train one experiment into RUN/best", run=True))
    p = command(evaluate, "score a run's float model again from its checkpoint", run=True)
    p.add_argument("--part", choices=("validation", "test"), default="validation")
    p = command(predict, "label recordings with a run's float model, one line per segment", run=True)
    p.add_argument("files", nargs="+", type=Path, metavar="a.wav")
    p = command(complexity, "parameters and MACs of the named models, in every official view")
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true")
    which.add_argument("--model", metavar="NAME")
    p.add_argument("--json", action="store_true")
    add_experiment_options(command(data, "read a data set, fill the caches, and say what is in it"))

    args = parser.parse_args(argv)
    if getattr(args, "run", None) is not None and args.command != "train" and not args.run.is_dir():
        raise ConfigError(f"--run {args.run}: no such run folder")
    args.call(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
