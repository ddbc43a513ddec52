"""The table of what operators cost: every operator there is has a row, and the rows are what a search can read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from system.models.layers import ACTIVATIONS
from system.models.norms import NORMS

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "operator_latency.py"


@pytest.mark.slow
def test_every_operator_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "costs.json"
    command = [sys.executable, str(SCRIPT), "--maps", "16x6x5", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["operator"]: row for row in json.loads(path.read_text())["rows"]}
    norms = {f"norm {name}" for name, norm in NORMS.items() if norm is not None}
    assert {"1x1", "dense 3x3", "depthwise 5x5", "depthwise 1x21", "depthwise 21x1", "add"} <= set(rows)
    assert set(ACTIVATIONS) | norms <= set(rows)
    assert all(row["channels"] == 16 and isinstance(row["int8_ms"], float) for row in rows.values())
    assert rows["dense 3x3"]["fp32_ms"] > 0
    assert len(done.stdout.splitlines()) == len(rows) + 1


def test_a_map_that_is_none_is_refused(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "--maps", "16x6"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2
    assert "expected channels x frequency x time, as 32x40x25; found '16x6'" in done.stderr
