#!/usr/bin/env python3
"""Search a network within a budget and train the winner: python search/run.py --budget 128k_params_30M_macs

Or search what each of several budgets buys: python search/run.py --front 8k_params_1M_macs,32k_params_3M_macs
"""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import ConfigError, RunError, guarded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from search.impossible import Fit
    from search.space import Space
    from search.worker import Plan
    from system.budget import Budget
    from system.spec import ExperimentSpec

TRIALS, EPOCHS = 5, 2  # make search: ten minutes at most on two cores


def options(argv: list[str]) -> argparse.Namespace:
    from system.options import add_common_options, add_experiment_options

    parser = argparse.ArgumentParser(prog="search/run.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    within = parser.add_mutually_exclusive_group(required=True)
    within.add_argument("--budget", metavar="B", help="limits: 128k_params_30M_macs, dcase2022, ...")
    within.add_argument("--front", metavar="B,B,...", help="one study of several budgets, which share the trials: the "
                        "front of loss, MACs and parameters; no winner is trained")  # fmt: skip
    parser.add_argument("--view", choices=("strictest", "exact", "torchinfo"), default="strictest",
                        help="how MACs are counted (default: the largest of the official views)")  # fmt: skip
    parser.add_argument("--trials", type=_count, default=TRIALS, metavar="N",
                        help=f"trials trained, over all restarts (default: {TRIALS})")  # fmt: skip
    parser.add_argument("--epochs", type=_count, default=EPOCHS, metavar="N",
                        help=f"epochs of a trial that is not stopped early (default: {EPOCHS})")  # fmt: skip
    parser.add_argument("--final-epochs", type=_count, metavar="N",
                        help="epochs of the winner's training (default: train.epochs)")  # fmt: skip
    parser.add_argument("--objective", choices=("float", "int8"), default="float",
                        help="score trials as float networks (default), or after calibration to INT8")  # fmt: skip
    parser.add_argument("--finalists", type=_count, default=1, metavar="N",
                        help="train the best N again before one of them wins, as long as the winner, with new "
                        "seeds and validation parts (default: 1, which does not)")  # fmt: skip
    parser.add_argument("--space", type=Path, metavar="FILE.yaml", help="narrow the search space: a mapping from "
                        "row of search/space.py to a list of its values")  # fmt: skip
    parser.add_argument("--dry-run", type=_count, nargs="?", const=10, metavar="N", help="print N candidates (default: "
                        "10) with their cost and what the budget buys; train nothing")  # fmt: skip
    parser.add_argument("--explain", action=_Explain, type=Path, metavar="runs/NAME", help="say in words how the "
                        "network of a run differs from KT's final one, and end")  # fmt: skip
    parser.add_argument("--workers", type=_count, default=1, metavar="N", help="processes, which share the cores "
                        "(default: 1)")  # fmt: skip
    parser.add_argument("--storage", metavar="URL", help="where the study is, for machines to share (default: study.db "
                        "in the run folder)")  # fmt: skip
    parser.add_argument("--study", default="search", metavar="NAME", help="name of the study in its storage "
                        "(default: search)")  # fmt: skip
    parser.add_argument("--reclaim", action="store_true", help="no other machine works on this study: take its trials "
                        "that other machines began")  # fmt: skip
    parser.add_argument(
        "--run", type=Path, metavar="runs/NAME", help="default: runs/<dataset>-<budget or front>-s<seed>"
    )
    add_experiment_options(parser)
    add_common_options(parser)
    return parser.parse_args(argv)


class _Explain(argparse.Action):
    """Like --help: says it and ends, whatever else is given."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, run: Any, option: str | None = None) -> None:
        from search.explain import explain

        print(explain(run))
        parser.exit()


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def main(argv: list[str]) -> None:
    args = options(argv)
    from search.levels import read_levels
    from system.budget import Budget
    from system.options import check_device, experiment, needs_validation

    # everything that can be refused is refused before a run folder exists, and the quick things first
    budgets = (Budget.parse(args.budget, args.view),) if args.front is None else read_levels(args.front, args.view)
    if args.front is not None and args.finalists > 1:
        raise ConfigError(f"--finalists {args.finalists}: a --front has no winner for them to become; expected 1")
    longer: dict[str, object] = {"epochs": args.final_epochs} if args.final_epochs else {}
    spec = experiment(args, train=longer).changed(budget=args.budget, view=args.view)
    needs_validation(spec, "a search")
    if spec.init.run is not None:
        raise ConfigError(f"init.run: a search draws other networks than {spec.init.run} holds; expected none")
    device = check_device(args.device)
    from search import space
    from search.dry_run import dry_run
    from search.finish import finish, finish_front, refuse_other_winner
    from search.fit_choices import fit_choices
    from search.impossible import refuse_impossible
    from search.storage import bind
    from search.worker import Plan
    from system.dataset import classes_of, prepare
    from system.learning.teachers import check_other_seeds, teachers_of
    from system.runs import check_same, locked, provenance, write_settings

    rows = space.read_space(args.space)
    if args.objective == "float" and any(row.name == "weight_bits" for row in rows):
        raise ConfigError(f"{args.space}: weight_bits needs --objective int8: a float score knows nothing of bits")
    run: Path = args.run or Path("runs") / f"{spec.data.dataset}-{args.budget or 'front'}-s{spec.seed}"
    # the winner may be trained longer later: its length binds no trial
    short = spec.changed(train=spec.train.changed(epochs=args.epochs).plain())
    asked = asked_of(args, rows, budgets)
    settings = {**short.plain(), "search": asked}
    check_same(run / "config.yaml", settings)
    refuse_other_winner(run, spec.train.epochs, args.finalists)
    every = space.with_levels(rows, [budget.text for budget in budgets])
    levels = [(budget, space.within(every, budget.text)) for budget in budgets]

    def refuse(classes: int) -> Fit:
        fit = partial(fit_choices, experiment=short, budgets=budgets, classes=classes)
        for budget, narrowed in levels:
            refuse_impossible(budget, narrowed, fit)
        return fit

    refuse(1)  # the fewest there can be, before anything is read
    if args.dry_run:
        fit = refuse(len(classes_of(spec.data, spec.seed)))
        for place, (budget, narrowed) in enumerate(levels):
            print(end="\n" if place else "")
            dry_run(args.dry_run, budget, narrowed, fit, spec.seed)
        return
    data = prepare(spec.data, spec.features, spec.seed)
    refuse(len(data.classes))
    plan = Plan(
        experiment=short, budgets=budgets, space=rows, int8=args.objective == "int8", trials=args.trials, run=run,
        url=args.storage or f"sqlite:///{run.resolve()}/study.db", study=args.study, reclaim=args.reclaim,
        device=args.device,
    )  # fmt: skip
    teachers_of(spec, data, device)  # they answer now, into the cache
    if args.finalists > 1:
        check_other_seeds(spec, data)
    if args.storage:
        plan.open()

    run.mkdir(parents=True, exist_ok=True)
    with locked(run):
        made_with = provenance(short, data.checksum)
        write_settings(run / "config.yaml", settings, made_with)
        bind(plan.open(), study_settings(short, asked, space.plain(rows), data.checksum), made_with, str(run))
        try:
            search(plan, args.workers, data)
            if args.front is None:
                finish(plan, spec, data, args.finalists)
            else:
                finish_front(plan, spec, data)
        except KeyboardInterrupt:
            print(f"\nto continue: python search/run.py {shlex.join(argv)}", file=sys.stderr)
            raise


def asked_of(args: argparse.Namespace, rows: Space, budgets: Sequence[Budget]) -> dict[str, object]:
    """What makes it another search, besides the experiment; what is usual is left out."""
    from search import space

    asked: dict[str, object] = {"study": args.study}
    asked |= {"objective": args.objective} if args.objective != "float" else {}
    asked |= {"space": space.plain(rows)} if rows != space.DEFAULT else {}
    return asked | ({"front": [budget.text for budget in budgets]} if args.front is not None else {})


def study_settings(
    spec: ExperimentSpec, asked: dict[str, object], rows: dict[str, Any], checksum: str
) -> dict[str, Any]:
    """What all that join a study must agree on. Where the data lies is each machine's own affair."""
    plain = spec.plain()
    data = plain["data"]
    plain["data"] = {
        **data, "root": None, "train_list": data["train_list"] and True, "device_irs": data["device_irs"] is not None,
    }  # fmt: skip
    plain["augment"]["impulse_responses"] = plain["augment"]["impulse_responses"] is not None
    return {**plain, "search": {**asked, "space": rows}, "data_checksum": checksum}


def search(plan: Plan, workers: int, data: Any) -> None:
    """Train until the plan's trials are trained, in this process or by several; a table shows it on a terminal."""
    from search.live import on_terminal, table
    from search.report import write_search
    from search.storage import trials_of, was_trained
    from search.worker import work
    from system.workers import WorkerDied, run_team

    live = on_terminal()
    plan = replace(plan, quiet=live)
    with table(plan) if live else nullcontext():
        if workers == 1:
            work(plan, 0, data)
        else:
            try:
                run_team(work, [(plan, index) for index in range(workers)], lambda: None)
            except WorkerDied:  # the others have trained what it left, unless all died
                if sum(map(was_trained, trials_of(plan.open()))) < plan.trials:
                    raise
    if write_search(plan.run, plan.open(), plan.budgets) is None:
        raise RunError(
            f"no trial of {plan.run} finished; see the reasons in {plan.run}/search.json, or allow more --trials"
        )


if __name__ == "__main__":
    sys.exit(guarded(main))
