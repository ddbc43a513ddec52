"""Candidates and limits as the pages and commands of a search write them."""

from __future__ import annotations

from search.fit_width import MAP
from search.space import BUDGET, Choices

UNTOLD = {BUDGET, "shortcut", "stride_2", "stride_3", "sub_bands", "width_multiple"}  # for want of room


def described(choices: Choices) -> str:
    """A candidate on one line; what has no place of its own in it stands at its end, by name."""
    rest = {name: value for name, value in choices.items() if name not in UNTOLD}

    def take(name: str, before: str = "") -> str:
        value = rest.pop(name, "")
        return f"{before}{value:g}" if isinstance(value, float) else f"{before}{value}" if value != "" else ""

    stride = f"{take('stem_stride_frequency')}x{take('stem_stride_time')}"
    depth = "-".join(text for number in (1, 2, 3) if (text := take(f"depth_{number}")) != "0")
    if rest.get("second_kernel") == "same":
        del rest["second_kernel"]
    words = [
        f"{take('stem')} {take('stem_kernel')} / {stride}",
        f"{take('block')} {take('kernel_size') or take('branches')}",
        take("second_kernel", "then "), take("expansion", "x"), take("activation"), take("activations"),
        take("norm"), take("norm_after", "after "), take("pooling"), take("downsampling"), f"depth {depth}",
        take("growth", "growth "), *(f"{name} {value}" for name, value in rest.items()),
    ]  # fmt: skip
    return ", ".join(word for word in words if word)


def limit_name(limit: str) -> str:
    return "the input's size" if limit == MAP else limit
