"""The package of BioDCASE-Tiny 2026, run the way the organisers' inference handler runs it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from quant.graph import session
from submission.packing.package import pack
from submission.packing.predict import accumulate
from submission.run_parts import load_run
from system.dataset import stream_features
from system.editions import BIRDS, SCENES
from system.errors import ConfigError, RunError
from tests.submission.conftest import TINY, Examples, Members, ask, faults_of, members_of, write_quantized, write_wav

LABEL = "Muller_task3_1"
RATE = 24_000


def test_the_organisers_handler_runs_it(
    examples: Examples, quantized_runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files of the model go to its folder, all others flat beside the organisers' own."""
    for name, content in examples["biodcase2026"].members.items():
        file = name.removeprefix(f"{LABEL}/")
        path = tmp_path / (file if file.startswith("your_submission_model/") else Path(file).name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    config = yaml.safe_load(Path("config_submission.yaml").read_text())["inference_handler"]
    labels = yaml.safe_load(Path(config["label_dict_yaml_path"]).read_text())["label_dict"]
    assert list(labels) == list(BIRDS)
    try:
        told = config["feature_handler"]
        handler = getattr(importlib.import_module(told["module"]), told["attr"])(*told["args"], **told["kwargs"])
        noise = np.random.default_rng(0).normal(size=3 * RATE)
        shape = handler.extract(noise).shape
        assert shape == (3, 1, 16, 21)
        told = config["model"]
        model = getattr(importlib.import_module(told["module"]), told["attr"])(
            *told["args"],
            **told["kwargs"],
            input_shape=list(shape[1:]),
            num_classes=len(labels),
            is_inference_model=True,
        )
        (file,) = Path(config["model_dir"]).glob("*" + config["saved_model_extension"])
        model.load(file)
        model.set_model_to_evaluation_mode()
        wav = tmp_path / "bird.wav"
        write_wav(wav, 0.1 * noise, RATE)
        found = model.predict(handler.extract(np.clip(0.1 * noise, -1, 1) * 32767 // 1 / 32768))
        whole = model.predict(handler.extract((np.clip(0.1 * noise, -1, 1) * 32767).astype(np.int16)))
    finally:
        for name in ("tinyscene_biodcase", "integer_model", "integer"):
            sys.modules.pop(name, None)
    assert found.shape == (1, len(BIRDS))
    assert found.sum() == pytest.approx(1)
    run = load_run(quantized_runs["birds"], "brevitas")
    batches = stream_features([wav], TINY.features, 1.0)
    inputs = ((rows, ((x + 5) / 2)[:, None].astype(np.float32)) for rows, x in batches)
    assert np.abs(whole - accumulate(inputs, session(run.onnx), 1)).max() < 1e-6


def replaced(name: str, content: bytes) -> Callable[[Members], Members]:
    return lambda members: {**members, f"{LABEL}/{name}": content}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (replaced("your_submission_model/label_dict.yaml", b"label_dict: {Mallard: 0}"), "numbered from 0"),
        (replaced("your_submission_model/label_dict.yaml", b"- 1"), "expected a mapping"),
        (replaced("your_submission_model/second.pth", b"x"), "exactly one file"),
        (lambda m: {k: v for k, v in m.items() if not k.endswith(".pth")}, "exactly one file"),
        (replaced("your_submission_model/notes.txt", b"x"), "not part of a package"),
    ],
)
def test_faults(change: Callable[[Members], Members], words: str, examples: Examples, tmp_path: Path) -> None:
    found = faults_of(change(examples["biodcase2026"].members), tmp_path / "x.zip", None, "biodcase2026")
    assert any(words in fault.message for fault in found), found


def test_a_tflite_file_and_generated_code_are_let_through(examples: Examples, tmp_path: Path) -> None:
    members = dict(examples["biodcase2026"].members)
    members[f"{LABEL}/your_submission_model/{LABEL}.tflite"] = b"x"
    members[f"{LABEL}/your_generated_code/src/model.cpp"] = b"x"
    assert faults_of(members, tmp_path / "x.zip", None, "biodcase2026") == []


def test_classes_that_a_run_does_not_know_are_told_as_such(examples: Examples, tmp_path: Path) -> None:
    run = write_quantized(tmp_path / "scenes", SCENES)
    path = tmp_path / "map.yaml"
    pairs = dict(zip(SCENES, BIRDS, strict=False))
    path.write_text(yaml.safe_dump(pairs))
    request = ask("biodcase2026", run, people=examples["biodcase2026"].people, label_map=path)
    with pytest.raises(ConfigError, match=r"no class is mapped to Tawny Owl \(\(none\): \[Tawny Owl\] if so meant\)"):
        pack(request)
    path.write_text(yaml.safe_dump({**pairs, "(none)": ["Tawny Owl"]}))
    meta = next(value for name, value in members_of(pack(request)).items() if name.endswith("meta.yaml"))
    assert 0 < yaml.safe_load(meta)["results"]["roc_auc_inference"] < 1
    path.write_text(yaml.safe_dump({**pairs, "(none)": "Tawny Oul"}))
    with pytest.raises(ConfigError, match="did you mean 'Tawny Owl'"):
        pack(request)


def test_a_run_that_needs_a_higher_rate_is_refused(examples: Examples, tmp_path: Path) -> None:
    run = write_quantized(tmp_path / "birds", BIRDS, ("a",))
    config = yaml.safe_load((run / "best/config.yaml").read_text())
    config["features"]["sample_rate"] = 32_000
    (run / "best/config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match="trained at 32000 Hz, but recordings have 24000 Hz"):
        pack(ask("biodcase2026", run, people=examples["biodcase2026"].people))
