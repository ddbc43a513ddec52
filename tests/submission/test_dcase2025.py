"""The inference package of 2025: the four functions, the official count, and its own scripts and tests."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchinfo

from submission.checks.fault import Fault
from submission.packing.package import pack
from system.editions import DEVICES_2025, EDITIONS, SCENES
from tests.submission.conftest import (
    ROWS,
    Example,
    Examples,
    Members,
    ask,
    faults_of,
    members_of,
    write_list,
    write_wav,
)

LABEL, TEAM = "Muller_TU_task1_1", "Muller_TU_task1"
RATE = 8000
DEVICES = EDITIONS["2025"].evaluation_devices or ()


def unpacked(members: Members, root: Path) -> Path:
    for name, content in members.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of all devices, listed with their device."""
    root = tmp_path_factory.mktemp("evaluation2025")
    devices = [DEVICES[i % len(DEVICES)] for i in range(14)]
    write_list(root, [f"audio/{i}.wav" for i in range(14)], devices)
    generator = np.random.default_rng(3)
    for i in range(14):
        write_wav(root / f"audio/{i}.wav", 0.03 * (1 + i) * generator.normal(size=RATE), RATE)
    return root


@pytest.fixture(scope="module")
def repository(
    examples: Examples, quantized_runs: dict[str, Path], evaluation: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A package as the organisers clone it: a general model, and one of its own for device b."""
    root = tmp_path_factory.mktemp("package2025")
    runs = {"": quantized_runs["scenes"], "b": quantized_runs["other"]}
    packed = pack(ask("2025", runs, people=examples["2025"].people, eval_root=evaluation, out=root / "out"))
    return unpacked(members_of(packed), root / "clone")


@pytest.fixture
def system(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(repository))
    yield importlib.import_module(f"{TEAM}.{LABEL}")
    for name in [name for name in sys.modules if name.startswith(TEAM)]:
        del sys.modules[name]


def test_the_four_functions(system: Any, repository: Path, evaluation: Path) -> None:
    paths = [str(evaluation / f"audio/{i}.wav") for i in range(4)]
    devices = ["a", "b", "s9", "unknown"]
    logits, classes = system.predict(file_paths=paths, device_ids=devices, model_file_path=None, use_cuda=False)
    assert classes == list(SCENES)
    assert [x.shape for x in logits] == [(10,)] * 4
    model = system.load_model()
    inputs = system.load_inputs(paths, devices, model)
    assert [x.shape for x in inputs] == [(1, 1, 16, 21)] * 4
    assert system.get_model_for_device(model, "s9") is system.get_model_for_device(model, "a")
    assert system.get_model_for_device(model, "b") is not system.get_model_for_device(model, "a")
    backwards, _ = system.predict(paths[::-1], devices[::-1])
    assert all(torch.equal(x, y) for x, y in zip(logits, backwards[::-1], strict=True))
    other, _ = system.predict(paths, devices, str(repository / TEAM / "ckpts" / f"{LABEL}.b.safetensors"))
    assert torch.equal(other[1], logits[1])
    assert not torch.equal(other[0], logits[0])
    with pytest.raises(ValueError, match="a device for each"):
        system.predict(paths, devices[:2])


def test_the_table_is_what_the_package_predicts(system: Any, repository: Path, evaluation: Path) -> None:
    """pack.py used ONNX Runtime, and the model of each device."""
    rows = list(csv.DictReader((repository / f"predictions/{LABEL}/output.csv").open(), delimiter="\t"))
    assert [row["filename"] for row in rows] == [f"audio/{i}.wav" for i in range(14)]
    devices = [DEVICES[i % len(DEVICES)] for i in range(14)]
    logits, classes = system.predict([str(evaluation / row["filename"]) for row in rows], devices)
    found = torch.softmax(torch.stack(logits), dim=1).numpy()
    told = np.array([[float(row[name]) for name in classes] for row in rows])
    assert np.abs(found - told).max() < 1e-5


def test_costs_per_device_are_the_official_ones(system: Any, repository: Path) -> None:
    told = json.loads((repository / f"predictions/{LABEL}/complexity.json").read_text())
    assert list(told["per_device"]) == list(DEVICES_2025)
    model = system.load_model()
    dummy = str(repository / TEAM / "resources/dummy.wav")
    sizes = {torch.float32: 4, torch.int8: 1, torch.uint8: 1, torch.int32: 4}
    for device in ("a", "b", "s10"):
        (features,) = system.load_inputs([dummy], [device], model)
        network = system.get_model_for_device(model, device)
        profile = torchinfo.summary(network, input_size=tuple(features.shape), verbose=0)
        size = sum(p.numel() * sizes[p.dtype] for p in network.parameters())
        assert told["per_device"][device] == {"MACs": profile.total_mult_adds, "Params": size}
        assert size > 0
    assert told["max_Params"] == max(cost["Params"] for cost in told["per_device"].values())


def test_test_accuracy_and_list_are_those_of_the_runs(repository: Path, quantized_runs: dict[str, Path]) -> None:
    def rows(run: str) -> list[dict[str, str]]:
        path = quantized_runs[run] / "quant/brevitas/predictions.csv"
        return list(csv.DictReader(path.open()))

    mixed = [b if a["device"] == "b" else a for a, b in zip(rows("scenes"), rows("other"), strict=True)]
    accuracy = 100 * np.mean([row["label"] == row["predicted"] for row in mixed])
    told = json.loads((repository / f"predictions/{LABEL}/test_accuracy.json").read_text())
    assert told == {"Test Accuracy": round(float(accuracy), 2)}
    listed = list(csv.DictReader((repository / TEAM / "resources/test.csv").open(), delimiter="\t"))
    assert {row["filename"]: row["scene_label"] for row in listed} == {row["filename"]: row["label"] for row in mixed}


def call(repository: Path, *words: str) -> str:
    """Run Python in the clone, where nothing of this project can be imported."""
    done = subprocess.run(
        [sys.executable, "-P", *words], cwd=repository, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(repository)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests(repository: Path) -> None:
    assert "5 passed" in call(repository, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")


@pytest.mark.slow
def test_its_complexity_script(repository: Path) -> None:
    path = repository / f"predictions/{LABEL}/complexity.json"
    before = path.read_text()
    told = call(repository, "test_complexity.py", "--submission_name", TEAM, "--submission_index", "1")
    assert "within the limits" in told
    assert path.read_text() == before


@pytest.mark.slow
def test_it_is_installed_and_evaluated_as_the_organisers_do(repository: Path, evaluation: Path, tmp_path: Path) -> None:
    """pip into a fresh environment that borrows this one's packages, then evaluate_submission.py."""
    import site

    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv/bin/python")
    environment = {**os.environ, "PYTHONPATH": site.getsitepackages()[0], "OMP_NUM_THREADS": "1"}
    install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(install, cwd=repository, env=environment, check=True)
    rows = list(csv.DictReader((repository / TEAM / "resources/test.csv").open(), delimiter="\t"))[:20]
    development = tmp_path / "development"
    for row in rows:
        write_wav(development / row["filename"], 0.1 * np.random.default_rng(4).normal(size=RATE), RATE)
    (development / "meta.csv").write_text(
        "filename\tscene_label\tsource_label\n" + "".join(f"{r['filename']}\t{r['scene_label']}\ta\n" for r in rows)
    )
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "evaluate_submission.py").write_bytes((repository / "evaluate_submission.py").read_bytes())
    installed = next((tmp_path / "venv").glob(f"lib/*/site-packages/{TEAM}/resources/test.csv"))
    installed.write_text("filename\tscene_label\n" + "".join(f"{r['filename']}\t{r['scene_label']}\n" for r in rows))
    done = subprocess.run(
        [python, "evaluate_submission.py", "--submission_name", TEAM, "--submission_index", "1",
         "--dev_set_dir", str(development), "--eval_set_dir", str(evaluation)],
        cwd=place, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    handed_in = list(csv.DictReader((repository / f"predictions/{LABEL}/output.csv").open(), delimiter="\t"))
    again = list(csv.DictReader((place / f"predictions/{LABEL}/output.csv").open(), delimiter="\t"))
    assert [row["scene_label"] for row in again] == [row["scene_label"] for row in handed_in]
    assert all(
        abs(float(a[name]) - float(b[name])) < 1e-5 for a, b in zip(again, handed_in, strict=True) for name in SCENES
    )


def test_without_the_list_only_the_number_of_recordings_is_known(
    examples: Examples, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = replace(EDITIONS["2025"], evaluation_rows=ROWS)
    monkeypatch.setattr(EDITIONS, "_items", {**EDITIONS._items, "2025": rules})
    members, name = examples["2025"].members, f"predictions/{LABEL}/output.csv"
    from_1 = {**members, name: members[name].replace(b"\naudio/0.wav", b"\naudio/%d.wav" % ROWS)}
    assert faults_of(from_1, tmp_path / "x.zip", None, "2025") == []
    short = {**members, name: members[name].rpartition(b"\naudio/")[0] + b"\n"}
    (fault,) = faults_of(short, tmp_path / "x.zip", None, "2025")
    assert fault.message == f"expected {ROWS} different recordings, found {ROWS - 1}"


# -- faults -----------------------------------------------------------------------------------------------------------


def edited(key: str, change: Callable[[Any], None]) -> Callable[[Example], Members]:
    """Change a JSON file of the example."""

    def mutate(example: Example) -> Members:
        name = example.file(key)
        value = json.loads(example.members[name])
        change(value)
        return {name: json.dumps(value, indent=2).encode()}

    return mutate


def costs(device: str, key: str, value: Any) -> Callable[[Any], None]:
    return lambda told: told["per_device"][device].__setitem__(key, value)


COSTS, MODULE = f"predictions/{LABEL}/complexity.json", f"{TEAM}/{LABEL}.py"
FAULTS: dict[str, tuple[Callable[[Example], Members], str, str]] = {
    "zero bytes, as of packed parameters": (edited(COSTS, costs("a", "Params", 0)), COSTS, "packed parameters"),
    "other bytes than the checkpoint's": (edited(COSTS, costs("a", "Params", 5)), COSTS, f"ckpts/{LABEL}.safe"),
    "other bytes than the device's": (edited(COSTS, costs("b", "Params", 5)), COSTS, ".b.safetensors"),
    "too many MACs": (edited(COSTS, costs("c", "MACs", 30_000_001)), COSTS, "(1 too many)"),
    "no number": (edited(COSTS, costs("c", "MACs", "many")), COSTS, "whole number above 0"),
    "a device missing": (edited(COSTS, lambda told: told["per_device"].pop("s7")), COSTS, "device s7 is missing"),
    "a device of no list": (
        edited(COSTS, lambda told: told["per_device"].update(x={"MACs": 1, "Params": 1})), COSTS, "one of a, b",
    ),
    "not the largest": (edited(COSTS, lambda told: told.update(max_MACs=1)), COSTS, "the largest of the devices"),
    "no mapping": (edited(COSTS, lambda told: told.update(per_device=3)), COSTS, "expected a mapping"),
    "not JSON": (lambda example: {COSTS: b"{\n'a': 1}"}, COSTS, "not valid JSON"),
    "a list": (lambda example: {COSTS: b"[]"}, COSTS, "expected a JSON object"),
    "accuracy": (
        edited("test_accuracy.json", lambda told: told.update({"Test Accuracy": 101})),
        f"predictions/{LABEL}/test_accuracy.json", "from 0 to 100",
    ),
    "a function missing": (
        lambda example: {MODULE: example.members[MODULE].replace(b"def load_inputs", b"def load_input")}, MODULE,
        "does not define the function load_inputs",
    ),
    "not Python": (lambda example: {MODULE: b"def predict(:\n"}, MODULE, "not valid Python"),
    "Python of another encoding than told": (
        lambda example: {MODULE: b"# coding: utf-16\n" + example.members[MODULE]}, MODULE, "not valid Python",
    ),
    "not UTF-8": (lambda example: {MODULE: example.members[MODULE] + b"#\xff\n"}, MODULE, "not valid Python"),
    "nested too deeply": (lambda example: {MODULE: b"-" * 200_000 + b"1"}, MODULE, "not valid Python: it is nested"),
    "no safetensors": (
        lambda example: {f"{TEAM}/ckpts/{LABEL}.safetensors": b"\xff" * 40}, f"{TEAM}/ckpts/{LABEL}.safetensors",
        "not a safetensors file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, examples: Examples, tmp_path: Path) -> None:
    mutate, file, words = FAULTS[name]
    example = examples["2025"]
    members = {**example.members, **mutate(example)}
    found = faults_of(members, tmp_path / "x.zip", example.eval_root, "2025")
    hits: list[Fault] = [fault for fault in found if fault.file == file and words in fault.message]
    assert hits, found
    if file == COSTS and name not in ("no mapping", "a list", "a device missing"):
        text = io.StringIO(members[COSTS].decode()).readlines()[(hits[0].line or 1) - 1]
        assert any(key in text for key in ('"a"', '"b"', '"c"', '"x"', "max_", "'a'")), text


@pytest.mark.parametrize("start", [b"\xef\xbb\xbf", b"# coding: latin-1\n# \xfc\n"], ids=["byte order mark", "Latin-1"])
def test_code_is_read_as_python_reads_it(examples: Examples, tmp_path: Path, start: bytes) -> None:
    example = examples["2025"]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        content = start + example.members[MODULE] + b"\nTEXT = '\\\x1b'\n"
        assert faults_of({**example.members, MODULE: content}, tmp_path / "x.zip", example.eval_root, "2025") == []
    assert said == []


def test_fifty_thousand_devices_are_told_as_a_number(examples: Examples, tmp_path: Path) -> None:
    """Each was looked up in the whole file, and held against a checkpoint that was unpacked for it."""
    example = examples["2025"]
    strange = {f"x{number}": 1 for number in range(50_000)}
    members = {**example.members, **edited(COSTS, lambda told: told["per_device"].update(strange))(example)}
    started = time.process_time()
    found = faults_of(members, tmp_path / "x.zip", example.eval_root, "2025")
    assert time.process_time() - started < 10
    assert [fault.message.partition(":")[0] for fault in found[:-1]] == [f"per_device.x{n}" for n in range(20)]
    assert found[-1].message == "per_device: 49,980 more devices that are not asked for"
