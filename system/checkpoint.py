"""Our checkpoints: one safetensors file with the experiment, the classes and the front end's statistics in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from system import __version__
from system.config import parse
from system.errors import RunError
from system.files import whole_file
from system.models.network import Network, build
from system.spec import ExperimentSpec

MEAN, STD = "features.mean", "features.std"
ABOUT = "about"  # the header's one entry: JSON
OLD_ENTRIES = ("experiment", "classes", "temperature", "thresholds")


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in its train form, with all that is needed to use it."""

    spec: ExperimentSpec
    classes: tuple[str, ...]
    mean: np.ndarray  # (mel bands,) of log-mel over the training part
    std: np.ndarray  # (mel bands,)
    state: dict[str, Tensor]
    thresholds: tuple[float, ...] | None = None  # of each class, where a segment may have several or none
    temperature: float = 1.0  # of the softmax (system/scoring/temperature.py)
    median_window: int = 1  # segments of the median that is compared with the thresholds (system/scoring/events.py)

    def network(self) -> Network:
        """The train-form network with these weights, in evaluation mode."""
        network = build(self.spec.model, self.spec.input_shape(), len(self.classes))
        network.load_state_dict(self.state, strict=True)
        return network.eval()

    @property
    def decoding(self) -> tuple[np.ndarray, int] | None:
        """(classes,) thresholds and the median window, where a segment may have several classes or none."""
        return None if self.thresholds is None else (np.array(self.thresholds), self.median_window)

    def standardize(self, features: np.ndarray) -> np.ndarray:
        """(n, mel bands, frames) log-mel -> (n, 1, mel bands, frames) network input, float32."""
        return ((features - self.mean[:, None]) / self.std[:, None])[:, None].astype(np.float32)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    import torch

    tensors = {f"network.{key}": value.detach().cpu().contiguous() for key, value in checkpoint.state.items()}
    tensors[MEAN] = torch.from_numpy(np.ascontiguousarray(checkpoint.mean, dtype=np.float32))
    tensors[STD] = torch.from_numpy(np.ascontiguousarray(checkpoint.std, dtype=np.float32))
    decided = {"thresholds": checkpoint.thresholds, "median_window": checkpoint.median_window}
    about = {
        "tinyscene": __version__,
        "experiment": checkpoint.spec.plain(),
        "classes": checkpoint.classes,
        "temperature": checkpoint.temperature,
        **(decided if checkpoint.thresholds is not None else {}),
    }
    metadata = {ABOUT: json.dumps(about)}  # one entry: several are written in an order that differs from call to call
    with whole_file(path) as part:
        part.write_bytes(save(tensors, metadata))  # save_file hides which error the system gave


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises RunError for a file that is missing, damaged or not ours."""
    if not path.is_file():
        raise RunError(f"{path} does not exist: nothing is trained here; search/run.py or system/run.py train makes it")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dictionary)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is not a readable safetensors file: {error}") from None
    about = _about(metadata, path)
    if not {"experiment", "classes"} <= set(about) or not {MEAN, STD} <= set(tensors):
        raise RunError(f"{path} is a safetensors file, but not a TinyScene checkpoint (no experiment in its header)")
    return Checkpoint(
        spec=parse(ExperimentSpec, about["experiment"], str(path)),
        classes=tuple(about["classes"]),
        mean=tensors.pop(MEAN).numpy(),
        std=tensors.pop(STD).numpy(),
        state={key.removeprefix("network."): value for key, value in tensors.items()},
        thresholds=tuple(about["thresholds"]) if "thresholds" in about else None,
        temperature=float(about.get("temperature", 1.0)),
        median_window=int(about.get("median_window", 1)),  # older files know no medians
    )


def _about(metadata: dict[str, str], path: Path) -> dict[str, Any]:
    """What a header tells besides the tensors; files of before November 2026 have an entry for each part of it."""
    try:
        if ABOUT in metadata:
            return dict(json.loads(metadata[ABOUT]))
        return {key: json.loads(metadata[key]) for key in OLD_ENTRIES if key in metadata}
    except (ValueError, TypeError) as error:
        raise RunError(f"{path}: its header cannot be read as JSON: {error}") from None
