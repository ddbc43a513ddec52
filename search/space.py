"""What the search may choose: one table. Suggest choices, then make a spec of them; the spec needs no search.

A row by the name of a field of ModelSpec sets that field; what others stand for, `spec_of` says. The table in
docs/searching.md is what `python -m search.space` prints.

A file of `--space` narrows the table: a mapping from row to a list of its values, or to `all`. Rows of the front end,
of which each needs features of its own, and the step of the width take part only where a file names them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from system.config import load_yaml
from system.errors import ConfigError
from system.models.blocks import BLOCKS
from system.registry import unknown
from system.spec import FeatureSpec, ModelSpec, QuantSpec, StageSpec

Value = str | int | float | bool
Choices = Mapping[str, Any]
When = Mapping[str, tuple[Value, ...]]
ALWAYS: When = {}  # a plain one, as spawned workers are sent their space
BUDGET = "budget"  # the row of a search for a front: the budget that the width is solved for

ONE_KERNEL = ("inverted", "cp_mobile", "resnext", "convnext", "basic", "broadcast")
MANY_KERNELS = ("rep_inception", "inception")
EXPANDING = ("inverted", "cp_mobile", "convnext", "rep_inception", "inception")
THREE_OR_MORE_SLOTS = ("inverted", "cp_mobile", "resnext", "rep_inception", "inception")
WITH_SHORTCUT = (*EXPANDING, "resnext", "basic")
NORM_OUTSIDE = ("inverted", "resnext", "basic", "broadcast", "rep_inception", "inception")
RUNNING_NORMS = ("layer", "resnorm", "freq_in", "grn")  # all but BatchNorm, which is in the convolutions


class Choice(NamedTuple):
    """One row: a name, its values, and what it depends on (every row of `when` has one of the values given there).

    The first value is that of a known design which does not name the row.
    """

    name: str
    values: tuple[Value, ...]
    why: str
    when: When = ALWAYS
    asked_for: bool = False  # takes part only where a space file names it

    def applies(self, chosen: Choices) -> bool:
        return all(chosen.get(name) in values for name, values in self.when.items())


Space = tuple[Choice, ...]

SPACE: Space = (
    Choice("stem", ("conv", "double_conv", "conv_pool"), "KT 2.3; DCASE 2024/25 baseline; paper 001, Table I"),
    Choice("stem_kernel", (3, 4, 5, 7), "KT 2.3: three, four and five; seven in paper 001"),
    Choice("stem_stride_frequency", (1, 2, 3), "KT 2.3: one to three per axis"),
    Choice("stem_stride_time", (1, 2, 3), "KT 2.3"),
    Choice("block", (*ONE_KERNEL, *MANY_KERNELS), "KT 2.2 to 2.5; papers 000, 001 and 004; challenge entries"),
    Choice("kernel_size", (3, 5, 7), "KT 2.6", {"block": ONE_KERNEL}),
    Choice("second_kernel", ("same", "1x1_last", "1x1_ends"),
           "CP-ResNet: stages whose second convolution is 1x1, so that less is seen", {"block": ("basic",)}),
    Choice("branches", ("3", "11", "21", "3-11", "3-21", "11-21", "3-11-21"), "paper 001, Table VI and its subsets",
           {"block": MANY_KERNELS}),
    Choice("expansion", (1.5, 2.0, 3.0, 4.0), "KT 2.5: 1.5 to 4", {"block": EXPANDING}),
    Choice("sub_bands", (1, 2, 4, 5), "BC-ResNet: parts of the frequency axis that are normalized alone",
           {"block": ("broadcast",)}),
    Choice("shortcut", ("project", "identity"), "KT Figure 1; CP-Mobile", {"block": WITH_SHORTCUT}),
    Choice("activation", ("relu", "prelu", "gelu", "silu", "hardswish"), "KT 2.7; MobileNetV3"),
    Choice("activations", ("all", "inner", "no_output", "no_first", "ends", "first", "output"),
           "KT 2.7: which of the block's activations stay", {"block": THREE_OR_MORE_SLOTS}),
    Choice("norm", ("batch", *RUNNING_NORMS), "KT 2.8; CP-Mobile"),
    Choice("norm_after", ("stage", "block", "stem-stage", "stem-block"),
           "after each stage as in ResNorm's paper, or elsewhere", {"norm": RUNNING_NORMS, "block": NORM_OUTSIDE}),
    Choice("pooling", ("average", "time_average", "mean_max", "attentive", "attentive_full"), "KT 2.9; paper 004"),
    Choice("downsampling", ("pool", "strided", "separate"), "KT 2.10"),
    Choice("depth_1", (1, 2, 3), "blocks of the first stage"),
    Choice("depth_2", (1, 2, 3), "of the second"),
    Choice("depth_3", (0, 1, 2, 3), "of the third; 0: there is none"),
    Choice("stride_2", ("1x1", "1x2", "2x1", "2x2"), "frequency x time, on entry of the second stage"),
    Choice("stride_3", ("1x1", "1x2", "2x1", "2x2", "4x2"), "of the third",
           {"depth_3": (1, 2, 3)}),
    Choice("growth", (1.0, 1.25, 1.5, 2.0), "width of a stage over the one before it"),
    Choice("sample_rate", (16000, 22050, 32000, 44100), "front end, in Hz", asked_for=True),
    Choice("n_mels", (40, 64, 80, 128, 256), "front end: mel bands, rows of the map", asked_for=True),
    Choice("hop_ms", (10, 15, 20, 40), "front end: time between frames, columns of the map", asked_for=True),
    Choice("window_ms", (25, 40, 64, 96), "front end", asked_for=True),
    Choice("weight_bits", ("8", "4", "4_inside", "4_last"), "bits of weights: all, all but stem and head, the last "
           "stage's; with --objective int8", asked_for=True),
    Choice("width_multiple", (2, 4, 8), "channels in steps of so many: integer kernels are made for four or eight",
           asked_for=True),
)  # fmt: skip

KEPT: dict[str, Callable[[Any], Any]] = {  # name -> the part of a block's activation slots that stays
    "all": lambda slots: None,
    "inner": lambda slots: slots[1:-1],  # KT's choice: the first and the last are removed
    "no_output": lambda slots: slots[:-1],
    "no_first": lambda slots: slots[1:],
    "ends": lambda slots: (slots[0], slots[-1]),
    "first": lambda slots: slots[:1],
    "output": lambda slots: slots[-1:],
}
ONLY_POINTWISE: dict[str, Callable[[int, int], bool]] = {  # name -> is the second convolution of this stage 1x1?
    "same": lambda stage, last: False,
    "1x1_last": lambda stage, last: stage == last,
    "1x1_ends": lambda stage, last: stage in (1, last),
}
PRECISIONS: dict[str, Callable[[int], dict[str, Any]]] = {  # name -> what QuantSpec says, by the number of stages
    "8": lambda stages: {"weight_bits": 8, "layer_bits": {}},
    "4": lambda stages: {"weight_bits": 4, "layer_bits": {}},
    "4_inside": lambda stages: {"weight_bits": 4, "layer_bits": {"stem*": 8, "head*": 8}},
    "4_last": lambda stages: {"weight_bits": 8, "layer_bits": {f"stages.{stages - 1}.*": 4}},
}
FRONT_END = frozenset(("sample_rate", "n_mels", "hop_ms", "window_ms"))
BINS_PER_BAND = 16
WIDTH_STEP = 2  # a coarser step leaves up to a third of a budget unused


class Suggests(Protocol):
    """The part of an Optuna trial that the space needs."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...


