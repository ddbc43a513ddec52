"""From a specification to a finished `best/` folder: what search's winner and `train` both write."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from system.budget import Budget
from system.checkpoint import Checkpoint, save_checkpoint
from system.dataset import PreparedData, Segments
from system.files import write_csv, write_json, write_with
from system.learning.layout import torch_device
from system.learning.loop import Epoch
from system.learning.pretrained import frozen_parts, other_validation, take_weights
from system.learning.teachers import teachers_of
from system.models.network import build, complexity
from system.models.receptive_field import receptive_field
from system.processes import is_first
from system.runs import provenance, write_settings
from system.scoring.confusion import plot_confusion
from system.scoring.events import EventPredictions, choose_decoding, event_probabilities, have_times, score_events
from system.scoring.predictions import PROBABILITY_FLOOR, Predictions, probabilities_of
from system.scoring.scenes import score
from system.scoring.temperature import fit_temperature, losses
from system.spec import ExperimentSpec
from system.training import Trained, fit, logits_of

RESUME_FILE = ".training.ckpt"


def predictions_of(data: PreparedData, part: Segments, logits: np.ndarray, temperature: float) -> Predictions:
    """Logits of a part, in its order, as predictions that can be scored and written."""
    return Predictions(
        classes=data.classes,
        filename=part.filename,
        segment=part.segment,
        device=part.device,
        label=tuple(data.classes[index] for index in part.label),
        source=part.source,
        probabilities=probabilities_of(logits, temperature),
    )


def event_predictions_of(data: PreparedData, part: Segments, logits: np.ndarray) -> EventPredictions:
    """Logits of a part, in its order, as predictions of several classes each, decided at 0.5."""
    return EventPredictions(
        classes=data.classes,
        filename=part.filename,
        segment=part.segment,
        device=part.device,
        label=part.label > 0,
        source=part.source,
        probabilities=event_probabilities(logits),
        thresholds=np.full(len(data.classes), 0.5),
        seconds=data.segment_seconds,
        clip_seconds=data.clip_seconds,
    )


def scored_parts(data: PreparedData, part: str) -> tuple[str, ...]:
    """The parts whose logits it takes to score `part`: temperature and decisions come from the validation part."""
    return (part,) if part == "validation" or not len(data.validation) else ("validation", part)


def scored(
    data: PreparedData, part: str, logits: Mapping[str, np.ndarray], spec: ExperimentSpec,
    decoding: tuple[np.ndarray, int] | None = None,
) -> tuple[Predictions | EventPredictions, dict[str, Any]]:  # fmt: skip
    """Predictions and scores of a part from the (n, classes) logits of `scored_parts`.

    Of `spec` the temperature and the bootstrap's seed are used. `decoding`: thresholds (classes,) and median window of
    events, if they were chosen before; without them and without a validation part, 0.5 and no medians.
    """
    segments = getattr(data, part)
    heard = logits.get("validation", np.empty((0, len(data.classes))))
    if data.events is None:
        temperature = calibrated(heard, data.validation, spec.temperature)
        predictions = predictions_of(data, segments, logits[part], temperature["value"])
        temperature["log_loss_at_1"] = float(np.mean(losses(logits[part], segments.label)))
        return predictions, {**score(predictions, part, data.device_groups, spec.seed), "temperature": temperature}
    if decoding is None:
        decoding = choose_decoding(event_predictions_of(data, data.validation, heard), have_times(data.events))
    thresholds, window = decoding
    undecided = event_predictions_of(data, segments, logits[part])
    several = replace(undecided, thresholds=thresholds, median_window=window)
    return several, score_events(several, data.events, part, data.device_groups, spec.seed)


def calibrated(logits: np.ndarray, part: Segments, given: float | None) -> dict[str, Any]:
    """The temperature of the softmax: `given`, or fitted on the validation part and used if that helps; in nats.

    Without a validation part `given`, or 1.
    """
    if not len(part):
        return {"value": given or 1.0, "fitted": None, "probability_floor": PROBABILITY_FLOOR}
    found = fit_temperature(logits, part.label, np.array(part.source))
    value = given or (found.value if found.helps else 1.0)
    return {
        "value": value,
        "fitted": found.value,
        "validation_log_loss": float(np.mean(losses(logits, part.label, value))),
        "validation_log_loss_at_1": found.log_loss_at_1,
        "validation_log_loss_crossed": found.log_loss_crossed,
        "probability_floor": PROBABILITY_FLOOR,
    }


def budget_of(spec: ExperimentSpec) -> Budget | None:
    """The experiment's limits. Raises BudgetError."""
    return Budget.parse(spec.budget, spec.view) if spec.budget else None


def complexity_report(spec: ExperimentSpec, classes: int) -> dict[str, Any]:
    """complexity.json of the deploy form as the specification has it, by arithmetic.

    `params_nonzero` is not known before training: every parameter is taken as used.
    """
    cost = complexity(spec.model, spec.input_shape(), classes, quant=spec.quant)
    totals, bits = cost.totals(), max(spec.quant.bits_of(layer.name) for layer in cost.layers if layer.weights)
    return {
        **totals,
        "params_nonzero": totals["params"],
        "form": "deploy",
        "weight_bits": bits,
        **held_against_budget(spec, totals),
        "receptive_field": receptive_field(spec, classes),
        "layers": cost.rows(),
    }


