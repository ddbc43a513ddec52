"""Packages of every kind are valid when reopened."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from submission import archive
from submission.packing.package import pack
from submission.packing.systems import SystemRequest
from submission.validate import validate
from system.editions import SCENES, TAU_DEVICES
from system.files import write_json
from system.scoring.predictions import Predictions
from tests.submission.conftest import MakeRun, ask, guess, made_up, members_of

ROOT = Path(__file__).resolve().parents[2]
LABEL = "Muller_TU_task1_1"
ANIMALS = ("cat", "dog", "hen", "no")


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode()), delimiter="\t"))


def test_2022_round_trip(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    run = make_run()
    packed = pack(ask("2022", run, people=people, eval_root=eval_root), guess)
    assert packed.zip_path == run / "submission" / f"{LABEL}.zip"
    assert validate(packed.zip_path, "2022", eval_root) == []
    files = members_of(packed)
    assert sorted(files) == [f"task1/{LABEL}/{LABEL}.meta.yaml", f"task1/{LABEL}/{LABEL}.output.csv"]
    rows = table(files[f"task1/{LABEL}/{LABEL}.output.csv"])
    assert list(rows[0]) == ["filename", "scene_label", *SCENES]
    assert [row["filename"] for row in rows] == [f"{i}.wav" for i in range(200)]
    assert min(float(row[name]) for row in rows for name in SCENES) > 0

    meta = yaml.safe_load(files[f"task1/{LABEL}/{LABEL}.meta.yaml"])
    scores = json.loads((run / "quant/brevitas/scores.json").read_text())
    results = meta["results"]["development_dataset"]
    assert results["overall"]["accuracy"] == pytest.approx(100 * scores["accuracy"], abs=1e-3)
    assert results["overall"]["logloss"] == pytest.approx(scores["log_loss"], abs=1e-5)
    assert list(results["class_wise"]) == list(SCENES)
    assert list(results["device_wise"]) == list(TAU_DEVICES)
    assert meta["system"]["complexity"] == {
        "total_parameters": 120_000,
        "total_parameters_non_zero": 119_000,
        "memory_use": 127_000,
        "macs": 29_000_000,
    }
    assert meta["system"]["description"]["input_sampling_rate"] == "22.05kHz"
    assert "torch 2.11.0" in meta["system"]["description"]["framework"]
    assert meta["submission"]["authors"][0]["lastname"] == "Müller"
    assert sorted(path.name for path in (run / "submission").iterdir()) == [
        f"{LABEL}.zip",
        "complexity.html",
        "complexity.json",
        "complexity.md",
        "technical_report.md",
    ]
    report = json.loads((run / "submission/complexity.json").read_text())
    assert report["params"] == 120_000
    assert report["limits"] == {"params": 128_000, "macs": 30_000_000}
    assert "| 1 | conv | 16 x 40 x 51 |" in (run / "submission/complexity.md").read_text()


def test_the_same_run_gives_the_same_bytes(make_run: MakeRun, people: Path, eval_root: Path, tmp_path: Path) -> None:
    run = make_run()
    first, second = (
        pack(ask("2022", run, people=people, eval_root=eval_root, out=tmp_path / name), guess)
        for name in ("one", "two/deep")
    )
    assert first.zip_path.read_bytes() == second.zip_path.read_bytes()


def test_own_edition_takes_classes_and_rows_from_the_run(make_run: MakeRun, people: Path) -> None:
    once = made_up(ANIMALS, ("phone",), n=40)
    twice = Predictions(
        once.classes,
        once.filename * 2,
        np.repeat([0, 1], 40),
        once.device * 2,
        once.label * 2,
        once.source * 2,
        np.concatenate([once.probabilities] * 2),
    )
    run = make_run(predictions=twice, budget=None)
    packed = pack(ask("own", run, people=people))
    assert packed.rows == 80
    assert validate(packed.zip_path, "own") == []
    files = members_of(packed)
    meta = yaml.safe_load(files["own/Muller_TU_own_1/Muller_TU_own_1.meta.yaml"])
    assert meta["task"] == {"dataset": "made", "classes": list(ANIMALS), "devices": ["phone"], "budget": None}
    assert table(files["own/Muller_TU_own_1/Muller_TU_own_1.output.csv"])[79]["segment"] == "1"


def test_names_of_any_letters_are_rows_of_the_table(make_run: MakeRun, people: Path) -> None:
    names = ("a b.wav", "ü/日本.wav", "tab\t.wav", "line\n.wav", 'quo"te.wav', "comma,.wav", "-.wav", "=1.wav")
    run = make_run(predictions=replace(made_up(ANIMALS, ("phone",), n=8), filename=names), budget=None)
    packed = pack(ask("own", run, people=people))
    assert packed.rows == 8
    assert validate(packed.zip_path, "own", runs=[SystemRequest({"": run})]) == []
    rows = table(members_of(packed)["own/Muller_TU_own_1/Muller_TU_own_1.output.csv"])
    assert [row["filename"] for row in rows] == list(names)


@pytest.mark.parametrize("edition", ["2022", "own"])
def test_a_draft_needs_nothing_but_a_run(make_run: MakeRun, edition: str) -> None:
    packed = pack(ask(edition, make_run(), draft=True))
    files = members_of(packed)
    assert "DRAFT" in files
    assert packed.rows == 180
    meta = yaml.safe_load(next(content for name, content in files.items() if name.endswith("meta.yaml")))
    assert meta["submission"]["name"].startswith("DRAFT")
    assert validate(packed.zip_path, edition, draft=True) == []
    told = " ".join(map(str, validate(packed.zip_path, edition)))
    assert ("draft" in told and "placeholder" in told and "missing" in told) == (edition == "2022")
    # without its mark it passes for a finished package, of an own data set as of a challenge
    archive.write_zip(packed.zip_path, {name: content for name, content in files.items() if name != "DRAFT"})
    assert "placeholder of a draft" in " ".join(map(str, validate(packed.zip_path, edition)))


def test_label_map_joins_classes_and_scores_anew(
    make_run: MakeRun, people: Path, eval_root: Path, tmp_path: Path
) -> None:
    fine = (*SCENES[:9], "tram_old", "tram_new")
    run = make_run(predictions=made_up(fine))
    path = tmp_path / "map.yaml"
    path.write_text(yaml.safe_dump({name: name.split("_old")[0].split("_new")[0] for name in fine}))
    packed = pack(ask("2022", run, people=people, eval_root=eval_root, label_map=path), guess)
    assert validate(packed.zip_path, "2022", eval_root) == []
    meta = yaml.safe_load(members_of(packed)[f"task1/{LABEL}/{LABEL}.meta.yaml"])
    assert "tram" in meta["results"]["development_dataset"]["class_wise"]


def test_a_class_order_of_its_own_is_put_in_order(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    run = make_run(predictions=made_up(SCENES[::-1]))
    packed = pack(ask("2022", run, people=people, eval_root=eval_root), guess)
    row = table(members_of(packed)[f"task1/{LABEL}/{LABEL}.output.csv"])[0]
    assert float(row["tram"]) < 1e-6  # the exact 0 of the run's first class


def test_devices_that_were_not_tested_are_left_empty_and_told(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    run = make_run(predictions=made_up(devices=("a", "s1")))
    packed = pack(ask("2022", run, people=people, eval_root=eval_root), guess)
    assert any("devices b, c" in text for text in packed.warnings)
    meta = yaml.safe_load(members_of(packed)[f"task1/{LABEL}/{LABEL}.meta.yaml"])
    assert meta["results"]["development_dataset"]["device_wise"]["b"] == {"accuracy": None, "logloss": None}


def test_commands_from_another_folder(quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    def call(script: str, *words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "submission" / script), *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    run = quantized_runs["scenes"]
    done = call("pack.py", "--edition", "own", "--run", run, "--draft", "--out", "out")
    assert done.returncode == 0, done.stderr
    zip_path = next((tmp_path / "out").glob("*.zip"))
    checked = call("validate.py", zip_path, "--edition", "own")
    assert checked.returncode == 0
    assert checked.stderr.endswith("no fault found, edition own, a draft\n")
    assert call("validate.py", tmp_path / "none.zip", "--edition", "own").returncode == 2


@pytest.mark.parametrize(("exported", "words"), [("trained", "quantization-aware"), ("calibrated", "post-training")])
def test_the_method_told_is_that_of_the_exported_weights(make_run: MakeRun, exported: str, words: str) -> None:
    run = make_run()
    write_json(run / "quant/brevitas/parity.json", {"validation": {"exported": exported}})
    packed = pack(ask("own", run, draft=True))
    meta = yaml.safe_load(next(content for name, content in members_of(packed).items() if name.endswith("meta.yaml")))
    assert words in meta["system"]["description"]["complexity_management"]
