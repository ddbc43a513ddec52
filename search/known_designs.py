"""Where a search starts: the designs of the field, as the table of the space can say them."""

from __future__ import annotations

from search.space import BUDGET, FRONT_END, Choices, Space, Value

# The KT report's final design, and those of paper 001, CP-Mobile and CP-ResNet as they are here.
KNOWN_DESIGNS: tuple[dict[str, Value], ...] = (
    {
        "stem": "conv", "stem_kernel": 5, "stem_stride_frequency": 2, "stem_stride_time": 1, "block": "inverted",
        "kernel_size": 5, "expansion": 2.0, "shortcut": "project", "activation": "silu", "activations": "inner",
        "norm": "resnorm", "norm_after": "stage", "pooling": "attentive", "downsampling": "separate",
        "depth_1": 1, "depth_2": 2, "depth_3": 3, "stride_2": "2x2", "stride_3": "2x2", "growth": 2.0,
    },
    {
        "stem": "conv", "stem_kernel": 5, "stem_stride_frequency": 2, "stem_stride_time": 2, "block": "rep_inception",
        "branches": "3-11-21", "expansion": 4.0, "shortcut": "project", "activation": "relu", "activations": "all",
        "norm": "batch", "pooling": "average", "downsampling": "strided",
        "depth_1": 2, "depth_2": 2, "depth_3": 2, "stride_2": "2x2", "stride_3": "2x2", "growth": 1.5,
    },
    {
        "stem": "double_conv", "stem_kernel": 3, "stem_stride_frequency": 2, "stem_stride_time": 1,
        "block": "cp_mobile", "kernel_size": 3, "expansion": 3.0, "shortcut": "identity", "activation": "relu",
        "activations": "all", "norm": "grn", "pooling": "average", "downsampling": "strided",
        "depth_1": 2, "depth_2": 2, "depth_3": 2, "stride_2": "2x2", "stride_3": "2x1", "growth": 1.5,
    },
    {
        "stem": "conv", "stem_kernel": 5, "stem_stride_frequency": 2, "stem_stride_time": 2, "block": "basic",
        "kernel_size": 3, "second_kernel": "1x1_ends", "shortcut": "project", "activation": "relu", "norm": "batch",
        "pooling": "average", "downsampling": "pool",
        "depth_1": 1, "depth_2": 1, "depth_3": 1, "stride_2": "2x2", "stride_3": "2x1", "growth": 1.5,
    },
)  # fmt: skip


def known_designs(space: Space) -> list[dict[str, Value]]:
    """The designs to start from, at each budget of the space. What the space fixes, but for the block, they take over.

    A design of another block, or with a value that a row of several leaves out, is none of the space.
    """
    rows = tuple(row for row in space if row.name != BUDGET)
    levels = [{BUDGET: level} for row in space if row.name == BUDGET for level in row.values] or [{}]
    lying = [placed for design in KNOWN_DESIGNS if (placed := _placed(design, rows)) is not None]
    return [{**level, **design} for design in lying for level in levels]


def _placed(design: Choices, rows: Space) -> dict[str, Value] | None:
    """The design in the space of these rows. Of what it does not name it has the first value, of a front end a middling
    one. None if it does not lie there.
    """
    chosen: dict[str, Value] = {}
    for row in (row for row in rows if row.applies(chosen)):
        if row.name in design and design[row.name] in row.values:
            chosen[row.name] = design[row.name]
        elif row.name not in design or (len(row.values) == 1 and row.name != "block"):
            chosen[row.name] = row.values[len(row.values) // 2 if row.name in FRONT_END else 0]
        else:
            return None
    return chosen
