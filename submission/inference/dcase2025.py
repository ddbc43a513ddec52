"""The inference package of DCASE 2025: a repository that the organisers clone, install and run."""

from __future__ import annotations

import csv
import io
import json
import wave
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import nn

from submission.inference.checkpoint import FILES, packaged, sources
from submission.inference.integer_model import Classifier
from submission.packing.systems import System, combined
from submission.schema import PackageFormat
from system.editions import Edition
from system.scoring.predictions import Predictions

TEMPLATE = FILES / "dcase2025"
DUMMY_RATE = 44_100  # of TAU's recordings


def members(rules: Edition, layout: PackageFormat, system: System) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Path -> content of every file but tables and meta.yaml, and what was measured here: nothing more."""
    team, label = system.team, system.label
    files = {path.name: path.read_bytes() for path in TEMPLATE.iterdir() if path.is_file()}
    files["tests/test_inference.py"] = (TEMPLATE / "tests" / "test_inference.py").read_bytes()
    files[f"{team}/__init__.py"] = (TEMPLATE / "package" / "__init__.py").read_bytes()
    files[f"{team}/{label}.py"] = (TEMPLATE / "package" / "system.py").read_bytes()
    files |= {f"{team}/{folder}/__init__.py": b"" for folder in ("models", "ckpts", "resources")}
    files |= {f"{team}/models/{name}": content for name, content in sources(".").items()}
    files[f"{team}/resources/dummy.wav"] = _dummy(rules.segment_seconds or 1.0)

    predictions = combined({name: part.scored.scenes for name, part in system.parts.items()})
    files[f"{team}/resources/test.csv"] = _test_list(predictions)
    networks = nn.ModuleDict()
    costs = {}
    for name, part in system.parts.items():
        about, tensors = packaged(part, system.classes)
        suffix = f".{name}" if name else ""
        files[f"{team}/ckpts/{label}{suffix}.safetensors"] = safetensors.torch.save(
            tensors, {"about": json.dumps(about)}
        )
        networks[name or "general"] = network = Classifier(about, tensors).model
        size = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
        costs[name] = {"MACs": part.run.complexity["macs_torchinfo"], "Params": size}
    per_device = {device: costs.get(device, costs[""]) for device in rules.complexity_devices}
    largest = {f"max_{key}": max(cost[key] for cost in per_device.values()) for key in ("MACs", "Params")}
    folder = layout.folder.format(label=label)
    files[f"{folder}/model_state_dict.pt"] = _saved(networks.state_dict())
    files[f"{folder}/complexity.json"] = _json({"per_device": per_device, **largest})
    files[f"{folder}/test_accuracy.json"] = _json({"Test Accuracy": round(100 * _accuracy(predictions), 2)})
    return files, {}


def _accuracy(predictions: Predictions) -> float:
    """The share of right rows, as the organisers' script computes it: not the mean over classes."""
    right = [label == found for label, found in zip(predictions.label, predictions.predicted, strict=True) if label]
    return sum(right) / len(right)


def _test_list(predictions: Predictions) -> bytes:
    """The recordings that were tested on, each once."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    writer.writerow(("filename", "scene_label"))
    writer.writerows(dict(zip(predictions.filename, predictions.label, strict=True)).items())
    return buffer.getvalue().encode()


def _dummy(seconds: float) -> bytes:
    """Quiet noise, always the same."""
    noise = np.random.default_rng(0).normal(0, 1000, round(seconds * DUMMY_RATE)).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(DUMMY_RATE)
        file.writeframes(noise.tobytes())
    return buffer.getvalue()


def _saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
