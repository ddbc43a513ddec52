"""Every draw of the space is a network, or a ConfigError in milliseconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search import space
from search.known_designs import KNOWN_DESIGNS, known_designs
from search.space import (
    DEFAULT,
    FRONT_END,
    KEPT,
    SPACE,
    WIDTH_STEP,
    features_of,
    precision_of,
    read_space,
    spec_of,
    suggest,
)
from system.config import parse
from system.errors import ConfigError
from system.models.blocks import BLOCKS
from system.models.heads import POOLINGS
from system.models.layers import ACTIVATIONS
from system.models.network import build, complexity
from system.models.norms import NORMS
from system.models.stems import STEMS
from system.spec import ExperimentSpec, FeatureSpec, ModelSpec, QuantSpec
from tests.search.conftest import RandomChoices

ROWS = {row.name: row for row in SPACE}
SPACES = Path(__file__).resolve().parents[2] / "search" / "spaces"


def draws(count: int, seed: int = 0) -> list[ModelSpec]:
    generator = random.Random(seed)
    return [spec_of(suggest(RandomChoices(generator.choice))) for _ in range(count)]


def fits(spec: ModelSpec, shape: tuple[int, int, int] = (1, 80, 51)) -> bool:
    try:
        return complexity(spec, shape, 10).macs > 0
    except ConfigError:
        return False


def test_nearly_every_draw_fits_the_input_of_the_challenge() -> None:
    drawn = draws(400)
    assert all(spec.width == spec.width_multiple == WIDTH_STEP for spec in drawn)
    assert sum(map(fits, drawn)) > 0.9 * len(drawn)


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 6, 3), (1, 16, 1)])
def test_a_draw_that_does_not_fit_a_small_input_is_a_config_error_alike_for_all(shape: tuple[int, int, int]) -> None:
    def outcome(make: Callable[..., object], spec: ModelSpec) -> str:
        try:
            with torch.device("meta"):
                make(spec, shape, 3)
        except ConfigError as error:
            return str(error)
        return "fits"

    outcomes = [(outcome(complexity, spec), outcome(build, spec)) for spec in draws(60)]
    assert all(counted == built for counted, built in outcomes)
    refused = [counted for counted, _ in outcomes if counted != "fits"]
    assert refused
    assert all("does not fit a map of" in message or "model.sub_bands" in message for message in refused)


def test_draws_build_and_compute() -> None:
    for spec in [spec for spec in draws(20, seed=1) if fits(spec, (1, 40, 26))]:
        with torch.device("meta"):
            logits = build(spec, (1, 40, 26), 4)(torch.empty(2, 1, 40, 26))
        assert logits.shape == (2, 4)


def test_every_value_of_every_row_that_applies_changes_the_network() -> None:
    """A row that no network shows would be searched in vain."""
    generator, seen = random.Random(3), set()
    for _ in range(60):
        choices = suggest(RandomChoices(generator.choice))
        for row in DEFAULT:
            if row.applies(choices) and row.name != "block":
                others = [{**choices, row.name: value} for value in row.values]
                if all(rule.applies(other) == (rule.name in other) for other in others for rule in DEFAULT):
                    assert len({spec_of(other).model_dump_json() for other in others}) == len(row.values), row.name
                    seen.add(row.name)
    assert seen >= {row.name for row in DEFAULT} - {"block", "norm", "depth_3"}
    assert {spec.block for spec in draws(200)} == set(ROWS["block"].values)
    assert {len(spec.stages) for spec in draws(40)} == {2, 3}


@pytest.mark.parametrize("design", KNOWN_DESIGNS, ids=lambda design: design["block"])
def test_known_designs_are_in_the_table(design: dict[str, object]) -> None:
    asked = RandomChoices(lambda choices: None)
    asked.choose = lambda choices: design.get(list(asked.asked)[-1], choices[0])  # the name that was just asked for
    found = suggest(asked)
    assert set(design) <= set(found)
    for name, value in design.items():
        assert value in ROWS[name].values
    assert found in known_designs(DEFAULT)


def test_kt_s_final_design_is_the_first_known() -> None:
    spec = spec_of(KNOWN_DESIGNS[0])
    assert (spec.stem_kernel, spec.stem_stride, spec.block, spec.kernel_size, spec.expansion) == (
        (5, 5), (2, 1), "inverted", (5, 5), 2.0,
    )  # fmt: skip
    assert (spec.activation, spec.activations_kept, spec.norm, spec.pooling, spec.downsampling) == (
        "silu", ("depthwise",), "resnorm", "attentive", "separate",
    )  # fmt: skip


def test_the_table_names_what_the_registries_have() -> None:
    tables = {"stem": STEMS, "block": BLOCKS, "activation": ACTIVATIONS, "norm": NORMS, "pooling": POOLINGS}
    for name, table in tables.items():
        assert set(ROWS[name].values) <= set(table)
    assert set(ROWS["activations"].values) == set(KEPT)
    assert len(ROWS) == len(SPACE)
    assert all(len(set(row.values)) == len(row.values) > 1 and row.why for row in SPACE)


def test_a_rule_names_rows_above_it_and_values_that_they_have() -> None:
    above: dict[str, tuple[Any, ...]] = {}
    for row in SPACE:
        for name, values in row.when.items():
            assert set(values) <= set(above[name]), row.name
        above[row.name] = row.values


def test_a_choice_of_activations_leaves_some_and_not_all_of_them_alike() -> None:
    for block in ROWS["activations"].when["block"]:
        slots = BLOCKS[str(block)].slots  # type: ignore[attr-defined]
        kept = {name: KEPT[name](slots) for name in KEPT}
        assert len({*kept.values()}) == len(KEPT)
        assert all(value is None or 0 < len(value) < len(slots) for value in kept.values())


def test_a_row_that_does_not_apply_is_not_asked() -> None:
    generator = random.Random(0)
    for _ in range(60):
        asked = RandomChoices(generator.choice)
        chosen = suggest(asked)
        assert set(chosen) == set(asked.asked)
        assert ("branches" in chosen) == (chosen["block"] in ("rep_inception", "inception"))
        assert ("kernel_size" in chosen) == ("branches" not in chosen)
        assert ("stride_3" in chosen) == (chosen["depth_3"] > 0)
        assert not FRONT_END & set(chosen)


def test_a_trial_s_spec_is_rebuilt_without_the_search() -> None:
    for spec in draws(20, seed=2):
        assert parse(ModelSpec, spec.plain(), "search.json") == spec


# -- a file that narrows the table


def narrowed(tmp_path: Path, text: str) -> space.Space:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(path)


def test_a_file_narrows_rows_and_leaves_the_others(tmp_path: Path) -> None:
    rows = narrowed(
        tmp_path, "block: [rep_inception, inverted]\nbranches: [3, 3-11]\nexpansion: 2\nstem: all\ndepth_3: [1]\n"
    )
    values = {row.name: row.values for row in rows}
    assert values["block"] == ("inverted", "rep_inception")  # in the table's order, whatever the file's
    assert values["branches"] == ("3", "3-11")
    assert values["expansion"] == (2.0,)
    assert values["depth_3"] == (1,)
    assert {**values, **{n: ROWS[n].values for n in ("block", "branches", "expansion", "depth_3")}} == {
        row.name: row.values for row in DEFAULT
    }
    assert space.plain(rows)["branches"] == ["3", "3-11"]
    generator = random.Random(0)
    for _ in range(40):
        chosen = suggest(RandomChoices(generator.choice), rows)
        assert all(value in values[name] for name, value in chosen.items())
    placed = {(design["block"], design["depth_3"]) for design in known_designs(rows)}
    assert placed == {("inverted", 1)}  # of three blocks in the third stage one is left
    wider = narrowed(tmp_path, "block: [inverted]\n")
    assert {design["block"] for design in known_designs(wider)} == {"inverted"}
    assert len(known_designs(DEFAULT)) == len(KNOWN_DESIGNS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("blok: [inverted]", "unknown row 'blok'; did you mean 'block'?"),
        ("block: [invrted]", "block: unknown value 'invrted'; did you mean 'inverted'?"),
        ("stem_kernel: [5, 6]", r"stem_kernel: unknown value 6 \(known: 3, 4, 5, 7\)"),
        ("block: []", "block: expected a list of values, or all; found an empty one"),
        ("block: [inverted, inverted]", "block: a value stands there twice"),
        ("block: [x]\nnrom: all", "unknown row 'nrom'; did you mean 'norm'.*; block: unknown value 'x'"),
        ("- block", "expected a mapping"),
        ("block: [", "line 1"),
    ],
)
def test_what_the_table_does_not_have_is_named_with_a_near_match(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"space\.yaml.*{said}"):
        narrowed(tmp_path, text)


def test_the_front_end_is_searched_only_where_a_file_asks_for_it(tmp_path: Path) -> None:
    given = FeatureSpec()
    rows = narrowed(tmp_path, "n_mels: [40, 128]\nhop_ms: [10, 20]\n")
    asked = RandomChoices(random.Random(0).choice)
    chosen = suggest(asked, rows)
    assert FRONT_END & set(chosen) == {"n_mels", "hop_ms"}
    assert features_of(KNOWN_DESIGNS[0], given) == given
    found = features_of({"n_mels": 40, "hop_ms": 10}, given)
    assert (found.n_mels, found.hop_length, found.win_length, found.n_fft) == (40, 220, 882, 1024)
    found = features_of({"sample_rate": 32000, "window_ms": 40}, given)
    assert (found.hop_length, found.win_length, found.n_fft) == (640, 1280, 2048)  # a hop stays 20 ms


def test_every_front_end_of_the_table_has_a_bin_in_every_band() -> None:
    from system.features import LogMel

    generator = random.Random(0)
    rows = {row.name: row.values for row in SPACE if row.asked_for}
    for _ in range(25):
        found = features_of({name: generator.choice(values) for name, values in rows.items()}, FeatureSpec())
        assert found.win_length <= found.n_fft
        assert bool((LogMel(found).filters.sum(dim=0) > 0).all()), found


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_space_files_can_be_searched(path: Path) -> None:
    asked = read_space(path)
    assert known_designs(asked)
    generator = random.Random(0)
    choices = [suggest(RandomChoices(generator.choice), asked) for _ in range(40)]
    shapes = [ExperimentSpec(features=features_of(each, FeatureSpec())).input_shape() for each in choices]
    assert sum(fits(spec_of(each), shape) for each, shape in zip(choices, shapes, strict=True)) > 20


def test_bits_of_weights_are_those_of_the_experiment_where_no_file_asks_for_them() -> None:
    given, choices = QuantSpec(weight_bits=4, epochs=3), dict(KNOWN_DESIGNS[1])
    assert precision_of(choices, given) == given
    found = {value: precision_of({**choices, "weight_bits": value}, given) for value in ROWS["weight_bits"].values}
    assert {how.epochs for how in found.values()} == {3}
    layers = ("stem.conv", "stages.0.blocks.0.head", "stages.2.blocks.0.head", "head.classify")
    assert {value: [how.bits_of(layer) for layer in layers] for value, how in found.items()} == {
        "8": [8, 8, 8, 8], "4": [4, 4, 4, 4], "4_inside": [8, 4, 4, 8], "4_last": [8, 8, 4, 8],
    }  # fmt: skip
    two_stages = precision_of({**choices, "depth_3": 0, "weight_bits": "4_last"}, given)
    assert two_stages.bits_of("stages.1.blocks.0.head") == 4


def test_a_step_of_the_width_is_kept_by_every_stage() -> None:
    asked = read_space(SPACES / "integer_fast.yaml")
    generator = random.Random(0)
    for _ in range(20):
        choices = suggest(RandomChoices(generator.choice), asked)
        spec = spec_of(choices)
        step = choices["width_multiple"]
        assert spec.width == step in (4, 8)
        assert all(channels % step == 0 for channels in spec.model_copy(update={"width": 3 * step}).widths())


@pytest.mark.parametrize("block", ROWS["block"].values)
def test_a_known_design_keeps_its_block_and_takes_the_norm_over(tmp_path: Path, block: str) -> None:
    found = known_designs(narrowed(tmp_path, f"block: {block}\nnorm: resnorm\n"))
    assert [design["block"] for design in found] == [d["block"] for d in KNOWN_DESIGNS if d["block"] == block]
    assert all(design["norm"] == "resnorm" for design in found)


def test_known_designs_lie_in_the_space_that_a_file_asks_for() -> None:
    asked = read_space(SPACES / "integer_fast.yaml")
    designs, rows = known_designs(asked), {row.name: row for row in asked}
    assert [design["block"] for design in designs] == [design["block"] for design in KNOWN_DESIGNS]
    assert {(design["activation"], design["norm"], design["n_mels"]) for design in designs} == {("relu", "batch", 64)}
    assert spec_of(designs[0]).width_multiple == 4
    assert features_of(designs[0], FeatureSpec()).sample_rate == 32000
    for design in designs:
        assert {name for name, row in rows.items() if row.applies(design)} == set(design)
        assert all(value in rows[name].values for name, value in design.items())
