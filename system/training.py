"""Training of one network on a prepared data set: the loop, and the only module that knows Lightning.

What a recipe is made of stands in `system/learning` and `system/augment`; the default one is the KT report's (paper
002, Section 2.1). Every epoch seeds its own order and noise, so that a resumed training ends with the same weights.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from system.dataset import PreparedData, Segments
from system.errors import TrainingError
from system.files import require_whole_checkpoint, whole_file
from system.learning.averaging import average_of, is_taken, take_average
from system.learning.batches import EpochOrder, FeatureBatches, standardized, statistics
from system.learning.graphs import Graphed
from system.learning.inputs import Inputs, training_data
from system.learning.objectives import log_loss_and_accuracy
from system.learning.optimizers import frozen_norms, optimizer_of, require_grad
from system.learning.pretrained import frozen_parts, take_weights
from system.learning.schedules import learning_rate_factor
from system.models.network import build
from system.progress import progress
from system.spec import ExperimentSpec

__all__ = ["Epoch", "Trained", "fit", "log_loss_and_accuracy", "logits_of"]

EVALUATION_BATCH = 256
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Epoch(NamedTuple):
    """One row of history.csv; losses in nats."""

    epoch: int
    train_loss: float
    log_loss: float  # of the validation part, NaN without one; of events the mean binary cross-entropy
    accuracy: float  # macro, of the validation part
    seconds: float
    clips_per_second: float


@dataclass(frozen=True)
class Trained:
    """The weights after the last epoch, or their average (`train.average`): no epoch is picked by its score.

    On small sets the lowest validation log loss comes by chance, often after a few noisy epochs. The last row of the
    history is of these weights; where they are an average, the rows before it are of the weights on the way.
    """

    network: nn.Module
    mean: np.ndarray
    std: np.ndarray
    history: tuple[Epoch, ...]

    @property
    def last(self) -> Epoch:
        return self.history[-1]


def memory_format(network: nn.Module, device: str) -> torch.memory_format:
    """Channels last where it is safe: 1.4 times the clips per second on a CPU (benchmarks/training_step.py), both
    passes in half the time on a GPU.

    In PyTorch 2.11 a CPU's backward pass of a convolution from one channel to fewer than 16, in this layout, writes
    outside its memory: seen with a 5x5 kernel and stride 2x2, as crashes under glibc's heap checks.
    """
    narrow = device == "cpu" and any(
        conv.in_channels == 1 and conv.out_channels < 16 for conv in network.modules() if isinstance(conv, nn.Conv2d)
    )
    return torch.contiguous_format if narrow else torch.channels_last


def laid_out(network: nn.Module, device: str) -> nn.Module:
    """`network` in the memory format for training on `device`."""
    return network.to(memory_format=memory_format(network, device))  # type: ignore[call-overload]


def torch_device(device: str) -> str:
    """Where `--device` computes."""
    return "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"


class OnlineTeacher(NamedTuple):
    """A network that hears what the trained one hears, augmented alike, and whose answers are learned as well."""

    network: nn.Module
    weight: float  # of the distance from it, against the rest of the loss
    temperature: float


class Classifier(lightning.LightningModule):
    """The loop body: inputs and targets, classify, the loss of the task; then what is kept of the weights."""

    order: EpochOrder  # of the training part

    def __init__(
        self, network: nn.Module, spec: ExperimentSpec, inputs: Inputs, teacher: OnlineTeacher | None = None,
        frozen: Sequence[nn.Module] = (), graphed: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.graphed = graphed
        self.network, self.spec, self.inputs, self.task, self.teacher = network, spec, inputs, inputs.task, teacher
        self.frozen = [*frozen_norms(network, spec.train.frozen_norms), *frozen]
        self.average = average_of(network, spec.train)
        self._captured: Graphed | None = None
        self.rows: EpochOrder | None = None  # of the validation part
        self.stepped: Callable[[], None] = lambda: None  # after each batch that is not a training step
        self.before_epoch: Callable[[int], object] = lambda epoch: None
        self.history: list[Epoch] = []
        self._losses: list[Tensor] = []
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: tuple[Tensor, ...], index: int) -> Tensor:
        x, target, taught = self.inputs(batch)
        if self.graphed and x.is_cuda and self._captured is None and len(x) == self.spec.train.batch_size:
            self._captured = Graphed(self.network, x)
        logits = (self._captured or self.network)(x)
        loss = self.task.loss(logits, target, self.spec.train.label_smoothing)
        if taught is not None:
            distill = self.spec.distill
            loss = torch.lerp(loss, self.task.distance(logits, taught, distill.temperature), distill.weight)
        if self.teacher is not None:
            weight, temperature = self.teacher.weight, self.teacher.temperature
            with torch.no_grad():
                shares = self.task.shares(self.teacher.network(x), temperature)
            loss = torch.lerp(loss, self.task.distance(logits, shares, temperature), weight)
        self._losses.append(loss.detach())
        return loss * self.order.weight(index)  # DDP averages over processes, also where their shares are uneven

    def validation_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
        features, label = batch
        logits = self.network(self.inputs.standardized(features))
        self._outputs.append((logits.float(), label))

    def configure_optimizers(self) -> Any:
        spec = self.spec.train
        optimizer = optimizer_of(self.network, spec)
        steps = int(self.trainer.estimated_stepping_batches) // spec.epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_factor(step, steps, spec))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_fit_start(self) -> None:
        if self.teacher is not None:
            self.teacher.network.to(self.device).eval().requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        self._seed(self.current_epoch)
        for module in self.frozen:
            module.eval()
        self.before_epoch(self.current_epoch)
        self._losses, self._outputs, self._started = [], [], time.monotonic()

    def on_train_batch_end(self, outputs: Any, batch: Any, index: int) -> None:
        if self.average is None:
            return
        end_of_epoch = index + 1 == self.trainer.num_training_batches
        if is_taken(self.spec.train, self.current_epoch, end_of_epoch):
            self.average.take(self.network)
        if end_of_epoch and self.current_epoch + 1 == self.spec.train.epochs:
            self._seed(self.current_epoch + 1)
            take_average(self.network, self.average, self._epoch_again())
            for norm in (module for module in self.network.modules() if isinstance(module, _BatchNorm)):
                for statistic in (norm.running_mean, norm.running_var):
                    if statistic is not None:  # of each process's share of the data
                        statistic.copy_(self._mean_over_processes(statistic))

    def _epoch_again(self) -> Iterator[Tensor]:
        assert self.trainer.train_dataloader is not None
        for batch in self.trainer.train_dataloader:
            yield self.inputs([part.to(self.device) for part in batch]).x
            self.stepped()

    def _seed(self, epoch: int) -> None:
        other = (self.global_rank,) if self.global_rank else ()
        torch.manual_seed(hash((self.spec.seed, epoch, *other)) % 2**63)

    def _mean_over_processes(self, value: Tensor) -> Tensor:
        return value if self.trainer.world_size == 1 else self.trainer.strategy.reduce(value.clone(), reduce_op="mean")

    def _validated(self) -> tuple[Tensor, Tensor]:
        """Logits and labels of the whole validation part in its own order, each process's share put in its place."""
        logits, label = (torch.cat(parts) for parts in zip(*self._outputs, strict=True))
        if self.trainer.world_size == 1:
            return logits, label
        assert self.rows is not None
        mine = [row for batch in self.rows for row in batch]
        shares: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(shares, (mine, logits.cpu(), label.cpu()))
        whole, labels = (torch.empty(self.rows.size, *part.shape[1:], dtype=part.dtype) for part in (logits, label))
        for rows, some, their in shares:
            whole[rows], labels[rows] = some, their
        return whole, labels

    def end_epoch(self) -> Epoch:
        """The row of the epoch that just ended, validation included; it is added to the history."""
        seconds = time.monotonic() - self._started
        train_loss = self._mean_over_processes(torch.stack(self._losses).mean()).item()
        log_loss = accuracy = math.nan
        if self._outputs:
            logits, label = self._validated()
            log_loss = self.task.loss(logits, self.task.target(label, logits.shape[1]), 0.0).item()
            accuracy = self.task.accuracy(logits.cpu().numpy(), label.cpu().numpy())
        name, watched = ("validation log loss", log_loss) if self._outputs else ("training loss", train_loss)
        if not math.isfinite(watched):
            raise TrainingError(
                f"the {name} after epoch {self.current_epoch + 1} is {watched}: the training diverged; "
                f"lower learning_rate, found {self.spec.train.learning_rate:g}"
            )
        row = Epoch(self.current_epoch + 1, train_loss, log_loss, accuracy, seconds, self.order.size / seconds)
        self.history.append(row)
        return row

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["history"] = [tuple(row) for row in self.history]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history = [Epoch(*row) for row in checkpoint["history"]]


