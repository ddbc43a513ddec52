#!/usr/bin/env python3
"""What each trick of training is worth on your data: added alone to nothing, and taken alone out of everything.

    python benchmarks/ablation.py --data-root ../shared/data/esc10_32k --device-irs ../shared/data/micirp
    python benchmarks/ablation.py ... --config system/configs/dcase2024_baseline.yaml --teacher runs/teacher

One network and one recipe (--config) without any augmentation, average or teacher; the same with each of TRICKS alone;
with all of them; and with all but one. All have the same number of passes. Scores are of the validation part, as they
are there to choose by; the mean over --seeds, of which each draws its own validation part. Runs are folders under
--out, and the same command goes on where it stopped. ablation.md and .json are written beside them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import system  # noqa: F401 (before torch: it sets how OpenMP threads wait)
from benchmarks.side_by_side import ROOT, Job, make
from system.augment.table import AUGMENTATIONS, NOTHING
from system.errors import ConfigError, guarded
from system.files import read_json, write_json, write_text
from system.options import needs_validation
from system.runs import load_experiment

PLAIN = {
    **{
        f"augment.{key}": getattr(NOTHING, key)
        for row in AUGMENTATIONS.values() for key, value in row.usual.items() if getattr(NOTHING, key) != value
    },
    "train.label_smoothing": 0.0, "train.average": "none", "model.drop_path": 0.0, "distill.teachers": [],
    "budget": None,
}  # fmt: skip


def tricks(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What is added or taken out at once, by name; those that need a folder only where it is given."""
    found: dict[str, dict[str, Any]] = {
        **{
            name: {f"augment.{key}": value for key, value in row.usual.items()}
            for name, row in AUGMENTATIONS.items() if "impulse_responses" not in row.usual
        },
        "label smoothing": {"train.label_smoothing": 0.1},
        "drop path": {"model.drop_path": 0.1},
        "mean of weights": {"train.average": "ema"},
    }  # fmt: skip
    if args.device_irs:
        found["device responses"] = {"augment.impulse_responses": args.device_irs}
    if args.teacher:
        found["distillation"] = {"distill.teachers": args.teacher}
    if args.tricks is None:
        return found
    names = [name.strip() for name in args.tricks.split(",")]
    if wrong := [name for name in names if name not in found]:
        raise ConfigError(f"--tricks: expected some of {', '.join(found)}; found {wrong[0]!r}")
    return {name: found[name] for name in names}


def cases(chosen: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Name of a run -> its settings: plain, plus one, all, minus one."""
    everything = {key: value for settings in chosen.values() for key, value in settings.items()}
    found = {"plain": dict(PLAIN), "all": {**PLAIN, **everything}}
    for name, settings in chosen.items():
        found[f"plain + {name}"] = {**PLAIN, **settings}
        found[f"all - {name}"] = {**PLAIN, **everything, **{key: PLAIN[key] for key in settings if key in PLAIN}}
    return found


def scored(runs: Sequence[Path]) -> dict[str, float]:
    """Means over seeds of what the validation part tells."""
    found = [read_json(run / "best" / "scores.json", "this command") for run in runs]
    return {
        **{key: sum(each["validation"][key] for each in found) / len(found) for key in ("accuracy", "log_loss")},
        "seconds": sum(each["train_seconds"] for each in found) / len(found),
        "n": found[0]["validation"]["n"],
    }


def markdown(results: Mapping[str, Mapping[str, float]], names: Sequence[str]) -> str:
    lines = [
        "| trick | added alone: accuracy | log loss | seconds | taken out alone: accuracy | log loss | seconds |",
        "|---|---:|---:|---:|---:|---:|---:|",
        f"| none, or all | {_cells(results['plain'], None)} | {_cells(results['all'], None)} |",
    ]
    for name in names:
        alone, without = results[f"plain + {name}"], results[f"all - {name}"]
        lines.append(f"| {name} | {_cells(alone, results['plain'])} | {_cells(without, results['all'])} |")
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[str, float], base: Mapping[str, float] | None) -> str:
    def cell(key: str) -> str:
        return f"{row[key]:.3f}" + ("" if base is None else f" ({row[key] - base[key]:+.3f})")

    return f"{cell('accuracy')} | {cell('log_loss')} | {row['seconds']:.0f}"


def run(args: argparse.Namespace) -> None:
    needs_validation(load_experiment(args.config), "an ablation")
    chosen = tricks(args)
    root = args.out / f"{Path(args.data_root).name}-{args.config.stem}-e{args.epochs}"
    given = {
        "data.dataset": "csv", "data.root": args.data_root, "data.fold": args.fold, "data.device_irs": args.device_irs,
        "train.epochs": args.epochs,
    }  # fmt: skip
    jobs = {
        name: [
            Job(root / name.replace(" ", "_") / f"s{seed}", args.config, {**settings, **given, "seed": seed})
            for seed in range(args.seeds)
        ]
        for name, settings in cases(chosen).items()
    }
    make([each for runs in jobs.values() for each in runs], args.workers, args.device)
    results = {name: scored([each.folder for each in runs]) for name, runs in jobs.items()}
    table = markdown(results, list(chosen))
    write_text(root / "ablation.md", table)
    write_json(root / "ablation.json", {"epochs": args.epochs, "fold": args.fold, "seeds": args.seeds, **results})
    print(table)
    print(f"validation parts of {results['plain']['n']} segments, {args.seeds} seeds; {root}/ablation.md and .json")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, metavar="DIR", help="a csv folder")
    parser.add_argument("--device-irs", metavar="DIR", help="simulate devices, and draw their responses at random")
    parser.add_argument("--config", type=Path, default=ROOT / "system" / "configs" / "dcase2024_baseline.yaml")
    parser.add_argument("--teacher", action="append", default=[], metavar="RUN", help="may be repeated: an ensemble")
    parser.add_argument("--tricks", metavar="A,B", help="some of them (default: all)")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training part (default: 60)")
    parser.add_argument("--fold", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), metavar="DIR")
    args = parser.parse_args(argv)
    run(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
