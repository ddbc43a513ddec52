"""What the search may choose: one table. Suggest choices, then make a spec of them; the spec needs no search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from system.models.blocks import BLOCKS
from system.spec import ModelSpec, StageSpec

Choices = Mapping[str, Any]
Value = str | int | float | bool


class Choice(NamedTuple):
    """One row: a name, its values, and the choice it depends on (`when` = (name, value))."""

    name: str
    values: tuple[Value, ...]
    why: str
    when: tuple[str, Value] | None = None


SPACE: tuple[Choice, ...] = (
    Choice("stem_kernel", (3, 4, 5), "KT 2.3: three, four and five"),
    Choice("stem_stride_frequency", (1, 2, 3), "KT 2.3: one to three per axis"),
    Choice("stem_stride_time", (1, 2, 3), "KT 2.3"),
    Choice("block", ("inverted", "rep_inception"), "KT Figure 1; paper 001 Figure 2b"),
    Choice("kernel_size", (3, 5, 7), "KT 2.6", ("block", "inverted")),
    Choice("branches", ("3", "3-11", "3-11-21"), "paper 001, Table VI", ("block", "rep_inception")),
    Choice("expansion", (1.5, 2.0, 3.0, 4.0), "KT 2.5: 1.5 to 4"),
    Choice("activation", ("relu", "prelu", "gelu", "silu"), "KT 2.7"),
    Choice("activations", ("all", "inner", "no_output"), "KT 2.7: which of the block's activations stay"),
    Choice("norm", ("batch", "resnorm"), "KT 2.8"),
    Choice("pooling", ("average", "attentive"), "KT 2.9"),
    Choice("downsampling", ("pool", "strided", "separate"), "KT 2.10"),
    Choice("depth", ("1-1-1", "1-2-1", "2-2-1", "2-2-2", "1-2-3"), "blocks per stage"),
    Choice("growth", (1.5, 2.0), "width of a stage over the one before it"),
)

KEPT = {  # name -> the part of a block's activation slots that stays
    "all": slice(None),
    "inner": slice(1, -1),  # KT's choice: the first and the last are removed
    "no_output": slice(None, -1),
}
STAGE_STRIDES = ((1, 1), (2, 2), (2, 2))
WIDTH_STEP = 2  # a coarser step leaves up to a third of a budget unused

# Where a search starts: the report's final design, and the same with the other block.
KNOWN_DESIGNS: tuple[dict[str, Value], ...] = (
    {
        "stem_kernel": 5, "stem_stride_frequency": 2, "stem_stride_time": 1, "block": "inverted", "kernel_size": 5,
        "expansion": 2.0, "activation": "silu", "activations": "inner", "norm": "resnorm", "pooling": "attentive",
        "downsampling": "separate", "depth": "2-2-2", "growth": 2.0,
    },
    {
        "stem_kernel": 5, "stem_stride_frequency": 2, "stem_stride_time": 2, "block": "rep_inception",
        "branches": "3-11-21", "expansion": 4.0, "activation": "relu", "activations": "all", "norm": "batch",
        "pooling": "average", "downsampling": "strided", "depth": "2-2-2", "growth": 1.5,
    },
)  # fmt: skip


class Suggests(Protocol):
    """The part of an Optuna trial that the space needs."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


def suggest(trial: Suggests) -> dict[str, Value]:
    """One value per row that applies."""
    chosen: dict[str, Value] = {}
    for row in SPACE:
        if row.when is None or chosen.get(row.when[0]) == row.when[1]:
            chosen[row.name] = trial.suggest_categorical(row.name, row.values)
    return chosen


def spec_of(choices: Choices) -> ModelSpec:
    """The network of these choices, at the smallest width; the budget solves for the width."""
    block = choices["block"]
    slots = BLOCKS[block].slots  # type: ignore[attr-defined]
    kept = None if choices["activations"] == "all" else tuple(slots[KEPT[choices["activations"]]])
    depths = [int(depth) for depth in choices["depth"].split("-")]
    stages = tuple(
        StageSpec(depth=depth, stride=stride, ratio=choices["growth"] ** index)
        for index, (depth, stride) in enumerate(zip(depths, STAGE_STRIDES, strict=True))
    )
    size = choices.get("kernel_size", 3)
    branches = tuple(int(k) for k in choices.get("branches", "3-11-21").split("-"))
    return ModelSpec(
        width=WIDTH_STEP,
        width_multiple=WIDTH_STEP,
        stem_kernel=(choices["stem_kernel"], choices["stem_kernel"]),
        stem_stride=(choices["stem_stride_frequency"], choices["stem_stride_time"]),
        block=block,
        kernel_size=(size, size),
        branches=branches,
        expansion=choices["expansion"],
        activation=choices["activation"],
        activations_kept=kept,
        norm=choices["norm"],
        pooling=choices["pooling"],
        downsampling=choices["downsampling"],
        stages=stages,
    )
