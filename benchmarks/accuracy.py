#!/usr/bin/env python3
"""The challenge's networks and ours, trained side by side: accuracy against MACs, float and INT8.

    D=../shared/data
    python benchmarks/accuracy.py --data-root $D/esc10_32k --device-irs $D/micirp --folds 1
    python benchmarks/accuracy.py --data-root $D/esc10_32k --device-irs $D/micirp --budget 3M_macs,128k_params_30M_macs
    python benchmarks/accuracy.py --data-root $D/speech_commands_6w_16k --budget 3M_macs

Every network is trained by the recipe of its own configuration, or all by ours (--recipe ours: what is left is the
network and its front end), on the same recordings and with the same number of passes over them (--epochs), and
quantized by quant/run.py qat. Within 128k_params_30M_macs, networks are as published; for another budget their width is
solved. Ours is system/configs/best_128k.yaml, else best_3M.yaml; both were found with fold 1 of ESC-10 held out
(README, Results). With --searched runs/search/f{fold} a network `searched` joins them, of each fold the one that
search/run.py found there without that fold, for instance by --budget 128k_params_30M_macs --space
search/spaces/integer_given_front_end.yaml --config system/configs/best_128k.yaml --set data.fold=1. Where a teacher
that ours names, or --teacher, is not trained, ours is left out and that is said.

All is trained on the whole training fold, no validation part is split off: nothing is chosen here, and temperatures are
1 but for what --set temperature=T says of ours.

Runs are folders under --out, by data set, epochs and budget, and the same command goes on where it stopped. The test
fold of a run is read once, when it is trained. Intervals and differences are a bootstrap over clips, paired with
--reference of the same budget and form. accuracy.md, .json and .png are written beside the runs.
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
from benchmarks.side_by_side import ROOT, Job, PerClip, differences, joined, make
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


Plan = dict[str, list[Job]]


def rivals(budget: str, searched: str | None = None) -> dict[str, Rival]:
    """What is trained, by the name of its folder. `searched`: run folder of a search, with {fold}."""
    ours = "best_128k.yaml" if budget == AS_PUBLISHED else "best_3M.yaml"
    found = {SEARCHED: Rival("searched", Path(searched) / "best" / "config.yaml")} if searched else {}
    return found | {
        "dcase2024_baseline": Rival("DCASE 2024/25 baseline", CONFIGS / "dcase2024_baseline.yaml"),
        "dcase2022_baseline": Rival("DCASE 2022 baseline", CONFIGS / "dcase2022_baseline.yaml"),
        "cp_mobile": Rival("CP-Mobile", CONFIGS / "cp_mobile.yaml"),
        "bc_resnet": Rival("BC-ResNet", CONFIGS / "bc_resnet_3.yaml"),
        "kt_final": Rival("KT final", CONFIGS / "kt_final.yaml"),
        OURS: Rival("ours", CONFIGS / ours),
    }


def job(name: str, rival: Rival, budget: str, args: argparse.Namespace, fold: int, classes: int, root: Path) -> Job:
    """Raises ConfigError if the design does not fit the budget at any width."""
    spec = load_experiment(rival.of(fold))
    settings: dict[str, Any] = {
        "data.dataset": "csv", "data.root": args.data_root, "data.fold": fold, "data.device_irs": args.device_irs,
        "data.validation_share": 0.0, "train.epochs": args.epochs, "seed": args.seed, "budget": None,
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
        settings = {**recipe(load_experiment(rivals(budget)[OURS].config), spec.features.n_mels), **settings}
    if args.device_irs and (name in WITH_RESPONSES or args.recipe == OURS):
        settings["augment.impulse_responses"] = args.device_irs
    if args.quant_epochs is not None:
        settings["quant.epochs"] = args.quant_epochs
    return Job(root / budget / name / f"f{fold}", rival.of(fold), settings, None if args.float else BACKEND)


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


def row(label: str, form: str, folders: Sequence[Path], reference: Sequence[Path]) -> dict[str, Any]:
    """One line of the table. All folders, one for each fold, hold scores.json, predictions.csv and complexity.json."""
    scores = [read_json(folder / "scores.json", "this command") for folder in folders]
    costs = [read_json(folder / "complexity.json", "this command") for folder in folders]
    mine, theirs = (joined([PerClip.read(folder / "predictions.csv") for folder in some])
                    for some in (folders, reference))  # fmt: skip
    groups = {name for each in scores for name in each["device_groups"]}
    return {
        "network": label, "form": form, "folds": len(folders),
        "params": [cost["params"] for cost in costs], "macs": [cost["macs_exact"] for cost in costs],
        **differences(mine, theirs),
        "clips": len(mine.filename),
        "clip_accuracy": mean([each["clip_accuracy"] for each in scores if "clip_accuracy" in each]),
        "groups": {name: mean([each["device_groups"][name]["accuracy"] for each in scores]) for name in sorted(groups)},
        "by_fold": [{key: each[key] for key in ("accuracy", "log_loss")} for each in scores],
    }  # fmt: skip


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def seconds(run: Path) -> float:
    """Of training, with and without quantization."""
    parity, tuned = run / "quant" / BACKEND / "parity.json", {}
    if parity.is_file():
        tuned = read_json(parity, "this command")["validation"].get("trained", {})
    return read_json(run / "best" / "scores.json", "this command")["train_seconds"] + tuned.get("seconds", 0.0)


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    groups = sorted({name for row in rows for name in row["groups"]})
    lines = [
        "| network | form | parameters | MMACs | accuracy [95 %] | less the reference's | log loss [95 %] "
        "| less the reference's | clip accuracy | " + " | ".join(groups) + " | seconds a fold |",
        "|---|---|---:|---:|---|---|---|---|---:|" + "---:|" * (len(groups) + 1),
    ]
    for one in rows:
        millions = [macs / 1e6 for macs in one["macs"]]
        cells = [one["network"], one["form"], _range(one["params"], "{:,}"), _range(millions, "{:.2f}")]
        for key in ("accuracy", "log_loss"):
            (low, high), (least, most) = one[key]["interval"], one[key]["difference_interval"]
            cells.append(f"{one[key]['value']:.3f} [{low:.3f}, {high:.3f}]")
            cells.append(f"{one[key]['difference']:+.3f} [{least:+.3f}, {most:+.3f}]")
        cells += [_number(one["clip_accuracy"]), *(_number(one["groups"].get(name)) for name in groups)]
        lines.append("| " + " | ".join([*cells, f"{one['seconds']:.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _range(values: Sequence[float], form: str) -> str:
    """One number, or the least and the most of networks that were searched in each fold."""
    return " to ".join(form.format(value) for value in sorted({min(values), max(values)}))


def plot(rows: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Accuracy against MACs; hollow float, filled INT8, bars the bootstrap over clips."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    names, named = list(dict.fromkeys(one["network"] for one in rows)), set[str]()
    for one in rows:
        number, value = names.index(one["network"]), one["accuracy"]["value"]
        low, high = one["accuracy"]["interval"]
        integer = one["form"] == "INT8"
        aside = number - (len(names) - 1) / 2 + (0.2 if integer else -0.2)  # or equal costs would hide each other
        x = max(one["macs"]) / 1e6 * 1.02**aside
        axes.errorbar(x, value, [[value - low], [high - value]], marker="o", color=f"C{number}", capsize=2,
                      markerfacecolor=f"C{number}" if integer else "none",
                      label=None if one["network"] in named else one["network"])  # fmt: skip
        named.add(one["network"])
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(StrMethodFormatter("{x:g}"))
    low, high = (pick(max(one["macs"]) for one in rows) / 1e6 for pick in (min, max))
    axes.set_xlim(low / 1.2, high * 1.2)
    axes.set_xlabel("million MACs, deployed, moved aside by a few per cent (hollow: float, filled: INT8)")
    axes.set_ylabel("macro accuracy of segments")
    axes.set_title(title, fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=130)


def planned(budget: str, args: argparse.Namespace, folds: Sequence[int], classes: int, root: Path) -> Plan:
    """Network -> its runs, one for each fold; what cannot be trained is left out and told."""
    known = rivals(budget, args.searched)
    names = [name.strip() for name in args.networks.split(",")] if args.networks else list(known)
    if wrong := [name for name in names if name not in known]:
        raise ConfigError(f"--networks: expected some of {', '.join(known)}; found {wrong[0]!r}")
    jobs: Plan = {}
    for name in names:
        if why := absent(known[name], folds, args.teacher):
            print(f"{known[name].label}: left out within {budget}, {why}", file=sys.stderr)
            continue
        jobs[name] = [job(name, known[name], budget, args, fold, classes, root) for fold in folds]
    if not jobs:
        raise ConfigError(f"--networks: nothing is left to train within {budget}")
    if args.reference is not None and args.reference not in jobs:
        raise ConfigError(f"--reference: expected one of {', '.join(jobs)}; found {args.reference!r}")
    return jobs


def run(args: argparse.Namespace) -> None:
    root = args.out / f"{Path(args.data_root).name}{'-devices' if args.device_irs else ''}-e{args.epochs}"
    root = root.with_name(f"{root.name}-{args.recipe}-recipe" if args.recipe == OURS else root.name)
    folds, budgets = [int(word) for word in args.folds.split(",")], args.budget.split(",")
    classes = len(DATASETS["csv"](DataSpec(dataset="csv", root=args.data_root, fold=folds[0]), args.seed).classes)
    plans = {budget: planned(budget, args, folds, classes, root) for budget in budgets}
    every = [each for plan in plans.values() for fold in zip(*plan.values(), strict=True) for each in fold]
    make(every, args.workers, args.device)
    forms = {"float": Path("best")} | ({} if args.float else {"INT8": Path("quant") / BACKEND})
    rows = []
    for budget, plan in plans.items():
        first = plan[args.reference or next(iter(plan))]
        for name, runs in plan.items():
            for form, part in forms.items():
                mine, theirs = ([each.folder / part for each in some] for some in (runs, first))
                found = row(rivals(budget, args.searched)[name].label, form, mine, theirs)
                rows.append({"budget": budget, **found, "seconds": mean([seconds(each.folder) for each in runs])})
    table = markdown(rows)
    write_text(root / "accuracy.md", table)
    write_json(root / "accuracy.json", {"epochs": args.epochs, "folds": folds, "rows": rows})
    title = f"{root.name}: {args.epochs} passes over the training part, folds {args.folds}"
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
    parser.add_argument("--float", action="store_true", help="without quantization")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of ours")
    parser.add_argument("--reference", metavar="A", help="what differences are from (default: the first)")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training part (default: 60)")
    parser.add_argument("--quant-epochs", type=int, metavar="N", help="of QAT (default: as each configuration says)")
    parser.add_argument("--folds", default="1,2,3,4,5", metavar="1,2", help="test folds (default: all five)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, which share the cores")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"), metavar="DIR")
    args = parser.parse_args(argv)
    run(args)


if __name__ == "__main__":
    sys.exit(guarded(main))
