"""Training of one network on prepared features: the only module that knows Lightning.

The recipe is the KT report's (paper 002, Section 2.1): AdamW, linear warm-up, cosine, SpecAugment, dropout.
Every epoch seeds its own order and noise, so that a resumed training ends with the same weights.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from system.augment import SpecAugment
from system.dataset import PreparedData, Segments
from system.errors import TrainingError
from system.files import whole_file
from system.models.network import build
from system.progress import progress
from system.spec import ExperimentSpec, TrainSpec

EVALUATION_BATCH = 256
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Epoch(NamedTuple):
    """One row of history.csv; losses in nats."""

    epoch: int
    train_loss: float
    log_loss: float  # of the validation part
    accuracy: float  # macro, of the validation part
    seconds: float
    clips_per_second: float


@dataclass(frozen=True)
class Trained:
    """The weights after the last epoch, where the learning rate is zero: no epoch is picked by its score.

    On small sets the lowest validation log loss comes by chance, often after a few noisy epochs.
    """

    network: nn.Module
    mean: np.ndarray
    std: np.ndarray
    history: tuple[Epoch, ...]

    @property
    def last(self) -> Epoch:
        return self.history[-1]


def statistics(segments: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each mel band over a part: two arrays of (mel bands,)."""
    total = np.zeros(segments.features.shape[1])
    square = np.zeros_like(total)
    for start in range(0, len(segments), 4096):
        chunk = np.asarray(segments.features[start : start + 4096], dtype=np.float64)
        total += chunk.sum(axis=(0, 2))
        square += (chunk * chunk).sum(axis=(0, 2))
    count = len(segments) * segments.features.shape[2]
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean * mean, 1e-8))
    return mean.astype(np.float32), std.astype(np.float32)


class FeatureBatches(Dataset):
    """Whole batches by one indexing operation; no Python loop over clips."""

    def __init__(self, segments: Segments) -> None:
        self.features = segments.features
        self.label = torch.from_numpy(np.asarray(segments.label))

    def __len__(self) -> int:
        return len(self.label)

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(np.asarray(self.features[indices])), self.label[indices]


