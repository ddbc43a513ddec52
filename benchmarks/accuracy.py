#!/usr/bin/env python3
"""The challenge's networks and ours, trained side by side: accuracy against MACs, float and INT8.

    D=../shared/data
    python benchmarks/accuracy.py --data-root $D/esc10_32k --device-irs $D/micirp --folds 1
    python benchmarks/accuracy.py --data-root $D/esc10_32k --device-irs $D/micirp --budget 3M_macs,128k_params_30M_macs
    python benchmarks/accuracy.py --data-root $D/speech_commands_6w_16k --budget 3M_macs

Every network is trained by the recipe of its own configuration, or all by ours (--recipe ours: what is left is the
network and its front end), on the same recordings and with the same number of passes over them (--epochs), and
quantized by quant/run.py qat. Within 128k_params_30M_macs, networks are as published; for another budget their width is
solved. Ours is system/configs/best_128k.yaml, else best_3M.yaml, both found with fold 1 of ESC-10 held out
(docs/results.md), or --ours FILE.yaml. With --searched runs/search/f{fold} a network `searched` joins them, of each
fold the one that search/run.py found there without that fold, for instance by --budget 128k_params_30M_macs --space
search/spaces/integer_given_front_end.yaml --config system/configs/best_128k.yaml --set data.fold=1. Where a teacher
that ours names, or --teacher, is not trained, ours is left out and that is said.

All is trained on the whole training fold, no validation part is split off: nothing is chosen here, and temperatures are
1 but for what --set temperature=T says of ours.

Runs are folders under --out, by data set, epochs and budget, and the same command goes on where it stopped. The test
fold of a run is read once, when it is trained. Intervals and differences are a bootstrap over clips, paired with
--reference of the same budget and form; a clip brings the segments of all --seeds. accuracy.md, .json and .png are
written beside the runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

import system  # noqa: F401 (before torch: it sets how OpenMP threads wait)
from benchmarks.accuracy_report import markdown, plot
from benchmarks.side_by_side import ROOT, Job, PerClip, differences, joined, make, pooled
from search.fit_width import fit_width
from system.budget import Budget
from system.config import load_yaml
from system.data.folds import DATASETS
from system.errors import ConfigError, guarded
from system.files import read_json, write_json, write_text, write_with
from system.runs import load_experiment
from system.spec import DataSpec, ExperimentSpec

CONFIGS = ROOT / "system" / "configs"
AS_PUBLISHED = "128k_params_30M_macs"
BACKEND = "brevitas"
OURS, SEARCHED = "ours", "searched"
WITH_RESPONSES = ("cp_mobile", OURS, SEARCHED)  # whose recipes convolve recordings with microphone responses


class Rival(NamedTuple):
    label: str
    config: Path  # with {fold} for the test fold, where each has its own

    def of(self, fold: int) -> Path:
        return Path(str(self.config).replace("{fold}", str(fold)))


Plan = dict[str, list[list[Job]]]  # network -> of each fold, a run for each seed


def rivals(budget: str, searched: str | None = None, ours: Path | None = None) -> dict[str, Rival]:
    """What is trained, by its name. `searched`: run folder of a search, with {fold}; `ours`: another configuration."""
    ours = ours or CONFIGS / ("best_128k.yaml" if budget == AS_PUBLISHED else "best_3M.yaml")
    found = {SEARCHED: Rival("searched", Path(searched) / "best" / "config.yaml")} if searched else {}
    return found | {
        "dcase2024_baseline": Rival("DCASE 2024/25 baseline", CONFIGS / "dcase2024_baseline.yaml"),
        "dcase2022_baseline": Rival("DCASE 2022 baseline", CONFIGS / "dcase2022_baseline.yaml"),
        "cp_mobile": Rival("CP-Mobile", CONFIGS / "cp_mobile.yaml"),
        "bc_resnet": Rival("BC-ResNet", CONFIGS / "bc_resnet_3.yaml"),
        "kt_final": Rival("KT final", CONFIGS / "kt_final.yaml"),
        OURS: Rival("ours", ours),
    }


def job(
    name: str, rival: Rival, budget: str, args: argparse.Namespace, fold: int, seed: int, classes: int, root: Path
) -> Job:
    """Raises ConfigError if the design does not fit the budget at any width."""
    spec = load_experiment(rival.of(fold))
    settings: dict[str, Any] = {
        "data.dataset": "csv", "data.root": args.data_root, "data.fold": fold, "data.device_irs": args.device_irs,
        "data.validation_share": 0.0, "train.epochs": args.epochs, "seed": seed, "budget": None,
    }  # fmt: skip
    if name not in (OURS, SEARCHED) and budget != AS_PUBLISHED:
        fitted = fit_width(spec.model, Budget.parse(budget), spec.input_shape(), classes)
        if fitted.spec is None:
            raise ConfigError(f"{rival.label} does not fit {budget}: {fitted.reason}")
        settings["model.width"] = fitted.spec.width
    if name == OURS:
        settings |= dict(pair(text) for text in args.settings)
        settings |= {"distill.teachers": args.teacher} if args.teacher else {}
    if name != OURS and args.recipe == OURS:
        ours = load_experiment(rivals(budget, ours=args.ours)[OURS].config)
        settings = {**recipe(ours, spec.features.n_mels), **settings}
    if args.device_irs and (name in WITH_RESPONSES or args.recipe == OURS):
        settings["augment.impulse_responses"] = args.device_irs
    if args.quant_epochs is not None:
        settings["quant.epochs"] = args.quant_epochs
    network = args.ours.stem if name == OURS and args.ours else name
    folder = root / budget / network / (f"f{fold}-s{seed}" if seed else f"f{fold}")
    return Job(folder, rival.of(fold), settings, None if args.float else BACKEND)


def pair(text: str) -> tuple[str, Any]:
    """Of --set. Raises ConfigError."""
    key, found, value = text.partition("=")
    if not found:
        raise ConfigError(f"--set {text}: expected KEY=VALUE")
    return key, yaml.safe_load(value)


def recipe(ours: ExperimentSpec, bands: int) -> dict[str, Any]:
    """How ours is trained, for a network with so many mel bands; masks hide the same share of them."""
    sections = {"train": ours.train.plain(), "augment": ours.augment.plain(), "quant": ours.quant.plain()}
    sections["augment"]["frequency_mask_bands"] = round(
        ours.augment.frequency_mask_bands * bands / ours.features.n_mels
    )
    return {f"{section}.{key}": value for section, values in sections.items() for key, value in values.items()}


def absent(rival: Rival, folds: Sequence[int], asked: Sequence[str]) -> str | None:
    """Why a network is left out, if it is."""
    if missing := [rival.of(fold) for fold in folds if not rival.of(fold).is_file()]:
        return f"there is no {missing[0]}"
    teachers = (load_yaml(rival.of(folds[0])).get("distill") or {}).get("teachers") or []
    teachers = asked if teachers and asked else teachers
    for fold in folds:
        for teacher in teachers:
            if not Path(teacher.replace("{fold}", str(fold))).expanduser().exists():
                return f"its teacher {teacher} is not trained for fold {fold}"
    return None


def row(label: str, form: str, folds: Sequence[Sequence[Path]], reference: Sequence[Sequence[Path]]) -> dict[str, Any]:
    """One line of the table, of a folder for each seed of each fold."""
    by_fold = [[read_json(folder / "scores.json", "this command") for folder in seeds] for seeds in folds]
    scores = [each for seeds in by_fold for each in seeds]
    costs = [read_json(seeds[0] / "complexity.json", "this command") for seeds in folds]
    mine, theirs = (joined([pooled([PerClip.read(folder / "predictions.csv") for folder in seeds]) for seeds in some])
                    for some in (folds, reference))  # fmt: skip
    groups = {name for each in scores for name in each["device_groups"]}
    return {
        "network": label, "form": form, "folds": len(folds), "seeds": len(folds[0]),
        "params": [cost["params"] for cost in costs], "macs": [cost["macs_exact"] for cost in costs],
        **differences(mine, theirs),
        "clips": len(mine.filename),
        "clip_accuracy": mean([each["clip_accuracy"] for each in scores if "clip_accuracy" in each]),
        "groups": {name: mean([each["device_groups"][name]["accuracy"] for each in scores]) for name in sorted(groups)},
        "by_fold": [
            {key: mean([each[key] for each in seeds]) for key in ("accuracy", "log_loss")} for seeds in by_fold
        ],
    }  # fmt: skip


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def seconds(run: Path) -> float:
    """Of training, with and without quantization."""
    parity, tuned = run / "quant" / BACKEND / "parity.json", {}
    if parity.is_file():
        tuned = read_json(parity, "this command")["validation"].get("trained", {})
    return read_json(run / "best" / "scores.json", "this command")["train_seconds"] + tuned.get("seconds", 0.0)


def planned(
    budget: str, args: argparse.Namespace, folds: Sequence[int], seeds: Sequence[int], classes: int, root: Path
) -> Plan:
    """What cannot be trained is left out and told."""
    known = rivals(budget, args.searched, args.ours)
    names = [name.strip() for name in args.networks.split(",")] if args.networks else list(known)
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(f"--networks: expected some of {', '.join(known)}; found {wrong[0]!r}")
    jobs: Plan = {}
    for name in names:
        if why := absent(known[name], folds, args.teacher):
            print(f"{known[name].label}: left out within {budget}, {why}", file=sys.stderr)
            continue
        jobs[name] = [
            [job(name, known[name], budget, args, fold, seed, classes, root) for seed in seeds] for fold in folds
        ]
    if not jobs:
        raise ConfigError(f"--networks: nothing is left to train within {budget}")
    if args.reference is not None and args.reference not in jobs:
        raise ConfigError(f"--reference: expected one of {', '.join(jobs)}; found {args.reference!r}")
    return jobs


def numbers(text: str) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise argparse.ArgumentTypeError(f"expected different whole numbers by commas, found {text!r}")
    return [int(word) for word in words]


def listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def run(args: argparse.Namespace) -> None:
    root = args.out / f"{Path(args.data_root).name}{'-devices' if args.device_irs else ''}-e{args.epochs}"
    ours = args.ours.stem if args.ours else OURS
    root = root.with_name(f"{root.name}-{ours}-recipe" if args.recipe == OURS else root.name)
    folds, seeds, budgets = args.folds, args.seeds, args.budget.split(",")
    classes = len(DATASETS["csv"](DataSpec(dataset="csv", root=args.data_root, fold=folds[0]), seeds[0]).classes)
    plans = {budget: planned(budget, args, folds, seeds, classes, root) for budget in budgets}
    every = [  # whole folds first, and of each all networks: what is there when it is stopped can be compared
        network[place][turn]
        for plan in plans.values() for turn in range(len(seeds)) for place in range(len(folds))
        for network in plan.values()
    ]  # fmt: skip
    make(every, args.workers, args.device)
    forms = {"float": Path("best")} | ({} if args.float else {"INT8": Path("quant") / BACKEND})
    rows = []
    for budget, plan in plans.items():
        first = plan[args.reference or next(iter(plan))]
        for name, runs in plan.items():
            for form, part in forms.items():
                mine, theirs = ([[each.folder / part for each in fold] for fold in some] for some in (runs, first))
                found = row(rivals(budget, args.searched, args.ours)[name].label, form, mine, theirs)
                found["seconds"] = mean([seconds(each.folder) for fold in runs for each in fold])
                rows.append({"budget": budget, **found})
    table = markdown(rows)
    write_text(root / "accuracy.md", table)
    write_json(root / "accuracy.json", {"epochs": args.epochs, "folds": folds, "seeds": seeds, "rows": rows})
    title = f"{root.name}: {args.epochs} passes over the training part, folds {listed(folds)}, seeds {listed(seeds)}"
    write_with(root / "accuracy.png", lambda path: plot(rows, title, path))
    print(table)
    print(f"{root}/accuracy.md, .json and .png")


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, metavar="DIR", help="a csv folder")
    parser.add_argument("--device-irs", metavar="DIR", help="simulate devices (data.device_irs)")
    parser.add_argument(
        "--budget", default=AS_PUBLISHED, metavar="B", help=f"default: {AS_PUBLISHED}; several by commas"
    )
    parser.add_argument("--teacher", action="append", default=[], metavar="RUN",
                        help="of ours, {fold} for the fold; may be repeated (default: as configured)")  # fmt: skip
    parser.add_argument(
        "--recipe", choices=("own", OURS), default="own", help="by which each is trained (default: its own)"
    )
    parser.add_argument("--networks", metavar="A,B", help="some of them (default: all)")
    parser.add_argument("--searched", metavar="RUN", help="a search, {fold} for the fold that it left out")
    parser.add_argument("--ours", type=Path, metavar="FILE.yaml", help="another configuration in the place of ours")
    parser.add_argument("--float", action="store_true", help="without quantization")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of ours")
    parser.add_argument("--reference", metavar="A", help="what differences are from (default: the first)")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training part (default: 60)")
    parser.add_argument("--quant-epochs", type=int, metavar="N", help="of QAT (default: as each configuration says)")
    parser.add_argument(
        "--folds", type=numbers, default="1,2,3,4,5", metavar="1,2", help="test folds (default: all five)"
    )
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--seeds", type=numbers, default="0", metavar="0,1", help="of trainings, scores are pooled (default: 0)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"), metavar="DIR")
    args = parser.parse_args(argv)
    run(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