class Uniform:
    """Every value alike."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]


def read_space(path: Path | None) -> Space:
    """The table without the rows that only a file asks for, narrowed by the file if there is one.

    Raises ConfigError naming every row and value that the table does not have.
    """
    narrowed = {} if path is None else load_yaml(path)
    faults: list[str] = []
    if wrong := [name for name in narrowed if name not in {row.name for row in SPACE}]:
        faults += [unknown("row", name, (row.name for row in SPACE)) for name in wrong]
    rows = []
    for row in SPACE:
        if row.name in narrowed:
            values, found = _narrowed(row, narrowed[row.name])
            faults += found
            rows.append(row._replace(values=values))
        elif not row.asked_for:
            rows.append(row)
    if faults:
        raise ConfigError(f"{path}: " + "; ".join(faults))
    return tuple(rows)


def _narrowed(row: Choice, wanted: Any) -> tuple[tuple[Value, ...], list[str]]:
    """The values of a row that a file asks for, in the table's order, and what is wrong with them."""
    if wanted == "all":
        return row.values, []
    wanted = wanted if isinstance(wanted, list) else [wanted]
    known = {str(value): value for value in row.values}
    known |= {f"{value:g}": value for value in row.values if isinstance(value, float)}
    faults = [
        f"{row.name}: {unknown('value', value, map(str, row.values))}" for value in wanted if str(value) not in known
    ]
    if not wanted:
        faults.append(f"{row.name}: expected a list of values, or all; found an empty one")
    if len(set(map(str, wanted))) < len(wanted):
        faults.append(f"{row.name}: a value stands there twice")
    chosen = {known[str(value)] for value in wanted if str(value) in known}
    return tuple(value for value in row.values if value in chosen), faults


