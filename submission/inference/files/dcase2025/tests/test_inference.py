"""The package does what the rules ask for: python -m pytest tests"""

from __future__ import annotations

import csv
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from complexity import MAX_MACS, MAX_PARAMS_MEMORY, get_torch_macs_memory  # noqa: E402

DEVICES = ["a", "s3", "s10", "unknown"]
PREDICTIONS = sorted((ROOT / "predictions").iterdir())
pytestmark = pytest.mark.parametrize("handed_in", PREDICTIONS, ids=lambda path: path.name)


def load(handed_in: Path) -> tuple[Any, str]:
    """The module of a system, and the path of its dummy recording."""
    system = importlib.import_module(f"{handed_in.name.rpartition('_')[0]}.{handed_in.name}")
    return system, str(Path(str(system.__file__)).with_name("resources") / "dummy.wav")


def test_predictions_come_in_order_one_for_each_recording(handed_in: Path) -> None:
    system, dummy = load(handed_in)
    logits, classes = system.predict([dummy] * len(DEVICES), DEVICES)
    assert [tuple(x.shape) for x in logits] == [(len(classes),)] * len(DEVICES)
    for device, x in zip(DEVICES, logits, strict=True):
        ((alone,), _) = system.predict([dummy], [device])
        assert torch.allclose(x, alone, atol=0.1)


def test_costs_are_those_handed_in_and_within_the_limits(handed_in: Path) -> None:
    system, dummy = load(handed_in)
    model = system.load_model()
    for device, told in json.loads((handed_in / "complexity.json").read_text())["per_device"].items():
        (features,) = system.load_inputs([dummy], [device], model)
        macs, size = get_torch_macs_memory(system.get_model_for_device(model, device), features.shape)
        assert told == {"MACs": macs, "Params": size}
        assert macs <= MAX_MACS
        assert size <= MAX_PARAMS_MEMORY


def test_weights_are_stored_as_integers(handed_in: Path) -> None:
    system, _ = load(handed_in)
    stored = {p.dtype for name, p in system.load_model().model.named_parameters() if name.endswith(".weight")}
    assert torch.int8 in stored


def test_the_state_handed_in_is_that_of_the_packaged_model(handed_in: Path) -> None:
    system, _ = load(handed_in)
    state = torch.load(handed_in / "model_state_dict.pt", weights_only=True)
    own = system.load_model().model.state_dict()
    assert sorted(state) == sorted(own)
    assert all(torch.equal(state[name], own[name]) for name in own)


def test_labels_are_the_most_probable_classes(handed_in: Path) -> None:
    with (handed_in / "output.csv").open(newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            label = row["scene_label"]
            shares = {name: float(text) for name, text in row.items() if name not in ("filename", "scene_label")}
            assert shares[label] == max(shares.values())
