"""Training of one network on a prepared data set.

What a recipe is made of stands in `system/learning` and `system/augment`; the default one is the KT report's (paper
002, Section 2.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from system.dataset import PreparedData, Segments
from system.learning.batches import EpochOrder, FeatureBatches, standardized, statistics
from system.learning.inputs import training_data
from system.learning.layout import laid_out, torch_device
from system.learning.loop import Classifier, Epoch, OnlineTeacher, Report, run_epochs
from system.learning.optimizers import require_grad
from system.learning.pretrained import frozen_parts, take_weights
from system.models.network import build
from system.spec import ExperimentSpec

EVALUATION_BATCH = 256


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
        return module.global_rank, module.trainer.world_size

    module.order = EpochOrder(len(data.train), spec.train.batch_size, spec.seed, lambda: module.current_epoch, share)
    module.rows = EpochOrder(len(data.validation), EVALUATION_BATCH, None, lambda: 0, share)
    if devices * nodes > 1 and torch_device(device) == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // devices))
    validation = FeatureBatches(data.validation) if len(data.validation) else None
    report = Report(what, on_epoch, resume_file)
    run_epochs(module, batches, validation, report, device=device, devices=devices, nodes=nodes)
    require_grad(module.frozen, True)
    if teacher is not None:
        teacher.network.to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return Trained(laid_out(network.cpu(), "cpu").eval(), mean, std, tuple(module.history))


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
