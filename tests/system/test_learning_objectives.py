"""Targets, losses and scores of the two tasks, against scikit-learn and by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss

from system.learning.objectives import TASKS, log_loss_and_accuracy


def test_scores_against_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((200, 4)).astype(np.float32) * 3
    label = generator.choice(4, size=200, p=[0.7, 0.2, 0.1, 0.0])  # a class that does not occur
    log_loss, accuracy = log_loss_and_accuracy(logits, label)
    probabilities = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=1, keepdims=True)
    assert log_loss == pytest.approx(sklearn_log_loss(label, probabilities, labels=[0, 1, 2, 3]), rel=1e-6)
    seen = logits.argmax(axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # predicted classes that do not occur
        assert accuracy == pytest.approx(balanced_accuracy_score(label, seen))


def test_a_target_of_one_class_has_the_loss_of_its_index() -> None:
    logits, label = torch.randn(32, 10), torch.randint(0, 10, (32,))
    task = TASKS["scene"]
    target = task.target(label, 10)
    assert torch.equal(target.argmax(dim=1), label)
    assert torch.allclose(task.loss(logits, target, 0.0), F.cross_entropy(logits, label))
    assert torch.allclose(task.loss(logits, target, 0.1), F.cross_entropy(logits, label, label_smoothing=0.1))


def test_smoothing_moves_a_scene_towards_all_classes_and_an_event_towards_one_half() -> None:
    """The least loss is then at the smoothed shares, not at infinite logits."""
    scene = torch.log(torch.tensor([[0.9 + 0.1 / 4, 0.1 / 4, 0.1 / 4, 0.1 / 4]]))
    task = TASKS["scene"]
    best = task.loss(scene, task.target(torch.tensor([0]), 4), 0.1)
    assert best < task.loss(2 * scene, task.target(torch.tensor([0]), 4), 0.1)
    assert best < task.loss(scene / 2, task.target(torch.tensor([0]), 4), 0.1)
    entropy = -(0.95 * math.log(0.95) + 0.05 * math.log(0.05))
    for target, logit in ((1.0, math.log(0.95 / 0.05)), (0.0, math.log(0.05 / 0.95))):
        event, sounds = torch.tensor([[logit]]), torch.tensor([[target]])
        best = TASKS["events"].loss(event, sounds, 0.1)
        assert best.item() == pytest.approx(entropy)
        assert best < TASKS["events"].loss(1.1 * event, sounds, 0.1)


@pytest.mark.parametrize("task", TASKS)
def test_the_loss_of_mixed_targets_is_the_mixed_loss(task: str) -> None:
    torch.manual_seed(0)
    logits = torch.randn(16, 3)
    one, other = torch.eye(3)[torch.randint(0, 3, (2, 16))]
    loss = TASKS[task].loss
    mixed = loss(logits, 0.3 * one + 0.7 * other, 0.0)
    assert torch.allclose(mixed, 0.3 * loss(logits, one, 0.0) + 0.7 * loss(logits, other, 0.0))


def test_the_distance_from_teachers_is_the_divergence_at_their_temperature() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, teacher = torch.randn(2, 7, 3, generator=generator)
    temperature = 2.0
    for name, task in TASKS.items():
        shares = task.shares(teacher, temperature)
        p, q = (task.shares(values, temperature).double() for values in (teacher, logits))
        expected = (p * (p / q).log()).sum(dim=1).mean()
        if name == "events":
            expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
        assert task.distance(logits, shares, temperature).item() == pytest.approx(4 * expected.item(), rel=1e-4)
        assert task.distance(teacher, shares, temperature).item() == pytest.approx(0.0, abs=1e-6)
