#!/usr/bin/env python3
"""What each trick of training is worth on your data: added alone to nothing, and taken alone out of everything.

    python benchmarks/ablation.py --data-root ../shared/data/esc10_32k --device-irs ../shared/data/micirp
    python benchmarks/ablation.py ... --config system/configs/dcase2024_baseline.yaml --teacher runs/teacher

One network and one recipe (--config) without any augmentation, average or teacher; the same with each of TRICKS alone;
with all of them; and with all but one. All have the same number of passes. Scores are of the validation part, as they
are there to choose by, at the temperature that fits it best; each of --seeds draws its own, and the rows of all are
taken together. Intervals are a bootstrap over clips, paired with what the trick is added to or taken out of. Runs are
folders under --out, and the same command goes on where it stopped: whole seeds first, so that what is there when it is
stopped can be compared by fewer --seeds. ablation.md, .json and .png are written beside them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import system  # noqa: F401 (before torch: it sets how OpenMP threads wait)
from benchmarks.ablation_report import markdown, plot
from benchmarks.side_by_side import ROOT, Job, PerClip, differences, gathered, make
from system.augment.table import AUGMENTATIONS, NOTHING
from system.data.folds import DATASETS
from system.errors import ConfigError, guarded
from system.files import read_json, write_json, write_text, write_with
from system.options import needs_validation
from system.runs import load_experiment
from system.spec import DataSpec

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


def compared(runs: Sequence[Path], base: Sequence[Path]) -> dict[str, Any]:
    """Scores of the validation parts of all seeds, and how they differ from those of `base`, with intervals."""
    found = [read_json(run / "best" / "scores.json", "this command") for run in runs]
    several = "thresholds" in found[0]
    mine, theirs = (gathered([PerClip.read(run / "validation.csv", several) for run in each]) for each in (runs, base))
    return {
        **differences(mine, theirs), "clips": len(mine.filename),
        "seconds": sum(each["train_seconds"] for each in found) / len(found),
    }  # fmt: skip


def run(args: argparse.Namespace) -> None:
    needs_validation(load_experiment(args.config), "an ablation")
    chosen = tricks(args)
    root = args.out / f"{Path(args.data_root).name}-{args.config.stem}-e{args.epochs}"
    given = {
        "data.dataset": "csv", "data.root": args.data_root, "data.fold": args.fold, "data.device_irs": args.device_irs,
        "train.epochs": args.epochs,
    }  # fmt: skip
    DATASETS["csv"](DataSpec(dataset="csv", root=args.data_root, fold=args.fold), 0)  # refused before 24 trainings are
    jobs = {
        name: [
            Job(root / name.replace(" ", "_") / f"s{seed}", args.config, {**settings, **given, "seed": seed},
                validation=True)
            for seed in range(args.seeds)
        ]
        for name, settings in cases(chosen).items()
    }  # fmt: skip
    make([runs[seed] for seed in range(args.seeds) for runs in jobs.values()], args.workers, args.device)
    folders = {name: [each.folder for each in runs] for name, runs in jobs.items()}
    results = {
        name: compared(mine, folders["all" if name.startswith("all - ") else "plain"]) for name, mine in folders.items()
    }
    table = markdown(results, list(chosen))
    write_text(root / "ablation.md", table)
    write_json(root / "ablation.json", {"epochs": args.epochs, "fold": args.fold, "seeds": args.seeds, **results})
    clips = results["plain"]["clips"]
    title = f"{root.name}: validation parts of {args.seeds} seeds, {clips} clips"
    write_with(root / "ablation.png", lambda path: plot(results, list(chosen), title, path))
    print(table)
    print(f"validation parts of {args.seeds} seeds, {clips} clips in all; {root}/ablation.md, .json and .png")


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
