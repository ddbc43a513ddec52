"""Training learns, repeats itself, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import copy
import math
import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss
from torch import nn

from system import training
from system.errors import TrainingError
from system.spec import AugmentSpec, TrainSpec
from system.training import (
    Epoch,
    EpochOrder,
    Trained,
    fit,
    learning_rate_factor,
    log_loss_and_accuracy,
    logits_of,
    statistics,
)
from tests import tiny

LEARNS = {"epochs": 6, "batch_size": 4, "learning_rate": 2e-2}


class Killed(Exception):
    """As good as a power cut: raised in the middle of everything."""


def numbers(history: tuple[Epoch, ...]) -> list[tuple[float, ...]]:
    """A history without what a clock says."""
    return [(row.epoch, row.train_loss, row.log_loss, row.accuracy) for row in history]


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    others = b.state_dict()
    return all(torch.equal(value, others[key]) for key, value in a.state_dict().items())


@pytest.fixture(scope="module")
def trained() -> Trained:
    return fit(tiny.experiment(**LEARNS), tiny.data(), device="cpu")


def test_separable_classes_are_learned(trained: Trained) -> None:
    data = tiny.data()
    logits = logits_of(trained.network, data.test, trained.mean, trained.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.test.label)
    assert accuracy > 0.85  # a third by chance
    assert log_loss < 0.6  # 1.1 by chance
    assert [row.epoch for row in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.history[-1].train_loss < trained.history[0].train_loss
    assert not trained.network.training


def test_labels_without_relation_are_not_learned() -> None:
    """The score is of the validation part, not of what was trained on."""
    data = tiny.data(distance=0.0)
    history = fit(tiny.experiment(**LEARNS), data, device="cpu").history
    assert history[-1].accuracy < 0.7
    assert history[-1].log_loss > 0.9


def test_the_history_is_of_the_weights_that_are_returned(trained: Trained) -> None:
    data = tiny.data()
    logits = logits_of(trained.network, data.validation, trained.mean, trained.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label)
    assert trained.last.log_loss == pytest.approx(log_loss, abs=1e-5)
    assert trained.last.accuracy == pytest.approx(accuracy)
    assert trained.last.clips_per_second > 0


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained: Trained) -> None:
    again = fit(tiny.experiment(**LEARNS), tiny.data(), device="cpu")
    assert numbers(again.history) == numbers(trained.history)
    assert same_weights(again.network, trained.network)
    other = fit(tiny.experiment(seed=1, **LEARNS), tiny.data(), device="cpu")
    assert numbers(other.history) != numbers(trained.history)


@pytest.mark.parametrize("killed_after", [2, 6], ids=["half way", "after the last epoch"])
def test_a_killed_training_ends_as_the_uninterrupted_one(killed_after: int, trained: Trained, tmp_path: Path) -> None:
    spec, data, resume_file = tiny.experiment(**LEARNS), tiny.data(), tmp_path / "deep" / ".training.ckpt"

    def kill(row: Epoch) -> None:
        if row.epoch == killed_after:
            raise Killed

    with pytest.raises(Killed):
        fit(spec, data, device="cpu", on_epoch=kill, resume_file=resume_file)
    assert [path.name for path in resume_file.parent.iterdir()] == [".training.ckpt"]
    torch.manual_seed(999)  # another process, another state of the random numbers
    seen: list[int] = []
    resumed = fit(spec, data, device="cpu", on_epoch=lambda row: seen.append(row.epoch), resume_file=resume_file)
    assert seen == list(range(killed_after + 1, 7))
    assert numbers(resumed.history) == numbers(trained.history)
    assert same_weights(resumed.network, trained.network)


def test_control_c_comes_through() -> None:
    def interrupt(row: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny.experiment(epochs=1), tiny.data(), device="cpu", on_epoch=interrupt)


def test_a_diverging_training_is_told_at_once() -> None:
    seen: list[Epoch] = []
    with pytest.raises(TrainingError, match=r"after epoch 1 is (nan|inf).*lower train\.learning_rate, found 1e\+30"):
        fit(tiny.experiment(learning_rate=1e30), tiny.data(), device="cpu", on_epoch=seen.append)
    assert seen == []


def test_a_given_network_is_trained_on_with_its_own_standardization(trained: Trained) -> None:
    data = tiny.data()
    mean, std = trained.mean + 1, trained.std * 2
    before = {key: value.clone() for key, value in trained.network.state_dict().items()}
    network = copy.deepcopy(trained.network)
    result = fit(tiny.experiment(epochs=1), data, network=network, standardization=(mean, std), device="cpu")
    assert result.network is network
    assert np.array_equal(result.mean, mean)
    assert np.array_equal(result.std, std)
    assert not all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("optimizer", training.OPTIMIZERS)
def test_every_optimizer_changes_every_parameter(optimizer: str) -> None:
    spec = tiny.experiment(epochs=1, optimizer=optimizer, learning_rate=1e-2, augment=AugmentSpec(time_masks=0))
    torch.manual_seed(0)
    network = training.build(spec.model, spec.input_shape(), 3)
    before = {key: value.detach().clone() for key, value in network.named_parameters()}
    fit(spec, tiny.data(), network=network, device="cpu")
    assert [key for key, value in network.named_parameters() if torch.equal(value, before[key])] == []


def test_dropout_and_augmentation_are_off_at_evaluation(trained: Trained) -> None:
    data = tiny.data()
    trained.network.train()  # logits_of must see to it itself
    first = logits_of(trained.network, data.test, trained.mean, trained.std)
    assert np.array_equal(first, logits_of(trained.network, data.test, trained.mean, trained.std))
    assert first.shape == (len(data.test), 3)
    one = replace(data.test, features=data.test.features[5:6], filename=data.test.filename[5:6])
    assert np.allclose(logits_of(trained.network, one, trained.mean, trained.std)[0], first[5], atol=1e-5)


def test_statistics_against_numpy() -> None:
    part = tiny.segments(5000, seed=7)  # more than one chunk
    mean, std = statistics(part)
    assert mean.shape == std.shape == (16,)
    assert np.allclose(mean, part.features.astype(np.float64).mean(axis=(0, 2)), atol=1e-5)
    assert np.allclose(std, part.features.astype(np.float64).std(axis=(0, 2)), atol=1e-5)


def test_a_silent_band_has_a_deviation_to_divide_by() -> None:
    part = tiny.segments(8, seed=7)
    part.features[:, 3] = -11.5
    mean, std = statistics(part)
    assert mean[3] == pytest.approx(-11.5)
    assert 0 < std[3] < 1e-3


def test_the_learning_rate_schedule() -> None:
    """10 steps an epoch, 6 epochs: one epoch of warm-up to the peak, then half a cosine."""
    spec = TrainSpec(epochs=6)
    factors = [learning_rate_factor(step, 10, spec) for step in range(61)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[35] == pytest.approx(0.5)
    assert factors[22] == pytest.approx(0.5 * (1 + math.cos(math.pi * 12 / 50)))
    assert factors[60] == pytest.approx(0.0, abs=1e-12)
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert learning_rate_factor(99, 10, spec) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("epochs", "steps"), [(3, 1), (3, 7), (8, 5), (1, 3)])
def test_a_warm_up_that_ends_within_a_step_does_not_overshoot(epochs: int, steps: int) -> None:
    factors = [learning_rate_factor(step, steps, TrainSpec(epochs=epochs)) for step in range(epochs * steps)]
    assert min(factors) > 0
    assert max(factors) <= 1.0


def test_no_warm_up_starts_at_the_peak() -> None:
    assert learning_rate_factor(0, 10, TrainSpec(epochs=6, warmup_epochs=0)) == 1.0


def test_an_epoch_sees_every_clip_once_in_an_order_of_its_own() -> None:
    epochs = []
    for epoch in (0, 1, 0):
        order = EpochOrder(10, 4, seed=3, epoch=lambda epoch=epoch: epoch)  # type: ignore[misc]
        batches = list(order)
        assert [len(batch) for batch in batches] == [4, 4, 2]
        epochs.append([index for batch in batches for index in batch])
    assert len(order) == 3
    assert all(sorted(indices) == list(range(10)) for indices in epochs)
    assert epochs[0] == epochs[2] != epochs[1]
    assert list(EpochOrder(10, 4, seed=4, epoch=lambda: 0)) != list(EpochOrder(10, 4, seed=3, epoch=lambda: 0))


def test_a_training_shuffles_every_epoch_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    read = training.FeatureBatches.__getitems__

    def note(self: training.FeatureBatches, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(self) == 32:
            batches.append(indices)
        return read(self, indices)

    monkeypatch.setattr(training.FeatureBatches, "__getitems__", note)
    fit(tiny.experiment(epochs=3, batch_size=32), tiny.data(train=32), device="cpu")
    assert [sorted(batch) for batch in batches] == [list(range(32))] * 3
    assert len({tuple(batch) for batch in batches}) == 3


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


NARROW_STEM = """
import sys; sys.path.insert(0, {root!r})
import system, torch
from system.models.network import build
from system.spec import ModelSpec, StageSpec
from system.training import memory_format
torch.manual_seed(0)
stages = (StageSpec(depth=1), StageSpec(depth=1, stride=(2, 2)))
spec = ModelSpec(width={width}, width_multiple=2, stem_kernel=(5, 5), stem_stride=(2, 2), block="inverted",
                 activation="relu", norm="batch", pooling="average", downsampling="strided", stages=stages)
network = build(spec, (1, 80, 51), 10).train()
network = network.to(memory_format=memory_format(network))
for step in range(15):
    loss = network(torch.randn(32 if step % 5 else 19, 1, 80, 51)).square().mean()
    loss.backward()
print("trained", memory_format(network))
"""


@pytest.mark.parametrize(("width", "layout"), [(4, "contiguous_format"), (16, "channels_last")])
def test_no_width_writes_outside_its_memory(width: int, layout: str) -> None:
    """PyTorch's channels-last kernels corrupt the heap for narrow stems; glibc's checks show it at once."""
    code = NARROW_STEM.format(root=str(Path(__file__).resolve().parents[2]), width=width)
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.check=3", "MALLOC_CHECK_": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"trained torch.{layout}"
