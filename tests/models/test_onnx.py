"""The float ONNX file of a deploy form computes what the train form computes, for any batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from system.complexity import Shape
from system.errors import MissingPackage
from system.models.catalog import CATALOG, model_spec
from system.models.forms import converted
from system.models.layers import Form
from system.models.network import build
from system.models.reparam import deploy
from system.onnx_float import INPUT, OUTPUT, export_float
from tests.models.variants import CASES, CLASSES, MODULES, OF_ONE_BLOCK, Case, inputs, randomised

SHAPE = (1, 48, 33)
ROWS = {name: case for name, case in CASES.items() if name.startswith("catalog: ")}
# each block, and the layers that reshape or compute statistics
TRACED = {
    name: case
    for name, case in CASES.items()
    if name.endswith(": base") or name in OF_ONE_BLOCK or name.startswith("inverted: all of")
}
LARGE = {"cnn14", "cnn14sep"}  # 80 and 30 million weights


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == [INPUT]
    (found,) = session.run([OUTPUT], {INPUT: x.numpy()})
    return found


def longer(shape: Shape, frames: int = 32) -> Shape:
    return (shape[0], shape[1], shape[2] + frames)


def check(network: nn.Module, deployed: nn.Module, shape: Shape, path: Path) -> None:
    """The file of the deploy form computes what the train form does, for any batch size."""
    export_float(deployed, shape, path)
    for batch in (1, 3):
        x = inputs(shape, batch, louder=3)
        with torch.inference_mode():
            expected = network(x).numpy()
        found = run(path, x)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() < 2e-4 * np.abs(expected).max()
        assert batch == 1 or expected.std(axis=0).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("case", ROWS.values(), ids=ROWS)
def test_the_file_computes_what_the_network_does_at_two_lengths(case: Case, tmp_path: Path) -> None:
    """A network is declared for its map, so a length is an export of its own; the weights are the same."""
    spec, shape, classes = case
    trained = randomised(build(spec, shape, classes)).state_dict()
    for size in (shape, longer(shape)):
        network = build(spec, size, classes).eval()
        network.load_state_dict(trained)
        check(network, deploy(network, spec, size, classes), size, tmp_path / "float.onnx")


@pytest.mark.parametrize("form", ["train", "deploy"])
@pytest.mark.parametrize("case", TRACED.values(), ids=TRACED)
def test_a_program_of_torch_export_computes_what_the_network_does_for_any_batch(case: Case, form: Form) -> None:
    spec, shape, classes = case
    trained = randomised(build(spec, shape, classes)).double()
    network = trained if form == "train" else deploy(trained, spec, shape, classes)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(network, (inputs(shape, 2).double(),), dynamic_shapes=({0: batch},)).module()
    for size in (1, 3):
        x = inputs(shape, size, louder=3).double()
        with torch.inference_mode():
            found, expected = program(x), trained(x)
        assert found.shape == (size, classes)
        assert (found - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in MODULES]
)
def test_the_file_of_a_module_computes_what_it_does_at_two_lengths(name: str, tmp_path: Path) -> None:
    entry = CATALOG[name]
    assert entry.module is not None
    try:
        network = randomised(entry.module(CLASSES))
    except MissingPackage as error:
        pytest.skip(str(error))
    deployed = converted(entry, network, "deploy")
    for size in ((1, 64, 64), (1, 64, 96)):
        check(network, deployed, size, tmp_path / "float.onnx")


def test_the_export_leaves_one_file_and_reads_any_batch(tmp_path: Path) -> None:
    spec = model_spec("kt_final")
    network = deploy(randomised(build(spec, SHAPE, 10)), spec, SHAPE, 10)
    export_float(network, SHAPE, tmp_path / "float.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]
    for batch in (1, 5):
        assert run(tmp_path / "float.onnx", inputs(SHAPE, batch)).shape == (batch, 10)


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        export_float(Broken(), SHAPE, tmp_path / "float.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
