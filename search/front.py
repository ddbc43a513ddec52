"""What a search over several budgets at once leaves for people: one front of loss, MACs and parameters, no winner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from search.objective import experiment_of
from search.pareto_plots import plot_front
from search.report import Record, pareto_of
from system.budget import Budget
from system.config import load_yaml
from system.files import write_yaml
from system.spec import ExperimentSpec
from system.text import aligned

FOLDER = "front"  # in the run folder: an experiment for each network of the front


def write_front(run: Path, trials: Sequence[Record], budgets: Sequence[Budget], spec: ExperimentSpec) -> list[Path]:
    """pareto.png, and an experiment of each network of the front, which system/run.py trains; their paths.

    `spec` is the long training, of whatever network. Experiments of networks that are no longer on the front go.
    """
    plot_front(run / "pareto.png", trials, budgets)
    made_with = load_yaml(run / "config.yaml").get("provenance")
    paths = []
    for trial in pareto_of(trials):
        paths.append(run / FOLDER / f"{trial['budget']}-trial{trial['number']}.yaml")
        final = experiment_of(spec, trial).changed(budget=trial["budget"])
        write_yaml(paths[-1], {**final.plain(), "provenance": made_with})
    for path in set((run / FOLDER).glob("*.yaml")) - set(paths):
        path.unlink()
    return paths


def told(trials: Sequence[Record], paths: Sequence[Path]) -> str:
    """The front as a table, one line per network, and how to train one."""
    front = pareto_of(trials)
    lines: list[tuple[str, ...]] = [("budget", "trial", "parameters", "MMACs", "validation log loss", "experiment")]
    for trial, path in zip(front, paths, strict=True):
        lines.append((
            trial["budget"], str(trial["number"]), f"{trial['params']:,}", f"{trial['macs'] / 1e6:.3f}",
            f"{trial['log_loss']:.4f}", str(path),
        ))  # fmt: skip
    _, best = min((trial["log_loss"], path) for trial, path in zip(front, paths, strict=True))
    return (
        f"{aligned(lines, numbers=True)}\n\n"
        "None of them is trained further. To train one, here that of the lowest loss:\n"
        f"python system/run.py train --config {best} --run runs/{best.stem}"
    )
