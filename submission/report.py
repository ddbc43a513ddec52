"""The complexity report of a package: what the INT8 graph costs, in every official view."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from submission.run_parts import RunParts, budget_of
from system.editions import Edition

VIEWS = {  # key of complexity.json -> who counts so
    "macs_exact": "exact: weights x output positions, attention products included",
    "macs_torchinfo": "torchinfo (DCASE 2022-2025): biases counted at every position, functional operations not at all",
    "macs_nessi_tflite": "NeSsi on a TFLite file: pooling, means and additions counted, biases not",
}
WHOLE = ("total_bytes", "peak_activation_bytes")  # every other key in _bytes is a part of total_bytes


def complexity_report(edition: Edition, run: RunParts) -> dict[str, Any]:
    """The submission's complexity.json: the INT8 graph's own, the limits, and warnings."""
    complexity = run.complexity
    budget = budget_of(edition, run)
    limits = budget.limits() if budget else {}
    by_type = {key: value for key, value in complexity.items() if key.endswith("_bytes") and key not in WHOLE}
    if rest := complexity["total_bytes"] - sum(by_type.values()):
        by_type["other_bytes"] = by_type.get("other_bytes", 0) + rest
    return {
        **complexity,
        "edition": edition.key,
        "backend": run.backend,
        "budget": budget.text if budget else None,
        "limits": limits,
        "within_budget": not budget.excess(complexity) if budget else True,
        "bytes_by_type": by_type,
        "warnings": _warnings(complexity, limits.get("macs"), edition),
    }


def _warnings(complexity: Mapping[str, Any], limit: int | None, edition: Edition) -> list[str]:
    warnings = [f"unverified rule of edition {edition.key}: {text}" for text in edition.unverified]
    counts = {view: int(complexity[view]) for view in VIEWS}
    over = [view for view, count in counts.items() if limit is not None and count > limit]
    if limit is not None and 0 < len(over) < len(VIEWS):
        told = ", ".join(f"{view} {count:,}" for view, count in counts.items())
        warnings.append(f"the official views disagree about the limit of {limit:,} MACs: {told}")
    elif over:
        warnings.append(f"every official view is above the limit of {limit:,} MACs")
    return warnings


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown text."""
    limits = report["limits"]

    def row(name: str, value: int, quantity: str, unit: str = "") -> str:
        limit = limits.get(quantity)
        share = f"{limit:,} ({100 * value / limit:.1f} % used)" if limit else "none"
        return f"| {name} | {value:,}{unit} | {share} |"

    lines = [
        f"# Complexity of the INT8 model ({report['backend']}), edition {report['edition']}",
        "",
        f"Budget: {report['budget'] or 'none'}; {'met' if report['within_budget'] else 'NOT met'}. "
        "Read off the deployed graph, for one segment.",
        "",
        "| quantity | value | limit |",
        "|---|---:|---|",
        row("parameters, zeros included", report["params"], "params"),
        row("parameters that are not zero", report["params_nonzero"], ""),
        row("MACs, the largest view", report["macs"], "macs"),
        row("model size", report["total_bytes"], "bytes", " B"),
        row("peak activation memory", report["peak_activation_bytes"], "activation_bytes", " B"),
        "",
        "## MACs as the official tools count them",
        "",
        "| view | MACs |",
        "|---|---:|",
        *(f"| {text} | {report[view]:,} |" for view, text in VIEWS.items()),
        "",
        *(f"**Warning:** {text}.\n" for text in report["warnings"]),
        "## Bytes by type",
        "",
        "| type | bytes |",
        "|---|---:|",
        *(
            f"| {name.removesuffix('_bytes').replace('_', ' ')} | {count:,} |"
            for name, count in report["bytes_by_type"].items()
        ),
        "",
        "## Layers",
        "",
        *_layers(report.get("layers") or []),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _layers(layers: list[Mapping[str, Any]]) -> list[str]:
    """A table with a column for every key that some layer has."""
    if not layers:
        return ["The complexity.json of this run lists no layers."]
    keys = list(dict.fromkeys(key for layer in layers for key in layer))
    numeric = {key for key in keys if all(isinstance(layer.get(key, 0), int | float) for layer in layers)}
    return [
        "| # | " + " | ".join(keys) + " |",
        "|---:|" + "|".join("---:" if key in numeric else "---" for key in keys) + "|",
        *(f"| {i} | " + " | ".join(_cell(layer.get(key)) for key in keys) + " |" for i, layer in enumerate(layers, 1)),
    ]


def _cell(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return " x ".join(str(part) for part in value)
    return str(value).replace("|", "\\|")