def plain(space: Space) -> dict[str, list[Value]]:
    """What a study records of its space: row -> values."""
    return {row.name: list(row.values) for row in space}


def table(space: Space = SPACE) -> str:
    """The space in Markdown, one line per row, with where each comes from and when it applies."""
    lines = ["| search choice | values | where it comes from |", "|---|---|---|"]
    for row in space:
        rule = "; ".join(f"{name} {', '.join(map(str, values))}" for name, values in row.when.items())
        where = row.why + (f" (with {rule})" if rule else "")
        where += " (where a space file asks for it)" if row.asked_for else ""
        lines.append(f"| `{row.name}` | {', '.join(map(str, row.values))} | {where} |")
    return "\n".join(lines)


def suggest(trial: Suggests, space: Space | None = None) -> dict[str, Value]:
    """One value per row that applies; of the table without the front end if no `space` is given."""
    chosen: dict[str, Value] = {}
    for row in DEFAULT if space is None else space:
        if row.applies(chosen):
            chosen[row.name] = trial.suggest_categorical(row.name, row.values)
    return chosen


def with_levels(space: Space, levels: Sequence[str]) -> Space:
    """The space with the budgets of a front as its first row. One budget is no choice, and no row."""
    return space if len(levels) == 1 else (Choice(BUDGET, tuple(levels), "the levels of the front"), *space)


def within(space: Space, level: str) -> Space:
    """The space as one budget of a front has it; any other space as it is."""
    return tuple(row._replace(values=(level,)) if row.name == BUDGET else row for row in space)


def spec_of(choices: Choices) -> ModelSpec:
    """The network of these choices, at the smallest width; the budget solves for the width."""
    block: Any = BLOCKS[choices["block"]]
    size = choices.get("kernel_size", 3)
    pointwise, last = ONLY_POINTWISE[choices.get("second_kernel", "same")], 3 if choices["depth_3"] else 2
    stages = []
    for number in range(1, last + 1):
        stride = numbers(choices[f"stride_{number}"], "x") if number > 1 else (1, 1)
        ratio, second = choices["growth"] ** (number - 1), (1, 1) if pointwise(number, last) else None
        stages.append(StageSpec(depth=choices[f"depth_{number}"], stride=stride, ratio=ratio, second_kernel=second))
    step = choices.get("width_multiple", WIDTH_STEP)
    as_they_are: dict[str, Any] = {name: value for name, value in choices.items() if name in ModelSpec.model_fields}
    in_other_words = {
        "width": step,
        "width_multiple": step,
        "stem_kernel": (choices["stem_kernel"], choices["stem_kernel"]),
        "stem_stride": (choices["stem_stride_frequency"], choices["stem_stride_time"]),
        "kernel_size": (size, size),
        "second_kernel": None,  # the stages have it
        "branches": numbers(choices.get("branches", "3-11-21"), "-"),
        "activations_kept": KEPT[choices.get("activations", "all")](block.slots),
        "norm_after": tuple(choices.get("norm_after", "stage").split("-")),
        "stages": tuple(stages),
    }
    return ModelSpec(**{**as_they_are, **in_other_words})


def precision_of(choices: Choices, given: QuantSpec) -> QuantSpec:
    """How the weights of these choices are stored: as `given` if they say nothing of it."""
    if "weight_bits" not in choices:
        return given
    return given.changed(**PRECISIONS[choices["weight_bits"]](3 if choices["depth_3"] else 2))


def numbers(text: str, mark: str) -> Any:
    """`3-11-21` or `2x1` as a tuple of integers."""
    return tuple(map(int, text.split(mark)))


def features_of(choices: Choices, given: FeatureSpec) -> FeatureSpec:
    """The front end of these choices: what they say nothing of is as `given`, lengths kept in seconds."""
    if not FRONT_END & set(choices):
        return given
    rate, bands = choices.get("sample_rate", given.sample_rate), choices.get("n_mels", given.n_mels)
    window = choices["window_ms"] / 1e3 if "window_ms" in choices else given.win_length / given.sample_rate
    hop = choices["hop_ms"] / 1e3 if "hop_ms" in choices else given.hop_length / given.sample_rate
    length = round(window * rate)
    finest = BINS_PER_BAND * bands if bands > given.n_mels else 0  # else low bands would hold no bin of the spectrum
    bins = max(length, finest, given.n_fft if rate == given.sample_rate else 0)
    return given.changed(
        sample_rate=rate, n_mels=bands, win_length=length, hop_length=round(hop * rate),
        n_fft=1 << (bins - 1).bit_length(), f_max=None if given.f_max is None else min(given.f_max, rate / 2),
    )  # fmt: skip


DEFAULT: Space = read_space(None)

if __name__ == "__main__":
    print(table())