class Report(lightning.Callback):
    """Progress over batches, a word per epoch, and a whole checkpoint after each."""

    def __init__(self, what: str, on_epoch: Callable[[Epoch], None] | None, resume_file: Path | None) -> None:
        self.what, self.on_epoch, self.resume_file = what, on_epoch, resume_file

    def on_train_start(self, trainer: lightning.Trainer, module: Any) -> None:
        epochs, batches = trainer.max_epochs or 0, int(trainer.num_training_batches)
        total = (epochs + (module.average is not None)) * batches
        self._bar = progress(self.what, total, unit="batches") if trainer.is_global_zero else nullcontext(_silent)
        self._step = module.stepped = self._bar.__enter__()
        if trainer.current_epoch:
            self._step(trainer.current_epoch * batches)

    def on_train_batch_end(self, *_: Any) -> None:
        self._step(1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, module: Any) -> None:
        row = module.end_epoch()
        if self.on_epoch is not None:  # before the checkpoint, which says that nothing of this epoch is missing
            self.on_epoch(row)
        if self.resume_file is not None and not trainer.is_global_zero:
            trainer.save_checkpoint(self.resume_file)  # the first process writes, the others wait for it there
        elif self.resume_file is not None:
            with whole_file(self.resume_file) as part:
                trainer.save_checkpoint(part)

    def on_exception(self, *_: Any) -> None:
        self.teardown()

    def teardown(self, *_: Any, **__: Any) -> None:
        if hasattr(self, "_bar"):
            self._bar.__exit__(None, None, None)
            del self._bar


