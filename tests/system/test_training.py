"""Training learns, repeats itself, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss
from torch import nn

from system.dataset import PreparedData, Segments
from system.errors import RunError, TrainingError
from system.features import LogMel
from system.files import whole_file
from system.learning import loop
from system.learning.averaging import Average, take_average
from system.learning.batches import FeatureBatches
from system.learning.loop import Epoch
from system.learning.objectives import log_loss_and_accuracy
from system.learning.optimizers import OPTIMIZERS
from system.models.network import build
from system.spec import AugmentSpec, ExperimentSpec
from system.training import Trained, fit, logits_of
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


def several_classes(count: int, seed: int) -> Segments:
    """Noise where each class, if it sounds, raises bands of its own."""
    base = tiny.segments(count, seed, distance=0.0)
    label = (np.random.default_rng(seed).random((count, len(tiny.CLASSES))) < 0.4).astype(np.float32)
    raised = np.repeat(label, 5, axis=1)[:, :, None] * 4.0  # five bands for each of three classes
    base.features[:, :15] += raised.astype(np.float32)
    return replace(base, label=label)


@pytest.mark.parametrize(
    ("mixup", "smoothing", "at_least"),
    [(0.0, 0.0, 0.85), (0.2, 0.05, 0.7)],  # balanced accuracy, a half by chance
    ids=["as they are", "mixed and smoothed"],
)
def test_several_classes_at_once_are_learned(mixup: float, smoothing: float, at_least: float) -> None:
    parts = {name: several_classes(96, seed) for seed, name in enumerate(("train", "validation", "test"))}
    data = replace(tiny.data(), events={}, **parts)
    assert data.task == "events"
    augment = AugmentSpec(frequency_mask_bands=2, mixup_alpha=mixup)
    spec = tiny.experiment(**{**LEARNS, "epochs": 10}, augment=augment, label_smoothing=smoothing)
    trained = fit(spec, data, device="cpu")
    logits = logits_of(trained.network, data.validation, trained.mean, trained.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label, "events")
    probabilities = 1 / (1 + np.exp(-logits.astype(float)))
    label = data.validation.label
    assert log_loss == pytest.approx(np.mean([sklearn_log_loss(label[:, c], probabilities[:, c]) for c in range(3)]))
    balanced = [balanced_accuracy_score(label[:, c], probabilities[:, c] > 0.5) for c in range(3)]
    assert accuracy == pytest.approx(np.mean(balanced))
    assert trained.last.log_loss == pytest.approx(log_loss, abs=1e-5)
    assert trained.last.accuracy == pytest.approx(accuracy)
    assert log_loss < 0.4  # 0.67 by chance
    assert accuracy > at_least


def test_the_history_is_of_the_weights_that_are_returned(trained: Trained) -> None:
    data = tiny.data()
    logits = logits_of(trained.network, data.validation, trained.mean, trained.std)
    log_loss, accuracy = log_loss_and_accuracy(logits, data.validation.label)
    assert trained.last.log_loss == pytest.approx(log_loss, abs=1e-5)
    assert trained.last.accuracy == pytest.approx(accuracy)
    assert trained.last.clips_per_second > 0


def test_clips_per_second_count_every_clip_once() -> None:
    row = fit(tiny.experiment(epochs=1, batch_size=32), tiny.data(train=48), device="cpu").last
    assert row.clips_per_second * row.seconds == pytest.approx(48)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(trained: Trained) -> None:
    again = fit(tiny.experiment(**LEARNS), tiny.data(), device="cpu")
    assert numbers(again.history) == numbers(trained.history)
    assert same_weights(again.network, trained.network)
    other = fit(tiny.experiment(seed=1, **LEARNS), tiny.data(), device="cpu")
    assert numbers(other.history) != numbers(trained.history)


SAMPLES = AugmentSpec(random_crop=True, speed=(0.8, 1.2), gain_db=6.0, mixup_alpha=0.3)
RESUMED = {
    "the report's recipe": (tiny.experiment(epochs=4), tiny.data()),
    "an exponential mean": (
        tiny.experiment(epochs=4, average="ema", augment=AugmentSpec(mixup_alpha=0.3, mixstyle_p=0.5)), tiny.data()
    ),
    "a plain mean": (tiny.experiment(epochs=4, average="swa", swa_start=0.2), tiny.data()),
    "samples": (tiny.experiment(epochs=4, average="ema", augment=SAMPLES), tiny.with_recordings(tiny.data())),
}  # fmt: skip


@pytest.mark.parametrize("recipe", RESUMED)
def test_a_killed_training_ends_as_the_uninterrupted_one(recipe: str, tmp_path: Path) -> None:
    spec, data = RESUMED[recipe]
    whole = fit(spec, data, device="cpu")
    for killed_after in (2, 4):  # half way, after the last epoch
        resumed, seen = killed_and_resumed(spec, data, killed_after, tmp_path / str(killed_after) / ".training.ckpt")
        assert seen == list(range(killed_after + 1, 5))
        assert numbers(resumed.history) == numbers(whole.history)
        assert same_weights(resumed.network, whole.network)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / ".training.ckpt"
    file.write_bytes(b"PK\x03\x04 and then the disk was full")
    with pytest.raises(RunError, match=r"training\.ckpt: expected a checkpoint to go on from, found a damaged file"):
        fit(tiny.experiment(epochs=1), tiny.data(), device="cpu", resume_file=file)


def killed_and_resumed(
    spec: ExperimentSpec, data: PreparedData, killed_after: int, resume_file: Path
) -> tuple[Trained, list[int]]:
    epoch = count(1)

    @contextmanager
    def writes(path: Path) -> Iterator[Path]:
        with whole_file(path) as part:
            yield part
        if next(epoch) == killed_after:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("system.learning.loop.whole_file", writes)
        with pytest.raises(Killed):
            fit(spec, data, device="cpu", resume_file=resume_file)
    assert [path.name for path in resume_file.parent.iterdir()] == [".training.ckpt"]
    torch.manual_seed(999)  # another process, another state of the random numbers
    seen: list[int] = []
    resumed = fit(spec, data, device="cpu", on_epoch=lambda row: seen.append(row.epoch), resume_file=resume_file)
    return resumed, seen


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_an_average_is_what_is_returned_and_scored(average: str, monkeypatch: pytest.MonkeyPatch) -> None:
    means: list[dict[str, torch.Tensor]] = []

    def note(network: nn.Module, average: Average, inputs: object) -> None:
        means.append({name: value.clone() for name, value in average.module.named_parameters()})
        assert average.taken == {"ema": 6 * 12, "swa": 2}[spec.train.average]  # steps; epochs 5 and 6
        take_average(network, average, inputs)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "take_average", note)
    data, spec = tiny.data(), tiny.experiment(**LEARNS, average=average, swa_start=0.7)
    trained = fit(spec, data, device="cpu")
    assert len(means) == 1
    assert all(torch.equal(value, means[0][name]) for name, value in trained.network.named_parameters())
    logits = logits_of(trained.network, data.validation, trained.mean, trained.std)
    log_loss, _ = log_loss_and_accuracy(logits, data.validation.label)
    assert trained.last.log_loss == pytest.approx(log_loss, abs=1e-5)
    last = fit(tiny.experiment(**LEARNS), data, device="cpu")
    assert numbers(trained.history)[:5] == numbers(last.history)[:5]  # the way there is the same
    assert numbers(trained.history)[5] != numbers(last.history)[5]
    assert log_loss < 0.6


def test_frozen_norms_keep_their_statistics_and_parameters(trained: Trained) -> None:
    network = copy.deepcopy(trained.network).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    spec = tiny.experiment(epochs=2, frozen_norms="all_but_stem", average="swa", swa_start=0.1)
    fit(spec, tiny.data(), network=network, standardization=(trained.mean, trained.std), device="cpu")
    norms = {name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    same = {key for key, value in network.state_dict().items() if torch.equal(value, before[key])}
    for name in norms:
        own = {f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")}
        assert own & same == (set() if name.startswith("stem.") else own), name
    assert not any(key.endswith("conv.weight") for key in same)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_smoothed_labels_make_a_network_less_sure(trained: Trained) -> None:
    data = tiny.data()
    smoothed = fit(tiny.experiment(**LEARNS, label_smoothing=0.3), data, device="cpu")
    sure, less = (logits_of(t.network, data.train, t.mean, t.std) for t in (trained, smoothed))
    assert np.ptp(less, axis=1).mean() < 0.8 * np.ptp(sure, axis=1).mean()
    assert smoothed.last.accuracy > 0.7


def test_samples_are_learned_from() -> None:
    """Cropped, sped up, louder and softer, mixed: the levels of the classes are 20 dB apart."""
    data = tiny.with_recordings(tiny.data(validation=0))
    spec = tiny.experiment(**{**LEARNS, "epochs": 8}, augment=SAMPLES)
    features = LogMel(tiny.FEATURES)(torch.from_numpy(data.recordings.samples)).numpy()  # type: ignore[union-attr]
    data = replace(data, train=replace(data.train, features=features))
    trained = fit(spec, data, device="cpu")
    log_loss, accuracy = log_loss_and_accuracy(
        logits_of(trained.network, data.train, trained.mean, trained.std), data.train.label
    )
    assert accuracy > 0.9
    assert log_loss < 0.6


def test_control_c_comes_through() -> None:
    def interrupt(row: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(tiny.experiment(epochs=1), tiny.data(), device="cpu", on_epoch=interrupt)


def test_a_diverging_training_is_told_at_once() -> None:
    seen: list[Epoch] = []
    with pytest.raises(TrainingError, match=r"after epoch 1 is (nan|inf).*lower learning_rate, found 1e\+30"):
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


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_changes_every_parameter(optimizer: str) -> None:
    spec = tiny.experiment(epochs=1, optimizer=optimizer, learning_rate=1e-2, augment=AugmentSpec(time_masks=0))
    torch.manual_seed(0)
    network = build(spec.model, spec.input_shape(), 3)
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


def test_a_training_shuffles_every_epoch_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[int]] = []
    read = FeatureBatches.__getitems__

    def note(self: FeatureBatches, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(self) == 32:
            batches.append(indices)
        return read(self, indices)

    monkeypatch.setattr(FeatureBatches, "__getitems__", note)
    fit(tiny.experiment(epochs=3, batch_size=32), tiny.data(train=32), device="cpu")
    assert [sorted(batch) for batch in batches] == [list(range(32))] * 3
    assert len({tuple(batch) for batch in batches}) == 3


NARROW_STEM = """
import sys; sys.path.insert(0, {root!r})
import system, torch
from system.models.network import build
from system.spec import ModelSpec, StageSpec
from system.learning.layout import memory_format
torch.manual_seed(0)
stages = (StageSpec(depth=1), StageSpec(depth=1, stride=(2, 2)))
spec = ModelSpec(width={width}, width_multiple=2, stem_kernel=(5, 5), stem_stride=(2, 2), block="inverted",
                 activation="relu", norm="batch", pooling="average", downsampling="strided", stages=stages)
