"""Runs as search and quantization leave them, made up in milliseconds."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from submission import archive
from submission.package import Request, pack
from submission.run_parts import RunParts
from submission.validate import validate
from system.editions import SCENES, TAU_DEVICES
from system.evaluation import Predictions, score
from system.files import write_json, write_yaml
from system.spec import ExperimentSpec

PEOPLE: dict[str, Any] = {
    "authors": [
        {
            "lastname": "Müller",
            "firstname": "Ada",
            "email": "ada@example.com",
            "corresponding": True,
            "affiliation": {"abbreviation": "TU", "institute": "Technical University", "location": "Ulm, Germany"},
        },
        {
            "lastname": "Okafor",
            "firstname": "Chi",
            "email": "chi@example.com",
            "affiliation": {"abbreviation": "TU", "institute": "Technical University", "location": "Ulm, Germany"},
        },
    ],
    "name": "Small net",
    "external_datasets": [{"name": "MicIRP", "url": "https://example.com/micirp", "total_audio_length": 1.5}],
}
COMPLEXITY = {
    "params": 120_000,
    "params_nonzero": 119_000,
    "macs": 29_000_000,
    "macs_exact": 28_000_000,
    "macs_torchinfo": 29_000_000,
    "macs_nessi_tflite": 28_500_000,
    "weight_bytes": 118_000,
    "total_bytes": 127_000,
    "peak_activation_bytes": 90_000,
    "within_budget": True,
    "layers": [
        {"kind": "conv", "output": [16, 40, 51], "params": 416, "macs_exact": 816_000},
        {"kind": "linear", "output": [10, 1, 1], "params": 490, "macs_exact": 480},
    ],
}


def made_up(
    classes: tuple[str, ...] = SCENES, devices: tuple[str, ...] = TAU_DEVICES, n: int = 180, seed: int = 0
) -> Predictions:
    """Predictions that are right more often than not; every class on every device."""
    generator = np.random.default_rng(seed)
    truth = np.arange(n) % len(classes)
    logits = generator.normal(size=(n, len(classes)))
    logits[np.arange(n), truth] += 1.5
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predictions(
        classes=classes,
        filename=tuple(f"audio/clip{i}.wav" for i in range(n)),
        segment=np.zeros(n, dtype=np.int64),
        device=tuple(devices[(i // len(classes)) % len(devices)] for i in range(n)),
        label=tuple(classes[i] for i in truth),
        source=tuple(f"city-{i // 7}" for i in range(n)),
        probabilities=probabilities,
    )


MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Write a run folder; keyword arguments change what is in it."""

    def make(
        name: str = "run",
        predictions: Predictions | None = None,
        complexity: dict[str, Any] | None = None,
        backend: str = "brevitas",
        **spec: Any,
    ) -> Path:
        run = tmp_path / name
        predictions = predictions or made_up()
        experiment = ExperimentSpec(**{"budget": "128k_params_30M_macs", **spec}).plain()
        experiment["provenance"] = {"packages": {"torch": "2.11.0", "brevitas": "0.13.4"}, "seed": 0}
        write_yaml(run / "best" / "config.yaml", experiment)
        quant = run / "quant" / backend
        write_json(quant / "scores.json", score(predictions, "test", dict.fromkeys(TAU_DEVICES, "real")))
        write_json(quant / "complexity.json", {**COMPLEXITY, **(complexity or {})})
        write_json(quant / "parity.json", {"n": 180, "argmax_agreement": 1.0})
        predictions.write_csv(quant / "predictions.csv")
        (quant / "int8.onnx").write_bytes(b"not read by these tests")
        return run

    return make


@pytest.fixture
def people(tmp_path: Path) -> Path:
    path = tmp_path / "people.yaml"
    path.write_text(yaml.safe_dump(PEOPLE, allow_unicode=True), encoding="utf-8")
    return path


def write_wav(path: Path, samples: np.ndarray, rate: int = 44_100) -> None:
    """A 16-bit mono wav file."""
    data = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16,
                       b"data", len(data))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + data)


def write_list(root: Path, names: list[str]) -> Path:
    """An evaluation set's list, without its recordings."""
    path = root / "evaluation_setup" / "fold1_test.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("filename\n" + "".join(f"{name}\n" for name in names), encoding="utf-8")
    return root


@pytest.fixture
def eval_root(tmp_path: Path) -> Path:
    return write_list(tmp_path / "evaluation", [f"audio/{i}.wav" for i in range(200)])


def guess(paths: Any, run: RunParts) -> np.ndarray:
    """Stands in for the INT8 model: probabilities that hold an exact 0."""
    values = np.random.default_rng(1).dirichlet(np.ones(len(run.predictions.classes)), size=len(paths))
    values[0, 0] = 0.0
    return values / values.sum(axis=1, keepdims=True)


LABEL = "Muller_TU_task1_1"
FOLDER = f"task1/{LABEL}"
OUTPUT, META = f"{FOLDER}/{LABEL}.output.csv", f"{FOLDER}/{LABEL}.meta.yaml"
Members = dict[str, bytes]


@pytest.fixture
def package(make_run: MakeRun, people: Path, eval_root: Path) -> Members:
    packed = pack(Request("2022", {"": make_run()}, people=people, eval_root=eval_root), guess)
    with zipfile.ZipFile(packed.zip_path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def faults_of(members: Members, path: Path, eval_root: Path | None) -> list[Any]:
    archive.write_zip(path, members)
    return validate(path, "2022", eval_root)
