"""What `system/run.py predict` does: its options choose a network, recordings, and what is said of them."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from system.checkpoint import Checkpoint, load_checkpoint
from system.data.decoding import Damaged, OnDamage, recordings_in, refuse
from system.errors import ConfigError, DataError, RunError
from system.models.catalog import model_spec
from system.options import check_device
from system.prediction import float_run, onnx_file
from system.prediction.embeddings import write_embeddings
from system.prediction.raw_stream import Pcm


def predict(args: argparse.Namespace) -> None:
    """Raises ConfigError for options that do not go together, DataError for a damaged recording."""
    by_file = bool(args.model) and args.model.endswith(onnx_file.SUFFIXES)
    (refuse_beside_a_file if by_file else refuse_beside_a_run)(args)
    files = list(recordings_in(args.files))
    damaged = leaving_out(len(files)) if args.skip_bad else refuse
    try:
        if by_file:
            pcm = Pcm(args.rate, args.format or "s16le")
            onnx_file.predict(Path(args.model), files, args.run, args.hop, pcm, damaged)
        else:
            by_run(args, files, damaged)
    except Damaged as damage:
        raise DataError(f"{damage}; --skip-bad leaves damaged recordings out") from None


def refuse_beside_a_file(args: argparse.Namespace) -> None:
    if args.checkpoint or args.embeddings:
        raise ConfigError(f"--model {args.model}: a file is complete; leave --checkpoint and --embeddings out")
    if args.device == "cuda":
        raise ConfigError(f"--model {args.model}: expected --device cpu or auto, found cuda; ONNX files run on the CPU")
    if args.skip_bad and onnx_file.STREAM in args.files:
        raise ConfigError("--skip-bad: a stream (-) is no recording that could be left out; leave --skip-bad out")


def refuse_beside_a_run(args: argparse.Namespace) -> None:
    if not args.run and not args.checkpoint:
        raise ConfigError("predict: expected one of --run, --checkpoint and --model FILE.onnx, found none")
    if args.hop is not None or args.rate is not None or args.format or onnx_file.STREAM in args.files:
        raise ConfigError("predict: standard input (-), --hop, --rate and --format need --model FILE.onnx")


def leaving_out(recordings: int) -> OnDamage:
    """What --skip-bad does about a damaged one of so many: a line on standard error. Raises DataError if all are."""
    left_out: list[Damaged] = []

    def leave_out(damage: Damaged) -> None:
        left_out.append(damage)
        if len(left_out) == recordings:
            raise DataError(f"{left_out[0]}; of {recordings} recordings none can be read")
        print(f"{damage}; left out", file=sys.stderr)

    return leave_out


def by_run(args: argparse.Namespace, files: list[Path], damaged: OnDamage) -> None:
    device = check_device(args.device)
    checkpoint = load_checkpoint(args.checkpoint or args.run / "best" / "model.safetensors")
    if args.model:
        refuse_other_network(checkpoint, args.model)
    if args.embeddings:
        print(write_embeddings(args.embeddings, checkpoint, files, device, damaged))
    else:
        float_run.predict(checkpoint, files, device, damaged)


def refuse_other_network(checkpoint: Checkpoint, name: str) -> None:
    found = checkpoint.spec.model.plain()
    if other := [key for key, value in model_spec(name).plain().items() if value != found[key]]:
        raise RunError(f"--model {name}: the checkpoint holds another network, by its {', '.join(other)}")