def _silent(n: int = 1, note: str = "") -> None:
    """Progress of a process that is not the first."""


def fit(
    spec: ExperimentSpec,
    data: PreparedData,
    *,
    network: nn.Module | None = None,
    standardization: tuple[np.ndarray, np.ndarray] | None = None,
    teacher: OnlineTeacher | None = None,
    device: str = "auto",
    what: str = "training",
    before_epoch: Callable[[int], object] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    resume_file: Path | None = None,
    devices: int = 1,
    nodes: int = 1,
) -> Trained:
    """Train by the recipe `spec.train` a fresh network, which may begin with other weights (`spec.init`), or `network`
    with its own `standardization` (mean, std).

    It learns from labels, the teachers `spec.distill`, and `teacher` if one is given, whose weights come out frozen.
    Continues from `resume_file` if it exists; the file is written after each epoch. `before_epoch` is called with its
    number, from 0 on; `on_epoch` sees every finished epoch and may raise to stop. An empty validation part is not
    scored. Several `devices`, or `nodes` with as many each, share every batch by Lightning's DDP: gradients are those
    of the whole batch, BatchNorm in training sees a process's share. Each process returns the same network.
    Raises RunError for a damaged `resume_file`, TrainingError if the training diverges.
    """
    torch.manual_seed(spec.seed)
    frozen: list[nn.Module] = []
    graphed = network is None and spec.model.module is None and devices * nodes == 1
    if network is None:
        network = build(spec.model, spec.input_shape(), len(data.classes))
        if source := take_weights(network, spec, data.classes):
            standardization, frozen = (source.mean, source.std), frozen_parts(network, spec.init.frozen)
    network = laid_out(network, torch_device(device))
    if teacher is not None:
        laid_out(teacher.network, torch_device(device))
    mean, std = standardization or statistics(data.train)
    batches, inputs = training_data(
        spec, data, mean, std, lambda: module.current_epoch, torch_device(device), alone=devices * nodes == 1
    )
    module = Classifier(network, spec, inputs, teacher, frozen, graphed)
    require_grad(module.frozen, False)
    if before_epoch is not None:
        module.before_epoch = before_epoch

    def share() -> tuple[int, int]:
        return trainer.global_rank, trainer.world_size

    module.order = EpochOrder(len(data.train), spec.train.batch_size, spec.seed, lambda: module.current_epoch, share)
    module.rows = EpochOrder(len(data.validation), EVALUATION_BATCH, None, lambda: 0, share)
    several = devices * nodes > 1
    if several and torch_device(device) == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    # a generator of its own: an iterator made before or after an epoch's seed is set must not shift its noise
    own = torch.Generator()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=spec.train.epochs,
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[device],
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if several else "auto",
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
        if resume_file is not None and resume:
            require_whole_checkpoint(resume_file)
        try:
            trainer.fit(
                module,
                DataLoader(batches, batch_sampler=module.order, collate_fn=_as_is, generator=own),
                DataLoader(FeatureBatches(data.validation), batch_sampler=module.rows, collate_fn=_as_is)
                if len(data.validation)
                else None,
                ckpt_path=resume_file if resume else None,
                weights_only=True,
            )
        except SystemExit:  # Lightning's way of passing Ctrl-C on
            raise KeyboardInterrupt from None
    require_grad(module.frozen, True)
    if teacher is not None:
        teacher.network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Trained(laid_out(network.cpu(), "cpu").eval(), mean, std, tuple(module.history))


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