network = build(spec, (1, 80, 51), 10).train()
network = network.to(memory_format=memory_format(network, "cpu"))
for step in range(15):
    loss = network(torch.randn(32 if step % 5 else 19, 1, 80, 51)).square().mean()
    loss.backward()
print("trained", memory_format(network, "cpu"), memory_format(network, "cuda"))
"""


@pytest.mark.parametrize(("width", "layout"), [(4, "contiguous_format"), (16, "channels_last")])
def test_no_width_writes_outside_its_memory(width: int, layout: str) -> None:
    """PyTorch's channels-last kernels corrupt the heap for narrow stems; glibc's checks show it at once."""
    code = NARROW_STEM.format(root=str(Path(__file__).resolve().parents[2]), width=width)
    environment = {**os.environ, "GLIBC_TUNABLES": "glibc.malloc.check=3", "MALLOC_CHECK_": "3"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"trained torch.{layout} torch.channels_last"  # a GPU has no such fault


@pytest.mark.gpu
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_captured_training_is_the_plain_one(dropout: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Batches of 16 of 40 segments: the last is smaller, and runs as usual. A resumed one captures anew."""
    model = tiny.MODEL.changed(dropout=dropout)
    spec = tiny.experiment(model=model, augment=AugmentSpec(), average="ema", epochs=4)
    data = tiny.data(train=40)
    captured = fit(spec, data, device="cuda")

    def kill(row: Epoch) -> None:
        if row.epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(spec, data, device="cuda", on_epoch=kill, resume_file=tmp_path / "ckpt")
    resumed = fit(spec, data, device="cuda", resume_file=tmp_path / "ckpt")
    for one, other in zip(captured.history, resumed.history, strict=True):
        assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
    if not dropout:  # else the noise is another, as a captured pass draws it elsewhere
        monkeypatch.setattr(loop, "Graphed", lambda network, like: network)
        plain = fit(spec, data, device="cuda")
        for one, other in zip(captured.history, plain.history, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, rel=1e-3)
            assert one.log_loss == pytest.approx(other.log_loss, rel=1e-2)
