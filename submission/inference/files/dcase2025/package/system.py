"""A submitted system: the four functions that the scripts of DCASE 2025 Task 1 call.

Its checkpoints carry its name: NAME.safetensors is the general model, NAME.DEVICE.safetensors that of one device.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import soundfile
import torch
from safetensors import safe_open
from torch import Tensor, nn

from .models.integer_model import Classifier

NAME = Path(__file__).stem
CHECKPOINTS = Path(__file__).with_name("ckpts")
GENERAL = "general"
BATCH = 64  # recordings
TOLD = 5000  # recordings after which progress is told


class System(nn.Module):
    """`classifiers` by device, the general one among them; `model` holds their networks alone."""

    def __init__(self, classifiers: dict[str, Classifier]) -> None:
        super().__init__()
        self.classifiers = nn.ModuleDict(classifiers)
        self.model = nn.ModuleDict({name: classifier.model for name, classifier in classifiers.items()})
        self.classes = classifiers[GENERAL].classes

    def classifier(self, device_id: str) -> Classifier:
        """The classifier of a device, or the general one where it has none."""
        chosen = self.classifiers[device_id if device_id in self.classifiers else GENERAL]
        assert isinstance(chosen, Classifier)
        return chosen


def load_model(model_file_path: str | None = None) -> System:
    """The system with its packaged checkpoints, or with a general model from another file."""
    if model_file_path is not None:
        return System({GENERAL: read_checkpoint(model_file_path)})
    classifiers = {}
    for path in sorted(CHECKPOINTS.glob(f"{NAME}*.safetensors")):
        device = path.name.removeprefix(NAME).removesuffix(".safetensors").strip(".")
        classifiers[device or GENERAL] = read_checkpoint(path)
    return System(classifiers)


def read_checkpoint(path: str | Path) -> Classifier:
    """The header of a checkpoint holds the program of the network, the front end and the classes."""
    with safe_open(str(path), framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        return Classifier(json.loads(file.metadata()["about"]), tensors)


def load_inputs(file_paths: Sequence[str], device_ids: Sequence[str], model: System) -> list[Tensor]:
    """Network input of each recording: (segments, 1, mel bands, frames) float32."""

    def one(item: tuple[str, str]) -> Tensor:
        path, device = item
        classifier = model.classifier(device)
        return classifier.inputs(classifier.samples(*soundfile.read(path, dtype="float32")))

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(one, zip(file_paths, device_ids, strict=True)))


def get_model_for_device(model: System, device_id: str) -> nn.Module:
    """The network that classifies recordings of a device, alone."""
    return model.classifier(device_id).model


def predict(
    file_paths: Sequence[str],
    device_ids: Sequence[str],
    model_file_path: str | None = None,
    use_cuda: bool = False,
) -> tuple[list[Tensor], list[str]]:
    """Logits (classes,) of each recording, in the order given, and the order of the classes."""
    if len(file_paths) != len(device_ids):
        raise ValueError(f"expected a device for each of {len(file_paths)} recordings, found {len(device_ids)}")
    model = load_model(model_file_path).to("cuda" if use_cuda and torch.cuda.is_available() else "cpu")
    logits: list[Tensor | None] = [None] * len(file_paths)
    done = 0
    for device, rows in _batches(device_ids, model):
        inputs = load_inputs([file_paths[row] for row in rows], [device] * len(rows), model)
        for row, result in zip(rows, model.classifier(device).logits(inputs), strict=True):
            logits[row] = result.float().cpu()
        done += len(rows)
        if done // TOLD > (done - len(rows)) // TOLD:
            print(f"predicted {done}/{len(file_paths)} recordings", file=sys.stderr)
    return [result for result in logits if result is not None], list(model.classes)


def _batches(device_ids: Sequence[str], model: System) -> Iterator[tuple[str, list[int]]]:
    """Positions of at most `BATCH` recordings that one classifier hears."""

    def heard(row: int) -> str:
        return device_ids[row] if device_ids[row] in model.classifiers else GENERAL

    for device, group in groupby(sorted(range(len(device_ids)), key=heard), key=heard):
        rows = list(group)
        for start in range(0, len(rows), BATCH):
            yield device, rows[start : start + BATCH]
