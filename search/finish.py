"""What follows the trials: the winner's long training into best/, or of several budgets their front; and the pages."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from search.finalists import race, scorer
from search.finalists import winner as winner_of
from search.front import told, write_front
from search.objective import data_of, experiment_of
from search.pareto_plots import plot_pareto
from search.report_page import write_report
from search.storage import record_of, trials_of
from search.worker import Plan
from system.dataset import PreparedData
from system.errors import RunError
from system.experiment import show_scores, train_and_report
from system.runs import load_experiment, provenance, write_settings
from system.spec import ExperimentSpec


def refuse_other_winner(run: Path, epochs: int, finalists: int) -> None:
    """How the winner is found and trained binds no trial, but one that is there does not go for want of an option."""
    best = run / "best"
    if not (best / "config.yaml").is_file():
        return
    if (there := load_experiment(best / "config.yaml").train.epochs) != epochs:
        raise RunError(
            f"{best}: trained for {there} epochs, {epochs} asked for; give --final-epochs {there}, or remove the folder"
        )
    if (raced := len(race(run))) > finalists:
        raise RunError(
            f"{best}: won a race of {raced}, {finalists} asked for; give --finalists {raced}, or remove the folder"
        )


def finish(plan: Plan, spec: ExperimentSpec, data: PreparedData, finalists: int) -> None:
    """Pictures, and the winner's long training into best/."""
    run = plan.run
    trials = [record_of(trial) for trial in trials_of(plan.open())]
    plot_pareto(run / "pareto.png", trials, plan.budgets[0])
    write_report(run, plan.open(), spec, len(data.classes), plan.budgets)
    score = scorer(lambda experiment: data_of(experiment, spec, data), plan.device, plan.int8)
    winner = winner_of(run, trials, finalists, spec, score)
    final = experiment_of(spec, winner)
    best = run / "best"
    if (best / "config.yaml").is_file() and _network(load_experiment(best / "config.yaml")) != _network(final):
        print(f"trial {winner['number']} beats the network in {best}: that one goes, with what was made of it")
        for part in ("best", "quant", "refit", "devices", "submission"):
            shutil.rmtree(run / part, ignore_errors=True)
    if (best / "scores.json").is_file():
        print(f"{best} is finished; nothing to do")
        return
    print(f"training the winner, trial {winner['number']}, for {spec.train.epochs} epochs")
    best.mkdir(parents=True, exist_ok=True)
    write_settings(best / "config.yaml", final.plain(), provenance(final, data.checksum))
    scores = train_and_report(final, data_of(final, spec, data), best, plan.device)
    show_scores(scores, f"{best} (float, test fold)")
    validation = scores["validation"]
    print(f"  beside it, on the validation part, which chose it: accuracy {validation['accuracy']:.4f}, log loss "
          f"{validation['log_loss']:.4f}")  # fmt: skip
    write_report(run, plan.open(), spec, len(data.classes), plan.budgets)


def _network(spec: ExperimentSpec) -> tuple[Any, ...]:
    """What a trial chose."""
    return spec.model, spec.features, spec.quant


def finish_front(plan: Plan, spec: ExperimentSpec, data: PreparedData) -> None:
    """Pictures and the front in a table, with an experiment of each of its networks to train."""
    trials = [record_of(trial) for trial in trials_of(plan.open())]
    paths = write_front(plan.run, trials, plan.budgets, spec)
    write_report(plan.run, plan.open(), spec, len(data.classes), plan.budgets)
    print(told(trials, paths))
