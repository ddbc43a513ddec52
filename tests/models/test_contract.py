"""What every network keeps to: shapes, gradients, a build without weights, a spec that survives YAML."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from system.complexity import Map
from system.config import load_yaml, parse
from system.files import write_yaml
from system.models.blocks import BLOCKS
from system.models.catalog import CATALOG, model_spec
from system.models.heads import HEADS, POOLINGS
from system.models.layers import ACTIVATIONS, FORMS
from system.models.network import Network, build
from system.models.norms import NORMS
from system.models.stems import STEMS
from system.runs import load_experiment
from system.spec import ModelSpec
from tests.models.variants import BASE, CASES, CLASSES, SMALL, Case, inputs, randomised

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


@every_case
def test_logits_have_their_shape_and_every_parameter_a_gradient(case: Case) -> None:
    spec, shape, classes = case
    torch.manual_seed(0)
    spec = spec.changed(drop_path=0.0)  # a block that is left out, or starts as its shortcut, stops gradients
    network = randomised(build(spec, shape, classes)).train()
    x = inputs(shape, batch=4)
    x[:2] = x[:2, :, :1, :1]  # constant maps, whose negative values pass max pooling: slopes before it are reached
    logits = network(x)
    assert logits.shape == (4, classes)
    F.cross_entropy(logits, torch.arange(4) % classes).backward()
    unreached = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # a constant that GRN adds before a convolution and BatchNorm is taken out there: its gradient is rounding, or 0
    assert not {name for name in unreached if not name.endswith("norm.shift")}
    assert all(p.grad is not None for p in network.parameters())


@pytest.mark.parametrize("head", HEADS)
def test_dropout_acts_in_every_head_and_only_in_training(head: str) -> None:
    shape = (1, 32, 20)
    network = randomised(build(BASE.changed(head=head, dropout=0.5), shape, CLASSES))
    x = inputs(shape, batch=4)
    with torch.inference_mode():
        assert torch.equal(network.eval()(x), network(x))
        network.head.train()
        for norm in network.head.modules():
            norm.train(not isinstance(norm, nn.BatchNorm2d))
        assert not torch.equal(network(x), network(x))


@every_case
def test_builds_on_the_meta_device_and_each_layer_writes_the_map_it_declares(case: Case) -> None:
    spec, shape, classes = case
    seen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []

    def see(module: nn.Module, _: object, y: torch.Tensor) -> None:
        seen.append((type(module).__name__, tuple(module.map), tuple(y.shape[1:])))  # type: ignore[arg-type]

    for form in FORMS:
        with torch.device("meta"):
            network, x = build(spec, shape, classes, form).eval(), torch.empty(2, *shape)
        assert {p.device.type for p in network.parameters()} == {"meta"}
        for name, module in network.named_modules():
            if hasattr(module, "map") and name != "output":  # flattened logits are no map
                module.register_forward_hook(see)
        assert network(x).shape == (2, classes)
    assert len(seen) > 16
    assert [row for row in seen if row[1] != row[2]] == []


@every_case
def test_a_spec_survives_yaml(case: Case, tmp_path: Path) -> None:
    spec = case[0]
    write_yaml(tmp_path / "model.yaml", spec.plain())
    assert parse(ModelSpec, load_yaml(tmp_path / "model.yaml"), "model.yaml") == spec


def test_the_parts_of_a_network_have_their_names() -> None:
    assert [name for name, _ in build(BASE, SMALL, CLASSES).named_children()] == [
        "input", "stem", "stages", "head", "output",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "table"),
    {"block": BLOCKS, "stem": STEMS, "head": HEADS, "pooling": POOLINGS, "activation": ACTIVATIONS}.items(),
)
def test_each_choice_makes_another_function(field: str, table: dict[str, object]) -> None:
    """A choice that is read nowhere would pass every other test."""
    with torch.inference_mode():
        outputs = {
            name: randomised(build(BASE.changed(**{field: name}), SMALL, CLASSES))(inputs(SMALL)) for name in table
        }
    names = list(outputs)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            assert not torch.allclose(outputs[first], outputs[second]), (first, second)


@pytest.mark.parametrize("block", BLOCKS)
def test_activations_kept_says_which_stay(block: str) -> None:
    slots = BLOCKS[block].slots

    def kept(network: Network) -> int:
        return sum(isinstance(module, nn.GELU) for module in network.stages.modules())

    spec = BASE.changed(block=block, activation="gelu")
    blocks = sum(stage.depth for stage in spec.stages)
    each = [kept(build(spec.changed(activations_kept=(slot,)), SMALL, CLASSES)) for slot in slots]
    assert all(count > 0 and count % blocks == 0 for count in each)  # a slot may be in several branches
    assert kept(build(spec, SMALL, CLASSES)) == sum(each)
    assert kept(build(spec.changed(activations_kept=()), SMALL, CLASSES)) == 0


def test_prelu_starts_at_the_slope_of_the_paper() -> None:
    network = build(BASE.changed(activation="prelu"), SMALL, CLASSES)
    slopes = [module.weight for module in network.modules() if isinstance(module, nn.PReLU)]
    assert slopes
    assert all(slope.tolist() == pytest.approx([0.2]) for slope in slopes)


def test_residual_norm_against_numpy() -> None:
    layer = NORMS["resnorm"]
    assert layer is not None
    x = inputs((4, 6, 5)).double()
    a = x.numpy()
    mean = a.mean(axis=(1, 3), keepdims=True)
    expected = 0.1 * a + (a - mean) / (a.var(axis=(1, 3), keepdims=True) + 1e-5) ** 0.5
    assert abs(layer.layer(Map(4, 6, 5))(x).numpy() - expected).max() < 1e-12


def test_attentive_pooling_weights_sum_to_one_over_time() -> None:
    """Constant maps come out unchanged, whatever the score."""
    network = randomised(build(BASE.changed(pooling="attentive"), SMALL, CLASSES))
    pool = network.head.pool
    channels, freq, time = network.stages[-1].map
    values = torch.randn(2, channels, freq, 1)
    pooled = pool(values.expand(2, channels, freq, time))
    assert torch.allclose(pooled.flatten(1), values.flatten(1), atol=1e-6)
    x = inputs((channels, freq, time))
    assert not torch.allclose(pool(x).flatten(1), x.mean(dim=3).flatten(1))


def test_the_same_seed_gives_the_same_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(build(BASE, SMALL, CLASSES).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[2][key]) for key in states[0])


def test_a_configuration_and_the_catalog_mean_the_same_network_by_one_name() -> None:
    configs = sorted((Path(__file__).resolve().parents[2] / "system/configs").glob("*.yaml"))
    published = [path for path in configs if path.stem in CATALOG]
    assert len(published) >= 3
    others = {path.stem for path in configs if path not in published}
    assert others == {"best_128k", "best_3M", "best_fast", "speech_3M", "teacher_cp_mobile", "teacher_cp_resnet"}
    for path in published:
        experiment = load_experiment(path)
        assert experiment.model == model_spec(path.stem), path.name
        assert experiment.input_shape() == CATALOG[path.stem].shape, path.name
