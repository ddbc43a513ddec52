"""A run whose files are damaged, or of different models, is refused with one line that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from submission.packing.package import pack
from submission.run_parts import load_run
from system.errors import RunError
from tests.submission.conftest import ask

Damage = Callable[[Path, Path], object]  # gets the quant/brevitas of a run on scenes, and of one on birds


def edited(name: str, **values: Any) -> Damage:
    def damage(quant: Path, birds: Path) -> None:
        path = quant / name
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return damage


def copied(*names: str) -> Damage:
    return lambda quant, birds: [shutil.copy(birds / name, quant / name) for name in names]


DAMAGE: dict[str, tuple[Damage, str]] = {
    "a graph that is none": (lambda quant, birds: (quant / "int8.onnx").write_bytes(b"junk"), "not a whole ONNX file"),
    "another graph": (copied("int8.onnx"), r"complexity\.json tells of another graph than int8\.onnx: params "),
    "costs of another": (copied("complexity.json"), r"complexity\.json tells of another graph .* writes both anew"),
    "other bytes": (edited("complexity.json", total_bytes=5), r"total_bytes 5 instead of [\d,]+; python quant/run\.py"),
    "a count that is no number": (edited("complexity.json", params=float("nan")), "expected a number at params"),
    "a graph of other classes": (copied("int8.onnx", "complexity.json"), "has 11 outputs, but predictions.csv 10"),
    "a temperature without value": (edited("scores.json", temperature={"x": 1}), r"a number above 0 at temperature\.v"),
    "a temperature of 0": (edited("scores.json", temperature={"value": 0}), r"a number above 0 at temperature\.value"),
    "energy that is none": (edited("parity.json", energy="much"), r"parity\.json: expected a mapping at energy"),
    "energy in words": (edited("parity.json", energy={"joules": "much"}), "expected a number at energy.joules, energy"),
    "endless energy": (
        edited("parity.json", energy={"joules": float("inf"), "joules_above_idle": 1.0, "runs": 1}),
        r"expected a number at energy\.joules;",
    ),
    "a score that is no number": (edited("scores.json", accuracy=float("nan")), "expected a number at accuracy"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_told(name: str, quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    damage, words = DAMAGE[name]
    run = shutil.copytree(quantized_runs["scenes"], tmp_path / "run")
    assert load_run(run, "brevitas").onnx.is_file()
    damage(run / "quant/brevitas", quantized_runs["birds"] / "quant/brevitas")
    with pytest.raises(RunError, match=words):
        load_run(run, "brevitas")


def test_a_temperature_that_nobody_fitted(quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(quantized_runs["scenes"], tmp_path / "run")
    edited("scores.json", temperature={"value": 2.0})(run / "quant/brevitas", run)
    assert pack(ask("own", run, draft=True)).draft


UNREAD: dict[str, Damage] = {  # what the graph itself tells, whatever lies beside it
    "layers": edited("complexity.json", layers=[{"kind": 3, "bytes": float("nan")}, 7]),
    "the field": edited("complexity.json", receptive_field={"bands": "wide"}),
    "the peak": edited("complexity.json", peak_activation_layer=[], peak_activation_maps="maps"),
    "bytes of a type": edited("complexity.json", other=float("inf"), budget={"view": "mine"}),
    "the proof": edited("parity.json", portable={"proven": True, "filters": "all"}),
}


@pytest.mark.parametrize("name", UNREAD)
def test_what_the_graph_tells_is_read_off_it(name: str, quantized_runs: dict[str, Path], tmp_path: Path) -> None:
    run = shutil.copytree(quantized_runs["scenes"], tmp_path / "run")
    pack(ask("own", run, draft=True, out=tmp_path / "before"))
    UNREAD[name](run / "quant/brevitas", run)
    pack(ask("own", run, draft=True, out=tmp_path / "after"))
    for report in ("complexity.json", "complexity.md", "complexity.html"):
        assert (tmp_path / "after" / report).read_bytes() == (tmp_path / "before" / report).read_bytes()