def held_against_budget(spec: ExperimentSpec, totals: Mapping[str, Any]) -> dict[str, Any]:
    """`budget` and `within_budget` of complexity.json; `totals`: its costs."""
    budget = budget_of(spec)
    return {
        "budget": budget.summary() if budget else {},
        "within_budget": budget is None or not budget.excess(totals),
    }


def check_sources(spec: ExperimentSpec, data: PreparedData, device: str = "auto") -> None:
    """Refuse teachers, and weights to begin with, that do not fit; teachers answer now, into the cache.

    Warns of weights that were trained on recordings of the validation part.
    """
    network = build(spec.model, spec.input_shape(), len(data.classes))
    source = take_weights(network, spec, data.classes)
    if is_first() and source and (other := other_validation(source.spec, spec)):
        print(f"warning: init.run: {spec.init.run} was trained on recordings of this validation part, whose scores "
              f"are then too good; expected the same split ({'; '.join(other)})", file=sys.stderr)  # fmt: skip
    frozen_parts(network, spec.init.frozen)
    teachers_of(spec, data, torch_device(device))


def train_and_report(
    spec: ExperimentSpec, data: PreparedData, best: Path, device: str = "auto", resume: bool = True,
    what: str = "training", devices: int = 1, nodes: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Train, then write config.yaml, model.safetensors, history.csv, predictions.csv, scores.json, complexity.json.

    The test fold is predicted once, here, when training is over. Returns the scores; of processes that train together
    only the first writes and scores, the others return nothing.
    """
    if budget := budget_of(spec):
        budget.check(complexity_report(spec, len(data.classes)), f"the model of {best.parent}")
    resume_file = best / RESUME_FILE
    resume_from = resume_file if resume else None
    trained = fit(spec, data, device=device, what=what, resume_file=resume_from, devices=devices, nodes=nodes)
    if not is_first():
        return {}
    scores = report_trained(spec, data, trained, best)
    resume_file.unlink(missing_ok=True)
    return scores


def report_trained(spec: ExperimentSpec, data: PreparedData, trained: Trained, best: Path) -> dict[str, Any]:
    """Write the `best/` folder of a trained network; returns scores.json of the test fold."""
    best.mkdir(parents=True, exist_ok=True)
    write_settings(best / "config.yaml", spec.plain(), provenance(spec, data.checksum))
    logits = {
        part: logits_of(trained.network, getattr(data, part), trained.mean, trained.std)
        for part in scored_parts(data, "test")
    }
    predictions, scores = scored(data, "test", logits, spec)
    thresholds = tuple(scores["thresholds"].values()) if "thresholds" in scores else None
    temperature = scores["temperature"]["value"] if "temperature" in scores else 1.0
    window = scores.get("median_window", 1)
    state = trained.network.state_dict()
    save_checkpoint(
        best / "model.safetensors",
        Checkpoint(spec, data.classes, trained.mean, trained.std, state, thresholds, temperature, window),
    )
    write_csv(best / "history.csv", Epoch._fields, trained.history)
    write_json(best / "complexity.json", complexity_report(spec, len(data.classes)))
    if len(data.validation):
        scores["validation"] = {
            "log_loss": trained.last.log_loss,
            "accuracy": trained.last.accuracy,
            "epoch": trained.last.epoch,
            "n": len(data.validation),
        }
    scores["train_seconds"] = sum(row.seconds for row in trained.history)
    write_scores(best, predictions, scores)
    return scores


def write_scores(folder: Path, predictions: Predictions | EventPredictions, scores: dict[str, Any]) -> None:
    """predictions.csv and scores.json, with the picture of a scene's confusions or the list of predicted events."""
    predictions.write_csv(folder / "predictions.csv")
    if isinstance(predictions, EventPredictions):
        predictions.write_events(folder / "events.csv")
    else:
        write_with(folder / "confusion.png", lambda path: plot_confusion(scores, path))
    write_json(folder / "scores.json", scores)


def show_scores(scores: dict[str, Any], what: str) -> None:
    """Two or three lines for a person; the files hold the rest."""
    interval = scores["interval"]
    text = f"{what}: accuracy {_between(scores['accuracy'], interval['accuracy'])}, log loss {scores['log_loss']:.4f}"
    if "clip_accuracy" in scores:
        text += f", clip accuracy {scores['clip_accuracy']:.4f}"
    print(text)
    if "clips" in scores and scores["mAP"] is not None:
        print(f"  {scores['clips']} clips: mAP {_between(scores['mAP'], interval['mAP'])}, AUC {scores['AUC']:.4f}, "
              f"d-prime {scores['d_prime']:.3f}")  # fmt: skip
    for name in ("segment_based", "event_based"):
        if name in scores and scores[name]["f1"] is not None:
            row = scores[name]
            f1, error_rate = (_between(row[key], interval[name][key]) for key in ("f1", "error_rate"))
            print(f"  {name.replace('_', ' ')}: F1 {f1}, macro {row['f1_macro']:.4f}, error rate {error_rate}")
    for group, values in scores["device_groups"].items():
        numbers = f"accuracy {values['accuracy']:.4f}, log loss {values['log_loss']:.4f}, n {values['n']}"
        print(f"  {group} devices: {numbers}")


def _between(value: float | None, interval: Sequence[float] | None) -> str:
    if value is None or interval is None:
        return "not defined"
    low, high = interval
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"
