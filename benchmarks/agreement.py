#!/usr/bin/env python3
"""Is the integer file the quantized network, and the same file however ONNX Runtime is set? On every recording.

    python benchmarks/agreement.py runs/A runs/B --data-root ../shared/data/esc10_32k --device-irs ../shared/data/micirp

Every segment of every fold that is not silence, on every device: the frozen torch network against ONNX Runtime, and
ONNX Runtime with each level of optimization and 1 and 2 threads against its usual setting. Exit code 1 unless at
least 99.9 % of the logits are within 1 LSB, none is more than 2 apart, and segments whose two best logits are more
than 2 LSB apart are decided alike; and, among settings, unless every logit is within 1 LSB.
"""

# ruff: noqa: E402 (this clone comes first on the path)

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import system  # isort: skip  # noqa: F401 (before torch: it sets how OpenMP threads wait)
import numpy as np
import torch

from quant import frozen
from quant.backend import BACKENDS, load_backend
from quant.check import names_of
from quant.graph import LEVELS, logit_scale, read_graph, session
from quant.parity import agreement
from quant.qat import deployable
from system.checkpoint import load_checkpoint
from system.data import devices
from system.data.audio import cached_audio
from system.data.folds import DATASETS
from system.dataset import load_devices
from system.errors import guarded
from system.features import LogMel
from system.files import write_json
from system.onnx_float import INPUT
from system.progress import progress
from system.spec import DataSpec, FeatureSpec

BATCH = 128
SETTINGS = list(itertools.product(LEVELS, (1, 2)))  # the last but one is the usual: all, one thread
USUAL = ("all", 1)


def every_segment(data: DataSpec, features: FeatureSpec, limit: int | None) -> Iterator[np.ndarray]:
    """Log-mel (n, mel bands, frames) of all folds: every segment, or `limit`, on every device, in batches."""
    folds = DATASETS[data.dataset](data, 0)
    clips = [*folds.train, *folds.validation, *folds.test]
    audio = cached_audio(clips, features.sample_rate, data.segment_seconds, data.silence_rms, data.skip_bad)
    responses, front_end = load_devices(data, features.sample_rate), LogMel(features)
    names = (devices.AS_RECORDED, *((*devices.SEEN, *devices.UNSEEN) if responses else ()))
    count = min(len(audio.samples), limit or len(audio.samples))
    print(f"{count:,} segments on each of {len(names)} devices: {', '.join(names)}")
    with progress("comparing", count * len(names), unit="segments") as step:
        for name, start in itertools.product(names, range(0, count, BATCH)):
            segments = np.array(audio.samples[start : min(count, start + BATCH)])
            if responses is not None:
                segments = responses.apply(segments, name)
            with torch.inference_mode():
                yield front_end(torch.from_numpy(segments)).numpy()
            step(len(segments))


def compare(run: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Setting -> how equal its logits are to the usual setting's; `torch` is the frozen network, where there is one."""
    checkpoint, folder = load_checkpoint(run / "best" / "model.safetensors"), run / "quant" / args.backend
    network = None
    if BACKENDS[args.backend].trains:
        network = frozen.kept(checkpoint, deployable(checkpoint), load_backend(args.backend), folder)
    path = folder / "int8.onnx"
    sessions = {setting: session(path, setting[1], level=setting[0]) for setting in SETTINGS}
    changes = {key: value for key, value in (("root", args.data_root), ("device_irs", args.device_irs)) if value}
    data = checkpoint.spec.data.changed(**changes)
    outputs: dict[Any, list[np.ndarray]] = {name: [] for name in (("torch",) if network else ()) + tuple(sessions)}
    for log_mel in every_segment(data, checkpoint.spec.features, args.limit):
        x = checkpoint.standardize(log_mel)
        if network is not None:
            with torch.inference_mode():
                outputs["torch"].append(network(torch.from_numpy(x)).numpy())
        for setting, runtime in sessions.items():
            outputs[setting].append(runtime.run(None, {INPUT: x})[0])
    logits, lsb = {name: np.concatenate(rows) for name, rows in outputs.items()}, logit_scale(read_graph(path))
    usual = logits.pop(USUAL)
    return {
        name if isinstance(name, str) else "optimization {}, threads {}".format(*name): agreement(found, usual, lsb)
        for name, found in logits.items()
    }


def holds(name: str, row: dict[str, Any]) -> bool:
    if name == "torch":
        return row["within_1_lsb"] >= 0.999 and row["max_lsb"] <= 2 and row["decided_agreement"] == 1
    return row["max_lsb"] <= 1


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--backend", default="brevitas", choices=sorted(BACKENDS))
    parser.add_argument("--limit", type=int, metavar="N", help="segments of each device instead of all")
    parser.add_argument("--data-root", metavar="DIR")
    parser.add_argument("--device-irs", metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    found = {}
    for title, run in names_of(args.runs).items():
        found[title] = compare(run, args)
        print(f"{title}: ONNX Runtime, all optimizations, one thread, against")
        for name, row in found[title].items():
            print(
                f"  {name:34s} {row['n']:,} segments: {row['equal']:.4%} of the logits equal, "
                f"{row['within_1_lsb']:.4%} within 1 LSB, at most {row['max_lsb']} apart; decisions "
                f"{row['argmax_agreement']:.3%} equal, {row['decided_agreement']:.3%} where 2 LSB decide"
                f"{'' if holds(name, row) else '  FAILS'}"
            )
    if args.json:
        write_json(args.json, found)
    return 0 if all(holds(name, row) for rows in found.values() for name, row in rows.items()) else 1


if __name__ == "__main__":
    sys.exit(guarded(main))