class EpochOrder(Sampler):
    """Batches in an order that depends on the seed and the epoch only.

    `epoch` says which one runs: Lightning calls `set_epoch` of samplers, but never of batch samplers.
    """

    def __init__(self, size: int, batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.size, self.batch_size, self.seed, self.epoch = size, batch_size, seed, epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch())).permutation(self.size)
        for start in range(0, self.size, self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        return math.ceil(self.size / self.batch_size)


def standardized(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, F, T) log-mel -> (B, 1, F, T)"""
    return ((features - mean[:, None]) / std[:, None]).unsqueeze(1)


def memory_format(network: nn.Module) -> torch.memory_format:
    """Channels last where it is safe: 1.4 times the clips per second on a CPU (benchmarks/training_speed.py).

    In PyTorch 2.11 the backward pass of a convolution from one channel to fewer than 16, in this layout, writes
    outside its memory: seen with a 5x5 kernel and stride 2x2, as crashes under glibc's heap checks.
    """
    narrow = any(
        conv.in_channels == 1 and conv.out_channels < 16 for conv in network.modules() if isinstance(conv, nn.Conv2d)
    )
    return torch.contiguous_format if narrow else torch.channels_last


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": lambda parameters, spec: torch.optim.AdamW(
        parameters, lr=spec.learning_rate, betas=(spec.momentum, 0.999), weight_decay=spec.weight_decay
    ),
    "sgd": lambda parameters, spec: torch.optim.SGD(
        parameters, lr=spec.learning_rate, momentum=spec.momentum, weight_decay=spec.weight_decay
    ),
}


def learning_rate_factor(step: int, steps_per_epoch: int, spec: TrainSpec) -> float:
    """Linear from 0 over the warm-up, then half a cosine to 0."""
    warmup = spec.warmup() * steps_per_epoch
    if step < warmup:
        return min(1.0, (step + 1) / warmup)  # a warm-up may end within a step
    progress_made = (step - warmup) / max(1.0, spec.epochs * steps_per_epoch - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress_made)))


class Classifier(lightning.LightningModule):
    """The loop body: standardize, augment, classify, cross-entropy."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, spec: ExperimentSpec, mean: np.ndarray, std: np.ndarray) -> None:
        super().__init__()
        self.network = network
        self.spec = spec
        self.augment = SpecAugment(spec.augment)
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("std", torch.from_numpy(std))
        self.history: list[Epoch] = []
        self._losses: list[Tensor] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        features, label = batch
        logits = self.network(self.augment(standardized(features, self.mean, self.std)))
        loss = F.cross_entropy(logits, label)
        self._losses.append(loss.detach())
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        features, label = batch
        logits = self.network(standardized(features, self.mean, self.std))
        self._outputs.append((logits.float(), label))

    def configure_optimizers(self) -> Any:
        spec = self.spec.train
        optimizer = OPTIMIZERS[spec.optimizer](self.network.parameters(), spec)
        steps = int(self.trainer.estimated_stepping_batches) // spec.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, spec))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        torch.manual_seed(hash((self.spec.seed, self.current_epoch)) % 2**63)
        self._losses, self._started = [], time.monotonic()

    def on_validation_epoch_start(self) -> None:
        self._outputs = []

    def on_validation_epoch_end(self) -> None:
        seconds = time.monotonic() - self._started
        logits = torch.cat([output for output, _ in self._outputs])
        label = torch.cat([target for _, target in self._outputs])
        log_loss = F.cross_entropy(logits, label).item()
        if not math.isfinite(log_loss):
            raise TrainingError(
                f"the validation log loss after epoch {self.current_epoch + 1} is {log_loss}: the training diverged; "
                f"lower train.learning_rate, found {self.spec.train.learning_rate:g}"
            )
        trained = len(self._losses) * self.spec.train.batch_size
        row = Epoch(
            epoch=self.current_epoch + 1,
            train_loss=torch.stack(self._losses).mean().item(),
            log_loss=log_loss,
            accuracy=macro_accuracy(logits.argmax(dim=1).cpu().numpy(), label.cpu().numpy()),
            seconds=seconds,
            clips_per_second=trained / seconds,
        )
        self.history.append(row)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = [tuple(row) for row in self.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = [Epoch(*row) for row in checkpoint["history"]]


def log_loss_and_accuracy(logits: np.ndarray, label: np.ndarray) -> tuple[float, float]:
    """Mean cross-entropy in nats and macro accuracy of (n, classes) logits."""
    loss = F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(np.asarray(label)))
    return loss.item(), macro_accuracy(logits.argmax(axis=1), np.asarray(label))


def macro_accuracy(predicted: np.ndarray, label: np.ndarray) -> float:
    """Mean of the accuracies of the classes that occur."""
    return float(np.mean([np.mean(predicted[label == value] == value) for value in np.unique(label)]))


class Report(lightning.Callback):
    """Progress over batches, a word per epoch, and a whole checkpoint after each."""

    def __init__(self, what: str, on_epoch: Callable[[Epoch], None] | None, resume_file: Path | None) -> None:
        self.what, self.on_epoch, self.resume_file = what, on_epoch, resume_file

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        epochs, batches = trainer.max_epochs or 0, int(trainer.num_training_batches)
        self._bar = progress(self.what, epochs * batches, unit="batches")
        self._step = self._bar.__enter__()
        if trainer.current_epoch:
            self._step(trainer.current_epoch * batches)

    def on_train_batch_end(self, *_: Any) -> None:
        self._step(1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        if self.resume_file is not None:
            with whole_file(self.resume_file) as part:
                trainer.save_checkpoint(part)
        if self.on_epoch is not None:
            self.on_epoch(module.history[-1])

    def on_exception(self, *_: Any) -> None:
        self.teardown()

    def teardown(self, *_: Any, **__: Any) -> None:
        if hasattr(self, "_bar"):
            self._bar.__exit__(None, None, None)
            del self._bar


def fit(
    spec: ExperimentSpec,
    data: PreparedData,
    *,
    network: nn.Module | None = None,
    standardization: tuple[np.ndarray, np.ndarray] | None = None,
    device: str = "auto",
    what: str = "training",
    on_epoch: Callable[[Epoch], None] | None = None,
    resume_file: Path | None = None,
) -> Trained:
    """Train a fresh network, or `network` with its own `standardization` (mean, std), by the recipe `spec.train`.

    Continues from `resume_file` if it exists; the file is written after each epoch. `on_epoch` sees every
    finished epoch and may raise to stop.
    """
    torch.manual_seed(spec.seed)
    mean, std = standardization or statistics(data.train)
    if network is None:
        network = build(spec.model, spec.input_shape(), len(data.classes))
        network = network.to(memory_format=memory_format(network))  # type: ignore[call-overload]
    module = Classifier(network, spec, mean, std)
    order = EpochOrder(len(data.train), spec.train.batch_size, spec.seed, lambda: module.current_epoch)
    # a generator of its own: an iterator made before or after an epoch's seed is set must not shift its noise
    own = torch.Generator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=spec.train.epochs,
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            callbacks=[Report(what, on_epoch, resume_file)],
        )
        if resume_file is not None:
            resume_file.parent.mkdir(parents=True, exist_ok=True)
        resume = resume_file is not None and resume_file.is_file()
        try:
            trainer.fit(
                module,
                DataLoader(FeatureBatches(data.train), batch_sampler=order, collate_fn=_as_is, generator=own),
                DataLoader(FeatureBatches(data.validation), batch_size=EVALUATION_BATCH, collate_fn=_as_is),
                ckpt_path=resume_file if resume else None,
                weights_only=True,
            )
        except SystemExit:  # Lightning's way of passing Ctrl-C on
            raise KeyboardInterrupt from None
    return Trained(network.cpu().eval(), mean, std, tuple(module.history))


def _as_is(batch: Any) -> Any:
    return batch


@torch.inference_mode()
def logits_of(network: nn.Module, segments: Segments, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(n, classes) float32 logits of a part, in its own order, on the network's device."""
    first = next(network.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    centre, scale = torch.from_numpy(mean).to(device), torch.from_numpy(std).to(device)
    network.eval()
    outputs = []
    for start in range(0, len(segments), EVALUATION_BATCH):
        batch = torch.from_numpy(np.array(segments.features[start : start + EVALUATION_BATCH])).to(device)
        outputs.append(network(standardized(batch, centre, scale)).float().cpu().numpy())
    return np.concatenate(outputs)
