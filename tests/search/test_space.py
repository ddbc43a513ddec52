"""Every draw of the space is a network, or a ConfigError in milliseconds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch

from search.space import KNOWN_DESIGNS, SPACE, WIDTH_STEP, spec_of, suggest
from system.config import parse
from system.errors import ConfigError
from system.models.blocks import BLOCKS
from system.models.heads import POOLINGS
from system.models.layers import ACTIVATIONS, NORMS
from system.models.network import build, complexity
from system.spec import ModelSpec
from tests.search.conftest import RandomChoices

ROWS = {row.name: row for row in SPACE}


def draws(count: int, seed: int = 0) -> list[ModelSpec]:
    generator = random.Random(seed)
    return [spec_of(suggest(RandomChoices(generator.choice))) for _ in range(count)]


def test_every_draw_fits_the_input_of_the_challenge() -> None:
    for spec in draws(150):
        assert complexity(spec, (1, 80, 51), 10).macs > 0
        assert spec.width == spec.width_multiple == WIDTH_STEP


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 6, 3), (1, 16, 1)])
def test_a_draw_that_does_not_fit_a_small_input_is_a_config_error_alike_for_all(shape: tuple[int, int, int]) -> None:
    def outcome(make: Callable[..., object], spec: ModelSpec) -> str:
        try:
            make(spec, shape, 3)
        except ConfigError as error:
            return str(error)
        return "fits"

    outcomes = [(outcome(complexity, spec), outcome(build, spec)) for spec in draws(60)]
    assert all(counted == built for counted, built in outcomes)
    refused = [counted for counted, _ in outcomes if counted != "fits"]
    assert refused
    assert all("does not fit a map of" in message for message in refused)


def test_draws_build_and_compute() -> None:
    for spec in draws(12, seed=1):
        with torch.device("meta"):
            logits = build(spec, (1, 40, 26), 4)(torch.empty(2, 1, 40, 26))
        assert logits.shape == (2, 4)


def test_every_value_of_every_row_changes_the_spec() -> None:
    """A row that no spec shows would be searched in vain."""
    for design in KNOWN_DESIGNS:
        for row in SPACE:
            applies = row.when is None or design.get(row.when[0]) == row.when[1]
            if applies and row.name != "block":
                specs = {spec_of({**design, row.name: value}).model_dump_json() for value in row.values}
                assert len(specs) == len(row.values), row.name
    assert {spec.block for spec in draws(40)} == set(ROWS["block"].values)


@pytest.mark.parametrize("design", KNOWN_DESIGNS, ids=lambda design: design["block"])
def test_known_designs_are_in_the_table(design: dict[str, object]) -> None:
    asked = RandomChoices(lambda choices: None)
    asked.choose = lambda choices: design[list(asked.asked)[-1]]  # the name that was just asked for
    assert suggest(asked) == design
    for name, value in design.items():
        assert value in ROWS[name].values


def test_kt_s_final_design_is_the_first_known() -> None:
    spec = spec_of(KNOWN_DESIGNS[0])
    assert (spec.stem_kernel, spec.stem_stride, spec.block, spec.kernel_size, spec.expansion) == (
        (5, 5), (2, 1), "inverted", (5, 5), 2.0,
    )  # fmt: skip
    assert (spec.activation, spec.activations_kept, spec.norm, spec.pooling, spec.downsampling) == (
        "silu", ("depthwise",), "resnorm", "attentive", "separate",
    )  # fmt: skip


def test_the_table_names_what_the_registries_have() -> None:
    for row, table in (("block", BLOCKS), ("activation", ACTIVATIONS), ("norm", NORMS), ("pooling", POOLINGS)):
        assert set(ROWS[row].values) <= set(table)
    assert len(ROWS) == len(SPACE)
    assert all(len(set(row.values)) == len(row.values) > 1 and row.why for row in SPACE)


def test_a_row_that_does_not_apply_is_not_asked() -> None:
    generator = random.Random(0)
    for _ in range(30):
        asked = RandomChoices(generator.choice)
        chosen = suggest(asked)
        assert set(chosen) == set(asked.asked)
        assert ("kernel_size" in chosen) == (chosen["block"] == "inverted")
        assert ("branches" in chosen) == (chosen["block"] == "rep_inception")


def test_a_trial_s_spec_is_rebuilt_without_the_search() -> None:
    for spec in draws(20, seed=2):
        assert parse(ModelSpec, spec.plain(), "search.json") == spec
