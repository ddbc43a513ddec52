"""From a specification to a finished `best/` folder: what search's winner and `train` both write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from system.budget import Budget
from system.checkpoint import Checkpoint, save_checkpoint
from system.dataset import PreparedData, Segments
from system.evaluation import Predictions, plot_confusion, probabilities_of, score
from system.files import write_csv, write_json, write_with
from system.models.network import complexity
from system.runs import provenance, write_settings
from system.spec import ExperimentSpec
from system.training import Epoch, Trained, fit, logits_of

RESUME_FILE = ".training.ckpt"


def predictions_of(data: PreparedData, part: Segments, logits: np.ndarray) -> Predictions:
    """Logits of a part, in its order, as predictions that can be scored and written."""
    return Predictions(
        classes=data.classes,
        filename=part.filename,
        segment=part.segment,
        device=part.device,
        label=tuple(data.classes[index] for index in part.label),
        source=part.source,
        probabilities=probabilities_of(logits),
    )


def budget_of(spec: ExperimentSpec) -> Budget | None:
    """The experiment's limits. Raises BudgetError."""
    return Budget.parse(spec.budget, spec.view) if spec.budget else None


def complexity_report(spec: ExperimentSpec, classes: int) -> dict[str, Any]:
    """complexity.json of the deploy form as the specification has it, by arithmetic.

    `params_nonzero` is not known before training: every parameter is taken as used.
    """
    cost = complexity(spec.model, spec.input_shape(), classes)
    totals = cost.totals()
    report: dict[str, Any] = {**totals, "params_nonzero": totals["params"], "form": "deploy", "weight_bits": 8}
    budget = budget_of(spec)
    report["budget"] = budget.summary() if budget else {}
    report["within_budget"] = budget is None or not budget.excess(totals)
    report["layers"] = cost.rows()
    return report


def train_and_report(
    spec: ExperimentSpec, data: PreparedData, best: Path, device: str = "auto", resume: bool = True
) -> dict[str, Any]:
    """Train, then write config.yaml, model.safetensors, history.csv, predictions.csv, scores.json, complexity.json.

    The test fold is predicted once, here, when training is over. Returns the scores.
    """
    if budget := budget_of(spec):
        budget.check(complexity_report(spec, len(data.classes)), f"the model of {best.parent}")
    resume_file = best / RESUME_FILE
    trained = fit(spec, data, device=device, what="training", resume_file=resume_file if resume else None)
    scores = report_trained(spec, data, trained, best)
    resume_file.unlink(missing_ok=True)
    return scores


def report_trained(spec: ExperimentSpec, data: PreparedData, trained: Trained, best: Path) -> dict[str, Any]:
    """Write the `best/` folder of a trained network; returns scores.json of the test fold."""
    best.mkdir(parents=True, exist_ok=True)
    write_settings(best / "config.yaml", spec.plain(), provenance(spec, data.checksum))
    save_checkpoint(
        best / "model.safetensors",
        Checkpoint(spec, data.classes, trained.mean, trained.std, trained.network.state_dict()),
    )
    write_csv(best / "history.csv", Epoch._fields, trained.history)
    write_json(best / "complexity.json", complexity_report(spec, len(data.classes)))
    logits = logits_of(trained.network, data.test, trained.mean, trained.std)
    scores = write_scores(best, data, logits, spec.seed)
    scores["validation"] = {
        "log_loss": trained.last.log_loss,
        "accuracy": trained.last.accuracy,
        "epoch": trained.last.epoch,
        "n": len(data.validation),
    }
    scores["train_seconds"] = sum(row.seconds for row in trained.history)
    write_json(best / "scores.json", scores)
    return scores


def write_scores(folder: Path, data: PreparedData, logits: np.ndarray, seed: int) -> dict[str, Any]:
    """predictions.csv, scores.json and confusion.png of the test fold; returns the scores."""
    predictions = predictions_of(data, data.test, logits)
    predictions.write_csv(folder / "predictions.csv")
    scores = score(predictions, "test", data.device_groups, seed)
    write_with(folder / "confusion.png", lambda path: plot_confusion(scores, path))
    write_json(folder / "scores.json", scores)
    return scores


def show_scores(scores: dict[str, Any], what: str) -> None:
    """Two or three lines for a person; the files hold the rest."""
    low, high = scores["interval"]["accuracy"]
    text = f"{what}: accuracy {scores['accuracy']:.4f} [{low:.4f}, {high:.4f}], log loss {scores['log_loss']:.4f}"
    if "clip_accuracy" in scores:
        text += f", clip accuracy {scores['clip_accuracy']:.4f}"
    print(text)
    for group, values in scores["device_groups"].items():
        numbers = f"accuracy {values['accuracy']:.4f}, log loss {values['log_loss']:.4f}, n {values['n']}"
        print(f"  {group} devices: {numbers}")
