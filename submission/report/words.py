"""Sentences that the Markdown and the HTML report share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from quant.portable import statement


def size(value: Sequence[int]) -> str:
    """A map's shape, channels x frequency x time."""
    return " x ".join(map(str, value))


def verdict(report: Mapping[str, Any]) -> str:
    met = "met" if report["within_budget"] else "NOT met"
    budget = f"The budget {report['budget']} is {met}." if report["budget"] else "There is no budget."
    times = report.get("inferences", 1)
    per = "one segment" if times == 1 else f"one recording, which is {times} segments"
    trained = " The weights were trained on the whole development set." if report["trained_on_everything"] else ""
    return f"{budget} Read off the deployed graph; MACs are of {per}.{trained}"


def peak(report: Mapping[str, Any]) -> str:
    if "peak_activation_layer" not in report:
        return "This run's complexity.json does not tell at which layer."
    counts = Counter(size(one) for one in report["peak_activation_maps"])
    maps = " and ".join(f"{count} of {shape}" for shape, count in counts.items())
    return (
        f"Most activation memory, {report['peak_activation_bytes']:,} bytes, is needed at "
        f"{report['peak_activation_layer']}, while 8-bit maps are alive: {maps} (channels x frequency x time)."
    )


def receptive_field(report: Mapping[str, Any]) -> str:
    field = report.get("receptive_field")
    if field is None:
        return "This run's complexity.json tells no receptive field."
    low, high = field["hertz"]
    hertz = f"{low:,.0f} Hz" if low == high else f"{low:,.0f} Hz at the lowest place, {high:,.0f} Hz at the highest"
    bands = _seen(field["bands"], field["of_bands"], "mel bands", hertz)
    frames = _seen(field["frames"], field["of_frames"], "frames", f"{field['milliseconds']:g} ms")
    text = f"One value of the last feature map sees {bands} and {frames}."
    if field["whole_map"]:
        text += f" Statistics of {', '.join(field['whole_map'])}, and the pooling, see the whole segment besides."
    return text


def portable(report: Mapping[str, Any]) -> str:
    found = report.get("portable")
    return "Whether the model is portable was not recorded; quantize again." if found is None else statement(found)


def _seen(width: int, of: int, what: str, measure: str) -> str:
    return f"{width} of {of} {what} ({measure})" if width < of else f"all {of} {what} ({measure}; a field of {width})"


def energy(report: Mapping[str, Any]) -> str:
    found = report["energy"]
    if found["joules"] is None:
        return f"Energy is not measured: {found['not_measured']}."
    return (
        f"One segment took {1e3 * found['joules']:.3g} mJ of the whole processor on the machine that quantized the "
        f"model, {1e3 * found['joules_above_idle']:.3g} mJ above idling (mean of {found['runs']:,} runs, one thread)."
    )
