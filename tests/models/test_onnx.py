"""The float ONNX file computes what the deploy form computes, for any batch size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from system.models.catalog import model_spec
from system.models.network import build
from system.models.reparam import deploy
from system.onnx_float import INPUT, OUTPUT, export_float
from tests.models.variants import inputs, randomised

SHAPE = (1, 48, 33)


@pytest.mark.parametrize("name", ["kt_final", "audio_rep_inception_128k"])
def test_onnx_equals_torch(name: str, tmp_path: Path) -> None:
    spec = model_spec(name)
    network = deploy(randomised(build(spec, SHAPE, 10)), spec, SHAPE, 10)
    export_float(network, SHAPE, tmp_path / "float.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(tmp_path / "float.onnx"), options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == [INPUT]
    for batch in (1, 5):
        x = inputs(SHAPE, batch)
        with torch.inference_mode():
            expected = network(x).numpy()
        (found,) = session.run([OUTPUT], {INPUT: x.numpy()})
        assert found.shape == (batch, 10)
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
        assert batch == 1 or expected.std(axis=0).max() > 1e-3 * np.abs(expected).max()


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        export_float(Broken(), SHAPE, tmp_path / "float.onnx")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
