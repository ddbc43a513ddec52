#!/usr/bin/env python3
"""Search a network within a budget and train the winner: python search/run.py --budget 128k_params_30M_macs"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # this clone's own code, from any working directory

from system.errors import BudgetError, RunError, guarded

if TYPE_CHECKING:
    import optuna

    from search.objective import Objective
    from system.budget import Budget
    from system.complexity import Complexity
    from system.spec import ExperimentSpec

TRIALS, EPOCHS = 6, 3
SAME_FAILURES, IDLE_DRAWS = 3, 200
PROBES = 300


def options(argv: list[str]) -> argparse.Namespace:
    from system.options import add_common_options, add_experiment_options

    parser = argparse.ArgumentParser(prog="search/run.py", description=__doc__)
    parser.add_argument("--budget", required=True, metavar="B", help="limits: 128k_params_30M_macs, dcase2022, ...")
    parser.add_argument("--view", choices=("strictest", "exact", "torchinfo"), default="strictest",
                        help="how MACs are counted (default: the largest of the official views)")  # fmt: skip
    parser.add_argument("--trials", type=_count, default=TRIALS, help=f"trials trained, over all restarts ({TRIALS})")
    parser.add_argument("--epochs", type=_count, default=EPOCHS, help=f"epochs of a trial ({EPOCHS})")
    parser.add_argument("--final-epochs", type=_count, help="epochs of the winner's training (the recipe's)")
    parser.add_argument("--storage", metavar="URL", help="database of the study (default: study.db in the run folder)")
    parser.add_argument("--study", default="search", metavar="NAME", help="name of the study in its database")
    parser.add_argument("--run", type=Path, metavar="runs/NAME", help="default: runs/<dataset>-<budget>-s<seed>")
    add_experiment_options(parser)
    add_common_options(parser)
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")
    return int(text)


def main(argv: list[str]) -> None:
    args = options(argv)
    from system.budget import Budget
    from system.options import check_device, experiment

    # everything that can be refused is refused before a run folder exists, and the quick things first
    budget = Budget.parse(args.budget, args.view)
    longer: dict[str, object] = {"epochs": args.final_epochs} if args.final_epochs else {}
    spec = experiment(args, train=longer).changed(budget=args.budget, view=args.view)
    check_device(args.device)
    from optuna.exceptions import StorageInternalError

    from search import space
    from search.fit_width import fit_width
    from search.objective import Objective
    from search.storage import claim, first_line, open_study, reclaim
    from system.dataset import prepare
    from system.runs import check_same, locked, provenance, write_settings

    run: Path = args.run or Path("runs") / f"{spec.data.dataset}-{args.budget}-s{spec.seed}"
    settings = {**spec.plain(), "search": {"epochs": args.epochs, "study": args.study}}
    check_same(run / "config.yaml", settings)
    data = prepare(spec.data, spec.features, spec.seed)
    shape, classes = spec.input_shape(), len(data.classes)
    refuse_impossible(budget, lambda model: fit_width(model, budget, shape, classes))
    if args.storage:
        open_study(args.storage, args.study, spec.seed)

    run.mkdir(parents=True, exist_ok=True)
    with locked(run):
        write_settings(run / "config.yaml", settings, provenance(spec, data.checksum))
        study = open_study(args.storage or f"sqlite:///{run}/study.db", args.study, spec.seed)
        claim(study, {**settings, "data_checksum": data.checksum}, str(run))
        if not study.get_trials(deepcopy=False):
            for design in space.KNOWN_DESIGNS:
                study.enqueue_trial(design)
        elif lost := reclaim(study, str(run.resolve())):
            print(f"continuing; {lost} trial that was running when the last search ended starts again")
        short = spec.changed(train=spec.train.changed(epochs=args.epochs).plain())
        try:
            run_trials(study, Objective(short, budget, data, args.device), args.trials, run, budget)
        except StorageInternalError as error:
            raise RunError(
                f"the study's database went away ({first_line(error)}); the same command continues"
            ) from None
        finish(study, spec, data, run, budget, args.device)


def refuse_impossible(budget: Budget, fit: Any) -> None:
    """Raises BudgetError with the smallest network's cost if nothing of the space fits the budget."""
    import optuna

    from search import space

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    probe = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    limits = budget.limits()

    def share(cost: Complexity) -> float:
        """The largest excess as a multiple of its limit."""
        return max(amount / limits[quantity] for quantity, amount in budget.excess(cost.totals()).items())

    smallest: Complexity | None = None
    for _ in range(PROBES):
        fitted = fit(space.spec_of(space.suggest(probe.ask())))
        if fitted.spec is not None:
            return
        if fitted.cost is not None and (smallest is None or share(fitted.cost) < share(smallest)):
            smallest = fitted.cost
    if smallest is None:
        raise BudgetError(f"no network of the search space fits the input: {fitted.reason}")
    over = ", ".join(f"{q} by {amount:,}" for q, amount in budget.excess(smallest.totals()).items())
    raise BudgetError(
        f"nothing fits the budget {budget.text}: the smallest of {PROBES} sampled networks has {smallest.params:,} "
        f"parameters, {smallest.total_bytes:,} bytes and {smallest.macs:,} MACs, over the limit of {over}"
    )


