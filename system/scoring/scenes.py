"""Scores of one class for each segment.

Accuracy is macro: the mean of the class accuracies, over the classes present (DCASE Task 1). Log loss uses the
natural logarithm, over all items, as `sklearn.metrics.log_loss`; `log_loss_macro` is the mean of the class means.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from system.errors import DataError
from system.scoring.bootstrap import bootstrap
from system.scoring.metrics import classification_scores
from system.scoring.predictions import Predictions

GROUPS = ("real", "seen", "unseen")
LOSS_FLOOR = float(np.finfo(np.float64).eps)  # the least probability a loss is taken of: scikit-learn's floor


def score(predictions: Predictions, split: str, device_groups: Mapping[str, str], seed: int = 0) -> dict[str, Any]:
    """The content of scores.json, over the labelled segments. Accuracies are shares (0 to 1), losses in nats.

    `device_groups`: device -> real, seen or unseen. `seed` is of the bootstrap.
    Raises DataError where there is nothing to score or a label is not a class.
    """
    kept = [i for i, label in enumerate(predictions.label) if label]
    if not kept:
        raise DataError(f"the {split} part holds no labelled segment, so there is nothing to score")
    index_of = {name: index for index, name in enumerate(predictions.classes)}
    strange = sorted({predictions.label[i] for i in kept} - set(index_of))
    if strange:
        raise DataError(f"labels that are no classes of the model: {', '.join(strange)}")
    truth = np.array([index_of[predictions.label[i]] for i in kept])
    probabilities = np.asarray(predictions.probabilities, dtype=np.float64)[kept]
    device = np.array([predictions.device[i] for i in kept])
    group = np.array([device_groups.get(name, "") for name in device])
    source = np.array([predictions.source[i] for i in kept])
    correct = (probabilities.argmax(axis=1) == truth).astype(np.float64)
    loss = -np.log(np.clip(probabilities[np.arange(len(truth)), truth], LOSS_FLOOR, 1.0))
    present = np.unique(truth).tolist()
    class_wise = {predictions.classes[c]: part_scores(truth == c, correct, loss, truth) for c in present}
    size = len(predictions.classes)
    confusion = np.bincount(truth * size + probabilities.argmax(axis=1), minlength=size * size).reshape(size, size)
    scores = {
        "split": split,
        **part_scores(np.ones(len(truth), dtype=bool), correct, loss, truth),
        "log_loss_macro": float(np.mean([row["log_loss"] for row in class_wise.values()])),
        "class_wise": class_wise,
        **by_device(correct, loss, truth, device, device_groups),
        "confusion": {"classes": list(predictions.classes), "matrix": confusion.tolist()},  # a row is a true class
        "interval": bootstrap(correct, loss, truth, source, seed),
        "sources": len(np.unique(source)),
        **classification_scores(probabilities, truth),
    }
    recorded = group == "real" if (group == "real").any() else np.ones(len(truth), dtype=bool)
    clips = [f"{predictions.filename[i]}\0{predictions.device[i]}" for i in kept]
    by_clip = _clip_accuracy(probabilities[recorded], truth[recorded], np.array(clips)[recorded])
    return scores if by_clip is None else {**scores, "clip_accuracy": by_clip}


def part_scores(mask: np.ndarray, correct: np.ndarray, loss: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """Macro accuracy, mean loss and number of the segments in `mask` (n,) of bool.

    `correct` (0 or 1), `loss` (nats) and `truth` (class index) are (n,), or (n, classes) where each class is decided
    by itself.
    """
    right, classes = correct[mask], truth[mask]
    by_class = [float(right[classes == c].mean()) for c in np.unique(classes)]
    return {"accuracy": float(np.mean(by_class)), "log_loss": float(loss[mask].mean()), "n": int(mask.sum())}


def by_device(
    correct: np.ndarray, loss: np.ndarray, truth: np.ndarray, device: np.ndarray, device_groups: Mapping[str, str]
) -> dict[str, Any]:
    """`device_wise` and `device_groups` of scores.json: `device` (n,) names, the rest as for `part_scores`."""
    group = np.array([device_groups.get(name, "") for name in device])

    def scores(mask: np.ndarray) -> dict[str, Any]:
        return part_scores(mask, correct, loss, truth)

    return {
        "device_wise": {str(name): scores(device == name) for name in np.unique(device)},
        "device_groups": {name: scores(group == name) for name in GROUPS if (group == name).any()},
    }


def _clip_accuracy(probabilities: np.ndarray, truth: np.ndarray, clips: np.ndarray) -> float | None:
    """Macro accuracy of whole clips, by the mean of the log probabilities; None if each clip is one segment."""
    names, first, clip = np.unique(clips, return_index=True, return_inverse=True)
    if len(names) == len(clips):
        return None
    total = np.zeros((len(names), probabilities.shape[1]))
    np.add.at(total, clip, np.log(np.clip(probabilities, LOSS_FLOOR, 1.0)))
    correct = total.argmax(axis=1) == truth[first]
    return float(np.mean([correct[truth[first] == c].mean() for c in np.unique(truth[first])]))
