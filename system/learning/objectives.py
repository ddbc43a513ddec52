"""What a network learns: targets, loss and accuracy of the two tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from system.scoring.metrics import mean_per_class_accuracy, yes_no


class Task(NamedTuple):
    """A label is (n,) class indices of a scene, (n, classes) of 0 and 1 of events; a target is shares, (n, classes)."""

    target: Callable[[Tensor, int], Tensor]  # of a label, and the number of classes
    loss: Callable[[Tensor, Tensor, float], Tensor]  # mean over (n, classes) logits, targets; label smoothing
    accuracy: Callable[[np.ndarray, np.ndarray], float]  # macro, of what (n, classes) logits decide against labels
    shares: Callable[[Tensor, float], Tensor]  # (n, classes) probabilities of teachers' logits, by their temperature
    distance: Callable[[Tensor, Tensor, float], Tensor]  # mean, of logits from teachers' shares at their temperature


def scene_target(label: Tensor, classes: int) -> Tensor:
    return F.one_hot(label, classes).float()


def scene_loss(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    return F.cross_entropy(logits, target, label_smoothing=smoothing)


def scene_shares(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).softmax(dim=1)


def scene_distance(logits: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Kullback-Leibler divergence in nats, times temperature squared, which keeps gradients (Hinton et al. 2015)."""
    divergence = F.kl_div((logits / temperature).log_softmax(dim=1), shares, reduction="batchmean")
    return temperature**2 * divergence


def scene_accuracy(logits: np.ndarray, label: np.ndarray) -> float:
    return mean_per_class_accuracy(logits.argmax(axis=1), label)


def events_target(label: Tensor, classes: int) -> Tensor:
    return label


def events_loss(logits: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """Each class is a decision between two: smoothing moves its target towards one half."""
    return F.binary_cross_entropy_with_logits(logits, target + smoothing * (0.5 - target))


def events_shares(logits: Tensor, temperature: float) -> Tensor:
    return (logits / temperature).sigmoid()


def events_distance(logits: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """The same of each class for itself, their mean."""
    entropy = F.binary_cross_entropy(shares, shares)
    return temperature**2 * (F.binary_cross_entropy_with_logits(logits / temperature, shares) - entropy)


def events_accuracy(logits: np.ndarray, label: np.ndarray) -> float:
    """Each class is a decision of its own, here at probability one half."""
    return mean_per_class_accuracy(yes_no(logits).ravel(), yes_no(label).ravel())


TASKS = {
    "scene": Task(scene_target, scene_loss, scene_accuracy, scene_shares, scene_distance),
    "events": Task(events_target, events_loss, events_accuracy, events_shares, events_distance),
}
"""By `PreparedData.task`."""


def log_loss_and_accuracy(logits: np.ndarray, label: np.ndarray, task: str = "scene") -> tuple[float, float]:
    """Mean loss in nats and macro accuracy of (n, classes) logits."""
    chosen, label = TASKS[task], np.asarray(label)
    target = chosen.target(torch.from_numpy(label), logits.shape[1])
    loss = chosen.loss(torch.from_numpy(logits).double(), target.double(), 0.0)
    return loss.item(), chosen.accuracy(logits, label)
