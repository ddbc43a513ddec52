"""What is deployed gives the probabilities of the python path, and holds the bytes that were counted."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from quant import run as commands
from quant.deployment.c.weights import write_c
from quant.deployment.mobile import write_ort
from quant.deployment.waveform import TOLERANCE, compare, network_inputs, signals, write_whole
from quant.graph import read_graph
from system.checkpoint import Checkpoint
from system.errors import ConfigError, RunError
from system.files import write_json
from system.prediction.onnx_file import (
    PROBABILITIES,
    WAVEFORM,
    open_classifier,
    open_session,
)
from system.spec import ExperimentSpec

from .conftest import FEATURES, RATE, Quantized, checkpoint_of, only

REAL = Path(__file__).parents[3] / "shared" / "data" / "esc10_32k" / "audio"


def test_the_whole_file_gives_the_probabilities_of_the_python_path(quantized: Quantized, tmp_path: Path) -> None:
    checkpoint, path = checkpoint_of(quantized), tmp_path / "whole.onnx"
    difference = write_whole(checkpoint, quantized.path, path)
    assert difference.largest < TOLERANCE
    assert difference.within > 0.9, "float32 spectra may round an input the other way, but rarely"
    found = open_session(path).run([PROBABILITIES], {WAVEFORM: signals(checkpoint)})[0]
    assert found.std(axis=0).max() > 0.01, "the comparison must not be vacuous"
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@only("inverted")
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/esc10_32k")
def test_real_recordings_get_the_same_probabilities_from_the_whole_file(quantized: Quantized, tmp_path: Path) -> None:
    from system.data.audio import stream_segments

    checkpoint, path = checkpoint_of(quantized), tmp_path / "whole.onnx"
    write_whole(checkpoint, quantized.path, path)
    files = sorted(REAL.glob("*.flac"))[:20]
    segments = np.concatenate([found for _, found in stream_segments(files, RATE, RATE)])
    difference = compare(checkpoint, quantized.path, path, segments)
    assert difference.segments >= 100
    assert difference.largest < TOLERANCE
    assert difference.within > 0.9


@only("inverted")
def test_a_file_that_is_not_what_python_computes_is_not_written(
    quantized: Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import quant.deployment.waveform as module

    real = module.front_end

    def broken(checkpoint: Checkpoint, *rest: int) -> onnx.ModelProto:
        other = checkpoint_of(quantized)
        other.mean[:] += 1.0
        return real(other, *rest)

    monkeypatch.setattr(module, "front_end", broken)
    with pytest.raises(RunError, match="python path"):
        write_whole(checkpoint_of(quantized), quantized.path, tmp_path / "whole.onnx")
    assert not (tmp_path / "whole.onnx").exists()


@only("inverted")
def test_a_network_of_another_input_or_an_old_opset_is_refused(quantized: Quantized, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(quantized)
    model = onnx.load(str(quantized.path))
    model.opset_import[0].version = 16
    onnx.save(model, str(tmp_path / "old.onnx"))
    with pytest.raises(RunError, match="opset"):
        write_whole(checkpoint, tmp_path / "old.onnx", tmp_path / "whole.onnx")
    spec = ExperimentSpec(features=FEATURES.changed(n_mels=30))
    other = Checkpoint(spec, checkpoint.classes, np.zeros(30), np.ones(30), {})
    with pytest.raises(RunError, match=r"expected \[1, 30, 21\]"):
        write_whole(other, quantized.path, tmp_path / "whole.onnx")


def test_the_mobile_format_gives_the_same_outputs(quantized: Quantized, tmp_path: Path) -> None:
    checkpoint = checkpoint_of(quantized)
    write_whole(checkpoint, quantized.path, tmp_path / "whole.onnx")
    sources = {quantized.path: network_inputs(checkpoint), tmp_path / "whole.onnx": signals(checkpoint)}
    for source, inputs in sources.items():
        path = tmp_path / f"{source.stem}.ort"
        assert write_ort(source, path, inputs) <= 1e-5
        assert path.read_bytes()[4:8] == b"ORTM", "the identifier of the format"
    described = open_classifier(tmp_path / "whole.ort").about
    assert described == open_classifier(tmp_path / "whole.onnx").about
    assert described.classes == checkpoint.classes


def test_the_c_array_holds_the_bytes_that_were_counted(deployable: Path) -> None:
    folder = deployable / "quant" / "brevitas"
    manifest = write_c(folder)
    cost = json.loads((folder / "complexity.json").read_text())
    stored = json.loads((folder / "weights.json").read_text())
    assert stored == manifest
    assert manifest["bytes"] == cost["total_bytes"]
    for key in ("weight_bytes", "bias_bytes", "scale_bytes", "other_bytes", "zero_point_bytes"):
        assert manifest[key] == cost[key]
    parameters = [t for t in manifest["tensors"] if t["role"] in ("weight", "bias", "parameter")]
    assert sum(int(np.prod(t["shape"])) for t in parameters) == cost["params"]
    end = 0
    for tensor in manifest["tensors"]:  # without gaps, each on its own alignment
        assert tensor["offset"] == end
        assert tensor["offset"] % np.dtype(tensor["type"]).itemsize == 0
        end += tensor["bytes"]
    assert end == manifest["bytes"]


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_the_compiled_array_is_the_graph_s_parameters(deployable: Path, tmp_path: Path) -> None:
    folder = deployable / "quant" / "brevitas"
    manifest = write_c(folder)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "weights.h"\n'
        "int main(void) { return fwrite(tinyscene_weights, 1, sizeof tinyscene_weights, stdout)"
        " != TINYSCENE_WEIGHTS_BYTES; }\n"
    )
    program = tmp_path / "main"
    sources = [str(tmp_path / "main.c"), str(folder / "weights.c")]
    subprocess.run(
        ["gcc", "-std=c11", "-Wall", "-Werror", "-I", str(folder), *sources, "-o", str(program)], check=True, timeout=60
    )
    content = subprocess.run([str(program)], check=True, capture_output=True, timeout=60).stdout
    assert len(content) == manifest["bytes"]
    graph = read_graph(folder / "int8.onnx")
    known = {array.tobytes() for array in graph.constants.values()}
    for tensor in manifest["tensors"]:
        found = np.frombuffer(content, np.dtype(tensor["type"]), int(np.prod(tensor["shape"])), tensor["offset"])
        if tensor["role"] in ("weight", "bias"):
            assert found.tobytes() in known, tensor["name"]
            assert len(tensor["scale"]) == tensor["shape"][0]
        if "value" in tensor:
            np.testing.assert_array_equal(found, np.array(tensor["value"], found.dtype))


@only("inverted")
def test_bytes_that_complexity_json_does_not_know_are_refused(deployable: Path) -> None:
    folder = deployable / "quant" / "brevitas"
    cost = json.loads((folder / "complexity.json").read_text())
    write_json(folder / "complexity.json", {**cost, "bias_bytes": 1})
    with pytest.raises(RunError, match="bias_bytes"):
        write_c(folder)
    assert not (folder / "weights.c").exists()


@only("inverted")
def test_a_run_that_is_not_quantized_names_the_command(deployable: Path) -> None:
    (deployable / "quant" / "brevitas" / "int8.onnx").unlink()
    for option in ("--whole", "--ort", "--c-array"):
        with pytest.raises((RunError, ConfigError), match="quant/run"):
            commands.main(["export", "--run", str(deployable), option])
