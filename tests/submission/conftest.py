"""Runs as search and quantization leave them, made up in milliseconds."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from submission import archive, run_parts
from submission.checks.fault import Fault
from submission.formats import FORMATS
from submission.packing.package import Packed, Request, pack
from submission.packing.systems import SystemRequest
from submission.run_parts import RunParts
from submission.validate import validate
from system.checkpoint import Checkpoint, save_checkpoint
from system.editions import BIRDS, EDITIONS, FOLD1, SCENES, TAU_DEVICES, Edition
from system.files import write_json, write_yaml
from system.scoring.events import EventPredictions, decode, event_probabilities, score_events
from system.scoring.predictions import Predictions
from system.scoring.scenes import score
from system.spec import DataSpec, ExperimentSpec, FeatureSpec
from tests.tiny import MODEL

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
    "energy_consumption": {"training": 0.02, "inference": 0.003, "baseline_inference": 0.004},
    "coding_agents_ai_used": True,
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


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Predictions that these tests keep are not the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYSCENE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


SOUNDING = ("dog", "rain", "siren")  # of the run on sound events
MakeRun = Callable[..., Path]
NO_GRAPH = b"not read by these tests"
OF_SYSTEM = ("backend", "label", "label_map")


def ask(edition: str, *runs: Path | dict[str, Path], **options: Any) -> Request:
    """One system for each of `runs`, with the same options."""
    own = {key: options.pop(key) for key in OF_SYSTEM if key in options}
    systems = [SystemRequest(run if isinstance(run, dict) else {"": run}, **own) for run in runs]
    return Request(edition, systems, **options)


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
        (quant / "int8.onnx").write_bytes(NO_GRAPH)
        return run

    return make


@pytest.fixture(autouse=True)
def _costs_without_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """The costs of a run from `make_run` are held against no graph, for it has none."""
    read = run_parts.of_graph

    def unless_made_up(onnx: Path, complexity: Any, *others: Any) -> Any:
        return (complexity, None) if onnx.read_bytes() == NO_GRAPH else read(onnx, complexity, *others)

    monkeypatch.setattr(run_parts, "of_graph", unless_made_up)


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


def write_list(root: Path, names: list[str], devices: list[str] | None = None, name: str = FOLD1) -> Path:
    """An evaluation set's list, without its recordings."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = names if devices is None else [f"{name}\t{device}" for name, device in zip(names, devices, strict=True)]
    header = "filename" if devices is None else "filename\tdevice_id"
    path.write_text("".join(f"{row}\n" for row in (header, *rows)), encoding="utf-8")
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


