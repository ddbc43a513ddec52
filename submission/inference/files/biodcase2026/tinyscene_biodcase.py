"""What config_submission.yaml of BioDCASE-Tiny 2026 names: a feature handler and a model around the INT8 network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from integer_model import Classifier


def read_checkpoint(path: str | Path) -> Classifier:
    stored = torch.load(path, map_location="cpu", weights_only=True)
    return Classifier(json.loads(stored["about"]), stored["tensors"])


class FeatureHandler:
    """Recording -> standardized log-mel, as the network was trained with."""

    def __init__(self, checkpoint: str, target_sample_rate: int, **_: Any) -> None:
        self.classifier = read_checkpoint(checkpoint)
        self.rate = target_sample_rate

    def extract(self, x: Any) -> np.ndarray:
        """(n,) samples, of any integer type or from -1 to 1 -> (segments, 1, mel bands, frames) float32"""
        samples = np.asarray(x)
        if np.issubdtype(samples.dtype, np.integer):
            samples = samples / -float(np.iinfo(samples.dtype).min)
        return self.classifier.inputs(self.classifier.samples(samples, self.rate)).numpy()


class Model:
    """The INT8 network."""

    def __init__(self, **_: Any) -> None:
        self.classifier: Classifier | None = None

    def load(self, model_file: str | Path) -> None:
        self.classifier = read_checkpoint(model_file)

    def set_model_to_evaluation_mode(self) -> None:
        """It knows no other."""

    def predict(self, x: Any) -> np.ndarray:
        """Features of one recording -> (1, classes) probabilities in the order of label_dict.yaml."""
        assert self.classifier is not None, "load() comes first"
        (logits,) = self.classifier.logits([torch.as_tensor(np.asarray(x), dtype=torch.float32)])
        return torch.softmax(logits, dim=0)[None].numpy()
