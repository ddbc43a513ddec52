"""A name or a size that cannot be is a ConfigError that names the field and what was found."""

from __future__ import annotations

import time
from typing import Any

import pytest

from system.config import parse
from system.errors import ConfigError
from system.models.blocks import BLOCKS
from system.models.catalog import CATALOG
from system.models.network import build, complexity
from system.spec import ExperimentSpec, ModelSpec
from system.spec.model import MOST_BLOCKS
from tests.models.variants import BASE, CLASSES, SMALL


@pytest.mark.parametrize(
    ("field", "found", "near"),
    [
        ("block", "invrted", "inverted"),
        ("stem", "double-conv", "double_conv"),
        ("activation", "relus", "relu"),
        ("norm", "resnrm", "resnorm"),
        ("pooling", "averag", "average"),
        ("head", "liner", "linear"),
    ],
)
def test_an_unknown_name_gets_the_nearest_known_one(field: str, found: str, near: str) -> None:
    spec = BASE.changed(**{field: found})
    for make in (build, complexity):
        with pytest.raises(ConfigError, match=rf"^model\.{field}: unknown {field} '{found}'; did you mean '{near}'\?"):
            make(spec, SMALL, CLASSES)


def test_an_unknown_name_without_likeness_gets_the_list() -> None:
    with pytest.raises(ConfigError, match=rf"unknown block 'zzz' \(known: {', '.join(sorted(BLOCKS))}\)"):
        complexity(BASE.changed(block="zzz"), SMALL, CLASSES)
    with pytest.raises(ConfigError, match=r"unknown model 'kt_finel'; did you mean 'kt_final'\?"):
        CATALOG["kt_finel"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kernel_size": [4, 3]}, "model: kernel_size: both kernel sizes must be odd"),
        ({"branches": [3, 4]}, "branches: branch kernels must be different odd numbers"),
        ({"branches": [3, 3]}, "branches: branch kernels must be different odd numbers"),
        ({"branches": []}, "branches: branch kernels must be different odd numbers"),
        ({"stem_kernel": [0, 3]}, "stem_kernel.0: .*greater than or equal to 1, found 0"),
        ({"stem_stride": [1, 0]}, "stem_stride.1: .*greater than or equal to 1, found 0"),
        ({"stages": [{"stride": [0, 1]}]}, "stages.0.stride.0: .*greater than or equal to 1, found 0"),
        ({"stages": []}, "stages: .*at least 1 item"),
        ({"stages": [{"dept": 2}]}, "stages.0.dept: unknown key, did you mean 'depth'"),
        ({"downsampling": "pooling"}, "downsampling: .*'pool', 'strided' or 'separate', found 'pooling'"),
        ({"expansion": 0.1}, "expansion: .*0.25, found 0.1"),
        ({"dropout": 1.0}, "dropout: .*less than 1, found 1.0"),
        ({"drop_path": 1.0}, "drop_path: .*less than 1, found 1.0"),
        ({"layer_scale": 0.0}, "layer_scale: .*greater than 0, found 0.0"),
        ({"stem_padding": [0, -1]}, "stem_padding.1: .*greater than or equal to 0, found -1"),
        ({"width": 0}, "width: .*greater than or equal to 1, found 0"),
        ({"stages": [{"ratio": 0}]}, "stages.0.ratio: .*greater than 0, found 0"),
        ({"stages": [{}, {"depth": 0}]}, "stages.1.depth: .*greater than or equal to 1, found 0"),
        ({"stages": [{}, {"ratio": -1}]}, "stages.1.ratio: .*greater than 0, found -1"),
        ({"width_multiple": 0}, "width_multiple: .*greater than or equal to 1, found 0"),
        ({"head_width": 0}, "head_width: .*greater than or equal to 1, found 0"),
        ({"pool_bands": 0}, "pool_bands: .*greater than or equal to 1, found 0"),
        ({"stage_dropout": 1}, "stage_dropout: .*less than 1, found 1"),
        ({"expansion": float("nan")}, "expansion: .*found nan"),
        ({"kernel_size": [3]}, "kernel_size.1: .*required"),
        ({"width": "wide"}, "width: .*integer.*found 'wide'"),
        ({"stages": [{}, {"depth": 100_000}]}, "stages.1.depth: .*less than or equal to 1000, found 100000"),
        ({"stages": [{"depth": 600}] * 2}, "stages: together .* at most 1000 blocks, their depths sum to 1200"),
        ({"stages": [{}] * 1001}, "stages: together .* at most 1000 blocks, their depths sum to 1001"),
        ({"stem_kernel": [3, 10**6]}, "stem_kernel.1: .*less than or equal to 1001, found 1000000"),
        ({"kernel_size": [10**6 + 1, 3]}, "kernel_size.0: .*less than or equal to 1001, found 1000001"),
        ({"second_kernel": [3, 1003]}, "second_kernel.1: .*less than or equal to 1001, found 1003"),
        ({"stages": [{"second_kernel": [1003, 3]}]}, "stages.0.second_kernel.0: .*or equal to 1001, found 1003"),
        ({"branches": [3, 10**9 + 1]}, "branches.1: .*less than or equal to 1001, found 1000000001"),
        ({"branches": [-1]}, "branches.0: .*greater than or equal to 1, found -1"),
        ({"dilation": 10**6}, "dilation: .*less than or equal to 100, found 1000000"),
        ({"stages": [{"dilation": 101}]}, "stages.0.dilation: .*less than or equal to 100, found 101"),
        ({"head_width": 10**10}, "head_width: .*less than or equal to 8192, found 10000000000"),
        ({"layer_scale": 1e300}, r"layer_scale: .*less than or equal to 1000, found 1e\+300"),
    ],
)
def test_an_impossible_value_is_refused_where_it_is_declared(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^(model: )?{said}") as caught:
        parse(ModelSpec, values, "model")
    assert "\n" not in str(caught.value)
    assert "; " not in str(caught.value).partition(", found")[2]  # one fault is told once


NOTHING_LEFT = {  # name -> (changes, input, the field and the rule that the message names)
    "stem stride": (
        {"stem_stride": (19, 1)}, SMALL,
        "model.stem_stride: a convolution with kernel 3x3 and stride 19x1 (freq x time) does not fit a map of 18x14: "
        "its stride must be at most the map",
    ),
    "even stem kernel": (
        {"stem_kernel": (18, 18), "stem_stride": (1, 1)}, (1, 1, 14),
        "model.stem_kernel: a convolution with kernel 18x18 and stride 1x1 (freq x time) does not fit a map of 1x14: "
        "its kernel must be at most the padded map",
    ),
    "stride of a block": (
        {"stages": ({"stride": (1, 15)},)}, SMALL,
        "model.stages.0.stride: a convolution with kernel 3x3 and stride 1x15 (freq x time) does not fit a map of 9x14",
    ),
    "pooling between stages": (
        {"stages": ({}, {"stride": (10, 1)}), "downsampling": "pool"}, SMALL,
        "model.stages.1.stride: a pooling with kernel 10x1",
    ),
    "separate downsampling": (
        {"stages": ({}, {}, {"stride": (10, 1)}), "downsampling": "separate"}, SMALL,
        "model.stages.2.stride: a downsampling with kernel 10x1",
    ),
    "pooled shortcut": (
        {"stages": ({"stride": (10, 1)},), "shortcut": "identity"}, SMALL, "model.stages.0.stride: a convolution with",
    ),
    "pooling before the classifier": (
        {"pooling": "max", "pool_bands": 6}, SMALL,
        "model.pool_bands: a pooling with kernel 6x7 and stride 6x7 (freq x time) does not fit a map of 5x7",
    ),
    "a head that reads five bands": (
        {"head": "collapse"}, (1, 16, 14),
        "model.head: a convolution with kernel 5x5 and stride 1x1 (freq x time) does not fit a map of 4x7: "
        "its kernel must be at most the padded map",
    ),
    "attention over a single frame": (
        {"pooling": "attentive"}, (1, 18, 2),
        "model.pooling: attentive pooling does not fit a map of 5x1 (freq x time): "
        "it weighs frames, which must be at least 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTHING_LEFT)
def test_a_size_that_leaves_nothing_is_refused_alike_by_cost_and_build(name: str) -> None:
    changes, shape, said = NOTHING_LEFT[name]
    spec = BASE.changed(**changes)
    messages = []
    for make in (complexity, build):
        with pytest.raises(ConfigError) as caught:
            make(spec, shape, CLASSES)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(said)
    assert "\n" not in messages[0]


def test_a_slot_the_block_lacks_is_named() -> None:
    slots = "expand, depthwise, output"
    with pytest.raises(
        ConfigError, match=f"^model.activations_kept: the block 'inverted' has the activations {slots}; found time$"
    ):
        complexity(BASE.changed(activations_kept=("time", "output")), SMALL, CLASSES)
    complexity(BASE.changed(block="rep_inception", activations_kept=("time", "output")), SMALL, CLASSES)


def test_what_no_memory_holds_is_counted_but_not_built() -> None:
    """Each size alone is within its bounds."""
    spec = BASE.changed(block="basic", width=1024, kernel_size=(1001, 1001))
    params = complexity(spec, SMALL, CLASSES, "train").params
    assert params > 10**12
    with pytest.raises(ConfigError, match=f"^model: .*at most 1,073,741,824 parameters, found {params:,}$"):
        build(spec, SMALL, CLASSES)


def test_the_deepest_network_is_counted_at_once() -> None:
    spec = BASE.changed(stages=({"depth": MOST_BLOCKS},))
    started = time.process_time()
    assert complexity(spec, SMALL, CLASSES).peak_activation_bytes() > 0
    assert time.process_time() - started < 5  # 0.2 s on a quiet machine


def test_a_classifier_of_no_class_is_refused() -> None:
    for make in (build, complexity):
        with pytest.raises(ConfigError, match=r"^classes: a classifier needs at least 1 class, found 0$"):
            make(BASE, SMALL, 0)


@pytest.mark.parametrize("places", [[], ["stage", "stage"], ["stages"]])
def test_a_norm_stands_at_known_places_each_once(places: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"model\.norm_after"):
        parse(ExperimentSpec, {"model": {"norm_after": places}}, "experiment")
