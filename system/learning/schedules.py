"""Schedules of the learning rate: the share of its highest value at each step of a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from system.spec import TrainSpec

ONE_CYCLE_START, ONE_CYCLE_END = 1 / 25, 1 / 25e4  # of the highest, as in PyTorch's OneCycleLR
ROUNDING = 1e-6  # of the training: a share such as 2/3 of it, written in decimals, is still met at its step


class Time(NamedTuple):
    """Where a training is, in steps."""

    step: int
    warmup: float
    total: int

    def after_warmup(self) -> float:
        """Share of what follows the warm-up that is done."""
        return min(1.0, (self.step - self.warmup) / max(1.0, self.total - self.warmup))


def cosine(time: Time, spec: TrainSpec) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * time.after_warmup()))


def one_cycle(time: Time, spec: TrainSpec) -> float:
    """Half a cosine up from 1/25, half a cosine down (Smith and Topin 2018); the momentum stays."""
    if time.step < time.warmup:
        rise = 0.5 * (1 - math.cos(math.pi * time.step / time.warmup))
        return ONE_CYCLE_START + (1 - ONE_CYCLE_START) * rise
    return ONE_CYCLE_END + (1 - ONE_CYCLE_END) * cosine(time, spec)


def step(time: Time, spec: TrainSpec) -> float:
    """1, and `milestone_factor` times as much after each milestone."""
    done = time.step / time.total + ROUNDING
    return spec.milestone_factor ** sum(done >= milestone for milestone in spec.milestones)


def plateau(time: Time, spec: TrainSpec) -> float:
    """1 up to the first milestone, then a line down to `milestone_factor` at the second."""
    begin, end = spec.milestones
    fallen = (time.step / time.total - begin) / (end - begin)
    return 1 - min(1.0, max(0.0, fallen)) * (1 - spec.milestone_factor)


SCHEDULES: dict[str, Callable[[Time, TrainSpec], float]] = {
    "cosine": cosine,
    "one_cycle": one_cycle,
    "step": step,
    "plateau": plateau,
}
LINEAR_WARMUP = frozenset(SCHEDULES) - {"one_cycle"}  # which has a rise of its own


def learning_rate_factor(step: int, steps_per_epoch: int, spec: TrainSpec) -> float:
    """The factor of a step, counted from 0: linear from 0 over the warm-up, then the schedule's."""
    time = Time(step, spec.warmup() * steps_per_epoch, spec.epochs * steps_per_epoch)
    if step < time.warmup and spec.schedule in LINEAR_WARMUP:
        return min(1.0, (step + 1) / time.warmup)  # a warm-up may end within a step
    return SCHEDULES[spec.schedule](time, spec)
