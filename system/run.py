#!/usr/bin/env python3
"""Train, evaluate and inspect float models: python system/run.py COMMAND --help"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.commands import complexity, data, evaluate, mixtures, predict, roadmap, specialize, throughput, train
from system.errors import ConfigError, guarded


def main(argv: list[str]) -> None:
    from system.options import add_common_options, add_experiment_options

    parser = argparse.ArgumentParser(prog="system/run.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(call: Callable[[argparse.Namespace], None], text: str, run: bool = False) -> argparse.ArgumentParser:
        p = commands.add_parser(call.__name__, help=text, description=text)
        add_common_options(p)
        if run:
            p.add_argument("--run", type=Path, required=True, metavar="runs/NAME", help="the run's folder")
        p.set_defaults(call=call)
        return p

    p = command(train, "train one experiment into RUN/best", run=True)
    add_experiment_options(p)
    p.add_argument("--devices", type=int, default=1, metavar="N", help="processes that train together on this machine, "
                   "one for each GPU, or on the CPU (default: 1)")  # fmt: skip
    p.add_argument("--nodes", type=int, default=1, metavar="M", help="machines with N each: the same command on each, "
                   "under `torchrun ... --`, or with NODE_RANK, MASTER_ADDR and MASTER_PORT set")  # fmt: skip
    p.add_argument("--init", metavar="runs/NAME", help="begin with the weights of another run (init.run), and with its "
                   "network and features where the experiment names none")  # fmt: skip
    p.add_argument("--refit", choices=("all",), help="train RUN's network anew on everything, test fold included, "
                   "into RUN/refit; the scores of RUN stay")  # fmt: skip
    p = command(specialize, "fine-tune a run for each recording device, into RUN/devices/DEVICE", run=True)
    p.add_argument("--only", metavar="A,B", help="some devices (default: all that every part has)")
    p.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE",
                   help="change the fine-tuning, such as train.epochs=10 (default: a third of the run's epochs at a "
                   "tenth of its learning rate)")  # fmt: skip
    p = command(evaluate, "score a run's float model again from its checkpoint", run=True)
    p.add_argument("--part", choices=("validation", "test"), default="validation", help="(default: validation)")
    p.add_argument("--predictions", type=Path, metavar="FILE.csv", help="write the probabilities of its segments, too")
    p = command(predict, "label recordings by a run or an ONNX file, one line per segment or event, or embed them")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--run", type=Path, metavar="runs/NAME", help="label by the float network of a run")
    which.add_argument("--checkpoint", type=Path, metavar="FILE.safetensors", help="a run's model, wherever it is")
    p.add_argument("--model", metavar="FILE.onnx|NAME",
                   help="label by this .onnx or .ort file alone; or refuse another network than NAME")  # fmt: skip
    p.add_argument("--hop", type=float, metavar="SECONDS", help="of FILE.onnx: from one window to the next")
    p.add_argument("--rate", type=int, metavar="HZ", help="of raw samples from standard input (default: the model's)")
    p.add_argument("--format", choices=("u8", "s16le", "s32le", "f32le"),
                   help="of raw samples from standard input, mono (default: s16le)")  # fmt: skip
    p.add_argument("--embeddings", type=Path, metavar="FILE.npz",
                   help="write embeddings of recordings, segments and time steps, not labels "
                   "(system/prediction/embeddings.py)")  # fmt: skip
    p.add_argument("--skip-bad", action="store_true", help="leave damaged recordings out, and name them")
    p.add_argument("files", nargs="+", type=Path, metavar="a.wav", help="or folders; with FILE.onnx also - (a stream)")
    p = command(complexity, "parameters and MACs of the named models, in every official view")
    which = p.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every named model")
    which.add_argument("--model", metavar="NAME", help="also layer by layer, with the reasons for each difference")
    which.add_argument("--config", type=Path, metavar="FILE.yaml", help="the network of an experiment")
    p.add_argument("--set", dest="settings", action="append", default=[], metavar="SECTION.KEY=VALUE",
                   help="change one value of the experiment; may be repeated")  # fmt: skip
    p.add_argument("--classes", type=int, default=10, metavar="N", help="of the experiment's network (default: 10)")
    p.add_argument("--form", choices=("train", "merged", "deploy"), default="train", help="of the layers listed")
    p.add_argument("--json", action="store_true", help="everything, for programs")
    p.add_argument("--markdown", action="store_true", help="the table of docs/networks.md")
    p = command(throughput, "clips per second of named models or of a run, before and after re-parameterization")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--model", nargs="+", metavar="NAME", help="default: those of paper 001 and a small one")
    which.add_argument("--run", type=Path, metavar="runs/NAME", help="the network of a run")
    p.add_argument("--forms", nargs="+", choices=("train", "merged", "deploy"), default=["train", "merged", "deploy"],
                   help="the first is what the others are compared with")  # fmt: skip
    p.add_argument("--json", action="store_true", help="everything, for programs")
    p = command(roadmap, "train every step of the KT report's roadmap by one recipe: its Table 1 on your data")
    add_experiment_options(p)
    p.add_argument("--run", type=Path, metavar="runs/NAME", help="default: runs/roadmap-<dataset>-s<seed>")
    p.add_argument("--steps", metavar="A,B", help="some steps by name, such as kt_baseline,kt_final (default: all)")
    p.add_argument("--seeds", type=int, default=1, metavar="N", help="trainings of each step (default: 1)")
    p.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share steps and cores")
    add_experiment_options(command(data, "read a data set, fill the caches, and say what is in it"))
    p = command(mixtures, "mix the clips of a csv folder into a folder with timed events, sources kept apart")
    p.add_argument("--data-root", type=Path, required=True, metavar="DIR", help="the clips: a csv folder")
    p.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    p.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE",
                   help="change one value of MixtureSpec (system/data/mixtures.py); may be repeated")  # fmt: skip

    args = parser.parse_args(argv)
    if getattr(args, "run", None) is not None and args.command not in ("train", "roadmap") and not args.run.is_dir():
        raise ConfigError(f"--run {args.run}: no such run folder")
    args.call(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
