"""A name or a size that cannot be is a ConfigError that names the field and what was found."""

from __future__ import annotations

import re
from typing import Any

import pytest

from system.config import parse
from system.errors import ConfigError
from system.models.catalog import CATALOG
from system.models.network import build, complexity
from system.spec import ModelSpec
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
    with pytest.raises(ConfigError, match=r"unknown block 'zzz' \(known: inverted, rep_inception\)"):
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
        ({"width": 0}, "width: .*greater than or equal to 1, found 0"),
        ({"width": "wide"}, "width: .*integer.*found 'wide'"),
    ],
)
def test_an_impossible_value_is_refused_where_it_is_declared(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^(model: )?{said}") as caught:
        parse(ModelSpec, values, "model")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "shape", "what"),
    [
        ({"stem_stride": (19, 1)}, SMALL, "convolution with kernel 3x3 and stride 19x1"),
        ({"stem_kernel": (18, 18), "stem_stride": (1, 1)}, (1, 1, 14), "kernel 18x18 .* does not fit a map of 1x14"),
        ({"stages": ({"stride": (1, 15)},)}, SMALL, r"stride 1x15 \(freq x time\) does not fit a map of 9x14"),
        ({"stages": ({"stride": (10, 1)},), "downsampling": "pool"}, SMALL, "pooling with kernel 10x1"),
        ({"stages": ({"stride": (10, 1)},), "downsampling": "separate"}, SMALL, "downsampling with kernel 10x1"),
        ({"stages": ({"stride": (10, 1)},), "shortcut": "identity"}, SMALL, "kernel 3x3 and stride 10x1"),
    ],
)
def test_a_stride_beyond_the_map_is_refused_alike_by_cost_and_build(
    changes: dict[str, Any], shape: tuple[int, int, int], what: str
) -> None:
    spec = BASE.changed(**changes)
    messages = []
    for make in (complexity, build):
        with pytest.raises(ConfigError, match=what) as caught:
            make(spec, shape, CLASSES)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert re.match("model: a ", messages[0])


def test_a_slot_the_block_lacks_is_named() -> None:
    slots = "expand, depthwise, output"
    with pytest.raises(
        ConfigError, match=f"^model.activations_kept: the block 'inverted' has the activations {slots}; found time$"
    ):
        complexity(BASE.changed(activations_kept=("time", "output")), SMALL, CLASSES)
    complexity(BASE.changed(block="rep_inception", activations_kept=("time", "output")), SMALL, CLASSES)


@pytest.mark.parametrize("classes", [0, 1])
def test_a_classifier_of_less_than_two_classes_is_refused(classes: int) -> None:
    for make in (build, complexity):
        with pytest.raises(ConfigError, match=f"at least 2 classes, found {classes}"):
            make(BASE, SMALL, classes)
