"""Temperature scaling (Guo et al., On Calibration of Modern Neural Networks, 2017, Section 4.2).

All logits are divided by one number, fitted on the validation part alone. The log loss falls where a network is too
sure of itself, or not sure enough; the most probable class stays. On a small validation part the best number may be
chance: it is used only if numbers fitted on some sources lower the loss of the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp

LEAST, GREATEST = 0.2, 20.0  # where every segment is decided rightly, the loss falls towards a temperature of 0
FOLDS = 5  # of the sources
DIGITS = 4


class Fitted(NamedTuple):
    """A temperature, and losses of the validation part in nats."""

    value: float
    log_loss: float
    log_loss_crossed: float  # of each segment at the temperature fitted without its source
    log_loss_at_1: float

    @property
    def helps(self) -> bool:
        return self.log_loss_crossed < self.log_loss_at_1


def fit_temperature(logits: np.ndarray, label: np.ndarray, source: np.ndarray) -> Fitted:
    """The temperature between `LEAST` and `GREATEST` at which the log loss is least.

    logits (n, classes), label (n,) class indices, source (n,) names. The loss is convex in the temperature's inverse.
    """
    fold = np.unique(source, return_inverse=True)[1] % FOLDS
    crossed = losses(logits, label)  # where there is but one source
    for number in np.unique(fold) if fold.any() else ():
        held_out = fold == number
        without = _least(logits[~held_out], label[~held_out])
        crossed[held_out] = losses(logits[held_out], label[held_out], without)
    value = _least(logits, label)
    return Fitted(
        value, *(float(np.mean(loss)) for loss in (losses(logits, label, value), crossed, losses(logits, label)))
    )


def _least(logits: np.ndarray, label: np.ndarray) -> float:
    found = minimize_scalar(
        lambda sharpness: np.mean(losses(logits, label, 1 / sharpness)),
        bounds=(1 / GREATEST, 1 / LEAST),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return round(1 / float(found.x), DIGITS)


def losses(logits: np.ndarray, label: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """(n,) -ln of the softmax at the true class, in nats, of logits (n, classes) and label (n,) class indices."""
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    return logsumexp(scaled, axis=1) - scaled[np.arange(len(label)), label]
