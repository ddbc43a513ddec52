"""The catalogue's costs in both forms beside the published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from system.complexity import Complexity
from system.models.catalog import CATALOG, PUBLISHED
from system.models.network import complexity

SPEC_KEYS = (
    "stem_kernel", "stem_stride", "block", "kernel_size", "expansion", "activation", "activations_kept", "norm",
    "pooling", "downsampling",
)  # fmt: skip
COUNTS = ("params", "macs_exact", "macs_torchinfo", "macs_nessi_tflite")


def counts(cost: Complexity) -> dict[str, int]:
    return {key: getattr(cost, key) for key in COUNTS}


def catalog_report(names: Sequence[str]) -> dict[str, Any]:
    """name -> input, spec, train, deploy, published (None where nothing was published for this input)."""
    report = {}
    for name in names:
        spec = CATALOG[name]
        published = PUBLISHED.get(name)
        shape, classes = (published.shape, published.classes) if published else ((1, 80, 51), 10)
        report[name] = {
            "input": [1, *shape],
            "spec": {key: spec.plain()[key] for key in SPEC_KEYS},
            "train": counts(complexity(spec, shape, classes, "train")),
            "deploy": counts(complexity(spec, shape, classes, "deploy")),
            "published": published.counts if published else None,
        }
    return report


def print_catalog(report: dict[str, Any]) -> None:
    line = "{:<26} {:<11} {:<10} {:>9} {:>12} {:>12} {:>12}"
    print(line.format("model", "input", "form", "params", "exact", "torchinfo", "NeSsi-TFLite"))
    for name, entry in report.items():
        shape = "x".join(map(str, entry["input"]))
        for form in ("train", "deploy", "published"):
            if entry[form]:
                numbers = [f"{entry[form][key]:,}" if key in entry[form] else "" for key in COUNTS]
                print(line.format(name, shape, form, *numbers))