def members_of(packed: Packed) -> Members:
    with zipfile.ZipFile(packed.zip_path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


@pytest.fixture
def package(make_run: MakeRun, people: Path, eval_root: Path) -> Members:
    return members_of(pack(ask("2022", make_run(), people=people, eval_root=eval_root), guess))


def faults_of(members: Members, path: Path, eval_root: Path | None, edition: str = "2022") -> list[Fault]:
    archive.write_zip(path, members)
    return validate(path, edition, eval_root)


# -- a run with a real INT8 graph, and a package of every edition from it ---------------------------------------------

TINY = ExperimentSpec(
    data=DataSpec(segment_seconds=1.0),
    features=FeatureSpec(sample_rate=8000, n_fft=256, win_length=200, hop_length=400, n_mels=16),
    model=MODEL,
)


def made_up_events(classes: tuple[str, ...], n: int = 60) -> EventPredictions:
    """Decisions about clips of five segments of a second, each class in time."""
    generator = np.random.default_rng(0)
    label = generator.random((n, len(classes))) < 0.3
    filename = tuple(f"audio/clip{i // 5}.wav" for i in range(n))
    return EventPredictions(
        classes=classes,
        filename=filename,
        segment=np.arange(n) % 5,
        device=("a",) * n,
        label=label,
        source=filename,
        probabilities=event_probabilities(generator.normal(size=label.shape) + 2.0 * label - 1.0),
        thresholds=np.full(len(classes), 0.5),
        seconds=1.0,
        median_window=3,
    )


def write_answers(quant: Path, classes: tuple[str, ...], devices: tuple[str, ...], events: bool) -> None:
    """Predictions and scores, made up."""
    if events:
        heard = made_up_events(classes)
        annotated = {name: tuple(decode(heard.label[rows], heard.segment[rows], classes, 1.0))
                     for name, _, rows in heard.clips()}  # fmt: skip
        write_json(quant / "scores.json", score_events(heard, annotated, "test", {"a": "real"}))
        heard.write_csv(quant / "predictions.csv")
        heard.write_events(quant / "events.csv")
        return
    predictions = made_up(classes, devices, n=len(classes) * len(devices) * 2)
    write_json(quant / "scores.json", score(predictions, "test", dict.fromkeys(devices, "real")))
    predictions.write_csv(quant / "predictions.csv")


def write_quantized(
    run: Path, classes: tuple[str, ...], devices: tuple[str, ...] = TAU_DEVICES, seed: int = 0, events: bool = False
) -> Path:
    """A run as `system/run.py train` and `quant/run.py ptq` leave it, without training: weights are random."""
    import torch

    from quant.backend import load_backend
    from quant.graph import read_graph
    from quant.parity import int8_complexity
    from system.models.network import build
    from system.models.reparam import deploy

    torch.manual_seed(seed)
    torch.set_num_threads(1)
    shape = TINY.input_shape()
    network = build(TINY.model, shape, len(classes)).eval()
    with torch.no_grad():
        network.get_parameter("head.classify.conv.weight").normal_(std=0.5)
    bands = TINY.features.n_mels
    checkpoint = Checkpoint(
        TINY, classes, np.full(bands, -5, np.float32), np.full(bands, 2, np.float32), network.state_dict()
    )
    save_checkpoint(run / "best/model.safetensors", checkpoint)
    write_yaml(run / "best/config.yaml", TINY.plain())
    quant = run / "quant/brevitas"
    quant.mkdir(parents=True)
    backend = load_backend("brevitas")
    quantized = backend.prepare(deploy(network, TINY.model, shape, len(classes)), TINY.model, shape, len(classes))
    backend.calibrate(quantized, [torch.randn(32, *shape)])
    backend.export_onnx(backend.freeze(quantized), shape, quant / "int8.onnx", 17)
    write_json(quant / "complexity.json", int8_complexity(checkpoint, read_graph(quant / "int8.onnx")))
    write_json(quant / "parity.json", {"validation": {"exported": "calibrated"}})
    write_answers(quant, classes, devices, events)
    return run


@dataclass(frozen=True)
class Example:
    """A valid package of one edition."""

    edition: str
    members: Members = field(repr=False)
    eval_root: Path | None
    runs: dict[str, Path]  # part -> run folder
    label_map: Path | None
    people: Path
    label: str

    def file(self, ending: str) -> str:
        """The path of the first member that ends so."""
        return next(name for name in self.members if name.endswith(ending))


class Examples(dict[str, Example]):
    """Edition -> package; told briefly where hypothesis tells of a failure."""

    def __repr__(self) -> str:
        return f"packages of {', '.join(self)}"


ROWS = 40
INDOOR = {"airport": "indoor", "bus": "transportation", "metro": "transportation", "metro_station": "indoor",
          "park": "outdoor", "public_square": "outdoor", "shopping_mall": "indoor", "street_pedestrian": "outdoor",
          "street_traffic": "outdoor", "tram": "transportation"}  # fmt: skip


@pytest.fixture(scope="session")
def quantized_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs on scenes (a general one and another), on birds, and on sound events."""
    root = tmp_path_factory.mktemp("quantized")
    return {
        "scenes": write_quantized(root / "scenes", SCENES),
        "other": write_quantized(root / "other", SCENES, seed=1),
        "birds": write_quantized(root / "birds", BIRDS, ("a",)),
        "events": write_quantized(root / "events", SOUNDING, ("a",), events=True),
    }


@pytest.fixture(scope="session")
def examples(quantized_runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Examples:
    """Edition -> valid package, for every edition that can be packed."""
    root = tmp_path_factory.mktemp("examples")
    people = root / "people.yaml"
    people.write_text(yaml.safe_dump(PEOPLE, allow_unicode=True), encoding="utf-8")
    maps = {"2020B": root / "map.yaml"}  # editions that are packed from a run on scenes all the same
    maps["2020B"].write_text(yaml.safe_dump(INDOOR))
    made = {
        (SCENES, 0): quantized_runs["scenes"],
        (SCENES, 1): quantized_runs["other"],
        (BIRDS, 0): quantized_runs["birds"],
    }

    def run_of(rules: Edition, seed: int = 0) -> Path:
        """A run on the edition's classes; where it names none, on scenes or sound events."""
        if rules.events:
            return quantized_runs["events"]
        classes = SCENES if rules.key in maps else rules.classes or SCENES
        if (classes, seed) not in made:
            run = root / "runs" / f"{rules.key}-{seed}"
            made[classes, seed] = write_quantized(run, classes, rules.devices or ("a",), seed)
        return made[classes, seed]

    def list_of(rules: Edition) -> Path | None:
        if rules.evaluation_list is None:
            return None
        names = rules.evaluation_names(ROWS) if rules.evaluation_name else [f"{i}.wav" for i in range(ROWS)]
        told = rules.evaluation_devices
        devices = None if told is None else [told[i % len(told)] for i in range(ROWS)]
        folder = root / "evaluation" / rules.key
        return write_list(folder, [f"audio/{name}" for name in names], devices, rules.evaluation_list)

    found = Examples()
    for key in FORMATS:
        rules = EDITIONS[key]
        runs = dict.fromkeys(rules.splits or ("",), run_of(rules))
        if rules.complexity_devices:
            runs[rules.complexity_devices[1]] = run_of(rules, seed=1)
        eval_root = list_of(rules)
        packed = pack(
            ask(key, runs, people=people, eval_root=eval_root, label_map=maps.get(key), out=root / key), guess
        )
        found[key] = Example(key, members_of(packed), eval_root, runs, maps.get(key), people, packed.labels[0])
    return found
