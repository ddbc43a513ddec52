"""A complexity report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from submission.report import words

QUANTITIES = (  # what, key of complexity.json, key of its limit, unit
    ("parameters, zeros included", "params", "params", ""),
    ("parameters that are not zero", "params_nonzero", "", ""),
    ("MACs, the largest view", "macs", "macs", ""),
    ("model size", "total_bytes", "bytes", " B"),
    ("peak activation memory", "peak_activation_bytes", "activation_bytes", " B"),
)


def markdown(title: str, report: Mapping[str, Any]) -> str:
    """The report of one model as Markdown text."""
    return "\n".join(_lines(title, report)).rstrip() + "\n"


def _lines(title: str, report: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"# {title}", "", words.verdict(report), "")
    yield from (f"**Warning:** {text}.\n" for text in report["warnings"])
    yield from ("| quantity | value | limit |", "|---|---:|---|")
    for what, key, quantity, unit in QUANTITIES:
        limit = report["limits"].get(quantity)
        share = f"{limit:,} ({100 * report[key] / limit:.1f} % used)" if limit else "none"
        yield f"| {what} | {report[key]:,}{unit} | {share} |"
    for sentences in (words.peak, words.receptive_field, words.energy, words.portable):
        yield from ("", sentences(report))
    yield ""
    yield from ("## As the official tools count", "", "| tool | BatchNorm | parameters | MACs | how |")
    yield "|---|---|---:|---:|---|"
    for view in report["views"]:
        yield f"| {view['tool']} | {view['batch_norm']} | {view['params']:,} | {view['macs']:,} | {view['rule']} |"
    yield from ("", "## Bytes by type", "", "| type | bytes |", "|---|---:|")
    yield from (f"| {what} | {count:,} |" for what, count in report["bytes_by_type"].items())
    yield f"| all | {report['total_bytes']:,} |"
    yield from ("", "## Layers", "")
    yield from _layers(report.get("layers") or [])


def _layers(layers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table with a column for every key that some layer has."""
    if not layers:
        yield "The complexity.json of this run lists no layers."
        return
    keys = list(dict.fromkeys(key for layer in layers for key in layer))
    numeric = {key for key in keys if all(isinstance(layer.get(key, 0), int | float) for layer in layers)}
    yield "| # | " + " | ".join(keys) + " |"
    yield "|---:|" + "|".join("---:" if key in numeric else "---" for key in keys) + "|"
    for number, layer in enumerate(layers, 1):
        yield f"| {number} | " + " | ".join(_cell(layer.get(key)) for key in keys) + " |"


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return words.size(value)
    return str(value).replace("|", "\\|")
