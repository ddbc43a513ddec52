"""The side-by-side latencies: every form of every network that is named, and what they refuse. Not the numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "latency.py"


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, cwd=folder)


@pytest.mark.slow
def test_forms_side_by_side(tmp_path: Path) -> None:
    options = ["--threads", "1", "--batch", "1", "2", "--turns", "5", "--json", "latency.json"]
    done = run(tmp_path, "cp_mobile", "cnn6", *options)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "latency.json").read_text())
    rows = {(row["network"], row["form"], row["batch"]): row for row in found["rows"]}
    forms = {("cp_mobile", "train"), ("cp_mobile", "float"), ("cp_mobile", "int8"), ("cnn6", "float"), ("cnn6", "int8")}
    assert set(rows) == {(*form, batch) for form in forms for batch in (1, 2)}
    assert rows["cp_mobile", "float", 1]["over_own_float"] == rows["cp_mobile", "float", 1]["over_first_float"] == 1
    for row in rows.values():
        assert 0 < row["ms_low"] <= row["ms"] <= row["ms_high"]
        first = rows["cp_mobile", "float", row["batch"]]["ms"]
        assert row["over_first_float"] == pytest.approx(first / row["ms"])
    assert {"cpu", "vnni", "onnxruntime"} <= set(found["machine"])
    assert found["networks"]["cp_mobile"]["total_bytes"] > found["networks"]["cp_mobile"]["params"]


@pytest.mark.slow
def test_a_configuration_and_settings_of_it(tmp_path: Path) -> None:
    name = f"{SCRIPT.parents[1] / 'system' / 'configs' / 'best_fast.yaml'},model.width=8"
    done = run(tmp_path, name, "--threads", "1", "--batch", "1", "--turns", "5", "--json", "latency.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "latency.json").read_text())
    assert {row["network"] for row in found["rows"]} == {name}
    assert {row["form"] for row in found["rows"]} == {"train", "float", "int8"}
    assert found["networks"][name]["shape"] == [1, 64, 67]


def test_what_is_neither_a_run_nor_a_network_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "cp_mobil")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "error: cp_mobil: no such run folder or file; unknown model 'cp_mobil'; did you mean 'cp_mo" in done.stderr