def run_trials(study: optuna.Study, objective: Objective, wanted: int, run: Path, budget: Budget) -> None:
    """Ask, train, tell until `wanted` trials are trained; search.json is up to date after each."""
    from optuna.trial import TrialState

    from search import storage
    from search.report import write_search

    failures: list[str] = []
    idle, started, trained_here = 0, time.monotonic(), 0
    while (trained := sum(map(storage.was_trained, study.get_trials(deepcopy=False)))) < wanted:
        study.sampler = storage.sampler(objective.experiment.seed, len(study.get_trials(deepcopy=False)))
        trial = study.ask()
        trial.set_user_attr(storage.RUN, str(run.resolve()))
        state = objective.run(study, trial)
        record = storage.record_of(study.get_trials(deepcopy=False)[trial.number])
        if record["seconds"] is None:
            idle += 1
            if idle >= IDLE_DRAWS:
                print(f"{idle} draws in a row were infeasible or known; the space holds no more for this budget")
                break
            continue
        idle = 0
        trained_here += 1
        best = write_search(run, study, budget)
        rate = (time.monotonic() - started) / trained_here
        left = (wanted - trained - 1) * rate
        print(describe(record, best, trained + 1, wanted, left), flush=True)
        failures = [*failures, record["reason"]] if state == TrialState.FAIL else []
        if len(failures) >= SAME_FAILURES and len(set(failures[-SAME_FAILURES:])) == 1:
            raise RunError(f"{SAME_FAILURES} trials in a row failed alike ({failures[-1]}); see {run}/search.json")
    if write_search(run, study, budget) is None:
        raise RunError(f"no trial of {run} finished; see the reasons in {run}/search.json, or allow more --trials")


def describe(record: dict[str, Any], best: dict[str, Any] | None, count: int, wanted: int, left: float) -> str:
    """One line per trial."""
    model = record["spec"]
    text = (
        f"trial {record['number']} ({count} of {wanted}) {record['state'].lower()}: "
        f"{model['block']}, {model['activation']}, {model['norm']}, {model['pooling']}, {model['downsampling']}, "
        f"width {model['width']}, {record['params']:,} params, {record['macs'] / 1e6:.2f} MMACs"
    )
    if record["log_loss"] is not None:
        text += f", log loss {record['log_loss']:.4f}, accuracy {record['accuracy']:.3f}"
    text += f", {record['seconds']:.0f} s"
    if "reason" in record:
        text += f" ({record['reason']})"
    if best is not None:
        text += f"; best so far #{best['number']} {best['log_loss']:.4f}; about {left:.0f} s of trials left"
    return text


def finish(study: optuna.Study, spec: ExperimentSpec, data: Any, run: Path, budget: Budget, device: str) -> None:
    """Pictures, and the winner's long training into best/."""
    from search.report import best_of, plot_pareto
    from search.storage import record_of
    from system.experiment import show_scores, train_and_report
    from system.runs import load_experiment, provenance, write_settings

    trials = [record_of(trial) for trial in study.get_trials(deepcopy=False)]
    plot_pareto(run / "pareto.png", trials, budget)
    winner = best_of(trials)
    assert winner is not None
    final = spec.changed(model=winner["spec"])
    best = run / "best"
    if (best / "config.yaml").is_file() and load_experiment(best / "config.yaml").model != final.model:
        print(f"trial {winner['number']} beats the network in {best}: that one goes, with what was made of it")
        for part in ("best", "quant", "refit", "submission"):
            shutil.rmtree(run / part, ignore_errors=True)
    if (best / "scores.json").is_file():
        print(f"{best} is finished; nothing to do")
        return
    print(f"training the winner, trial {winner['number']}, for {spec.train.epochs} epochs")
    best.mkdir(parents=True, exist_ok=True)
    write_settings(best / "config.yaml", final.plain(), provenance(final, data.checksum))
    show_scores(train_and_report(final, data, best, device), f"{best} (float, test fold)")


if __name__ == "__main__":
    sys.exit(guarded(main))
