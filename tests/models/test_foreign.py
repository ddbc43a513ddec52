"""A network without a specification is trained like any other, and is told what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from system.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from system.errors import ConfigError, RunError
from system.experiment import complexity_report
from system.models.catalog import CATALOG, Entry
from system.models.layers import FORMS
from system.models.network import build, complexity
from system.models.reparam import deploy
from system.models.report import seen_cost
from system.spec import DataSpec, ExperimentSpec, FeatureSpec, ModelSpec

PANNS = FeatureSpec(sample_rate=32000, n_fft=1024, win_length=1024, hop_length=320, n_mels=64)
SPEC = ExperimentSpec(data=DataSpec(segment_seconds=1.0), features=PANNS, model=ModelSpec(module="cnn6"))


def test_it_is_built_counted_kept_and_loaded_again(tmp_path: Path) -> None:
    network = build(SPEC.model, SPEC.input_shape(), 5).eval()
    x = torch.randn(2, *SPEC.input_shape())
    with torch.no_grad():
        logits = network(x)
    assert logits.shape == (2, 5)
    report = complexity_report(SPEC, 5)
    assert report["params"] == sum(parameter.numel() for parameter in network.parameters())
    assert report["macs_exact"] == complexity(SPEC.model, SPEC.input_shape(), 5).macs_exact > 10**8
    zero = torch.zeros(64).numpy()
    save_checkpoint(tmp_path / "a.safetensors", Checkpoint(SPEC, tuple("abcde"), zero, zero + 1, network.state_dict()))
    with torch.no_grad():
        assert torch.equal(load_checkpoint(tmp_path / "a.safetensors").network()(x), logits)


@pytest.mark.parametrize("name", ["cnn6", "replknet_31t"])
def test_an_experiment_with_a_module_has_the_forms_of_its_row_in_the_catalogue(name: str) -> None:
    """What `complexity --config` lists under --form and `throughput --run` times."""
    row, shape = CATALOG[name], (1, 64, 64)
    named = Entry("a configuration", shape, 5, ModelSpec(module=name))
    own = Entry(row.source, shape, 5, module=row.module, merge=row.merge)
    assert [seen_cost(named, form) for form in FORMS] == [seen_cost(own, form) for form in FORMS]
    assert seen_cost(named, "deploy").params < seen_cost(named, "train").params


def test_a_map_too_small_for_a_kernel_is_told_before_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """InceptionNeXt's stem on few frames: the count, which computes nothing, saw no error."""

    def patches(classes: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 4, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, classes))

    monkeypatch.setitem(CATALOG._items, "patches", Entry("here", (1, 64, 64), module=patches))
    said = r"^model\.module: patches does not read 64 mel bands of 3 frames; it was made for 64 of 64 \(nothing is left"
    with pytest.raises(ConfigError, match=said):
        build(ModelSpec(module="patches"), (1, 64, 3), 5)
    assert build(ModelSpec(module="patches"), (1, 64, 4), 5)(torch.zeros(2, 1, 64, 4)).shape == (2, 5)


def test_what_it_cannot_be_is_told() -> None:
    with pytest.raises(ConfigError, match=r"model\.module: kt_final has a specification"):
        build(ModelSpec(module="kt_final"), SPEC.input_shape(), 5)
    with pytest.raises(ConfigError, match=r"model\.module: cnn6 does not read 80 mel bands of 101 frames; it was made"):
        build(SPEC.model, (1, 80, 101), 5)
    with pytest.raises(RunError, match=r"model\.module: cnn6 has no deploy form"):
        deploy(build(SPEC.model, SPEC.input_shape(), 5), SPEC.model, SPEC.input_shape(), 5)
