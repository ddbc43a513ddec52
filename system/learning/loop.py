"""The loop: steps, epochs, what is kept of the weights, and the checkpoint to go on from; all that knows Lightning.

Every epoch seeds its own order and noise, so that a resumed training ends with the same weights.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as lightning
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader, Dataset

from system.errors import TrainingError
from system.files import require_whole_checkpoint, whole_file
from system.learning.averaging import average_of, is_taken, take_average
from system.learning.batches import EpochOrder
from system.learning.graphs import Graphed
from system.learning.inputs import Inputs
from system.learning.optimizers import frozen_norms, optimizer_of
from system.learning.schedules import learning_rate_factor
from system.progress import progress
from system.spec import ExperimentSpec

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Epoch(NamedTuple):
    """One row of history.csv; losses in nats."""

    epoch: int
    train_loss: float
    log_loss: float  # of the validation part, NaN without one; of events the mean binary cross-entropy
    accuracy: float  # macro, of the validation part
    seconds: float
    clips_per_second: float


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
        loss = loss * self.order.weight(index)  # DDP averages over processes, also where their shares are uneven
        self._losses.append(loss.detach())
        return loss

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


def run_epochs(
    module: Classifier, training: Dataset, validation: Dataset | None, report: Report, *, device: str, devices: int,
    nodes: int,
) -> None:  # fmt: skip
    """Train for `spec.train.epochs`, from `report.resume_file` on where it exists, on `devices` of each of `nodes`.

    Both data sets give whole batches, in the orders of `module`. Raises RunError for a damaged file.
    """
    several = devices * nodes > 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=module.spec.train.epochs,
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
            callbacks=[report],
        )
        file = report.resume_file
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.is_file():
                require_whole_checkpoint(file)
        # a generator of its own: an iterator made before or after an epoch's seed is set must not shift its noise
        own = torch.Generator()
        try:
            trainer.fit(
                module,
                DataLoader(training, batch_sampler=module.order, collate_fn=_as_is, generator=own),
                None if validation is None else DataLoader(validation, batch_sampler=module.rows, collate_fn=_as_is),
                ckpt_path=file if file is not None and file.is_file() else None,
                weights_only=True,
            )
        except SystemExit:  # Lightning's way of passing Ctrl-C on
            raise KeyboardInterrupt from None


def _as_is(batch: Any) -> Any:
    return batch
