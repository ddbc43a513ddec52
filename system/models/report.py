"""The catalogue's costs in three forms beside the published numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from system.complexity import Complexity
from system.models.catalog import CATALOG, Entry
from system.models.layers import FORMS, Form
from system.models.network import complexity

SPEC_KEYS = (
    "stem_kernel", "stem_stride", "block", "kernel_size", "expansion", "activation", "activations_kept", "norm",
    "pooling", "downsampling",
)  # fmt: skip
COUNTS = ("params", "macs_exact", "macs_torchinfo", "macs_nessi_tflite", "macs_fvcore")


def entry_cost(entry: Entry, form: Form) -> Complexity:
    """The cost of a named network on the input its numbers were published for."""
    assert entry.spec is not None
    return complexity(entry.spec, entry.shape, entry.classes, form)


def counts(cost: Complexity) -> dict[str, int]:
    return {key: getattr(cost, key) for key in COUNTS}


def catalog_report(names: Sequence[str]) -> dict[str, Any]:
    """name -> input, spec, the counts of each form, published (None where nothing was).

    Published numbers of the train form stand directly under `published`, those of another form under its name.
    """
    report: dict[str, Any] = {}
    for name in names:
        entry = CATALOG[name]
        published: dict[str, Any] = dict(entry.published.get("train", {}))
        published |= {form: dict(numbers) for form, numbers in entry.published.items() if form != "train"}
        report[name] = {
            "input": [1, *entry.shape],
            "spec": None if entry.spec is None else {key: entry.spec.plain()[key] for key in SPEC_KEYS},
            **{form: counts(entry_cost(entry, form)) for form in FORMS},
            "published": published or None,
            "source": entry.source,
        }
    return report


def print_catalog(report: dict[str, Any]) -> None:
    """A line per form, and a line with the relative difference for each form with published numbers."""
    line = "{:<26} {:<11} {:<10} {:>11} {:>14} {:>14} {:>14} {:>14}"
    print(line.format("model", "input", "form", "params", "exact", "torchinfo", "NeSsi-TFLite", "fvcore"))
    for name, entry in report.items():
        shape = "x".join(map(str, entry["input"]))
        for form in FORMS:
            print(line.format(name, shape, form, *(f"{entry[form][key]:,}" for key in COUNTS)))
            published = CATALOG[name].published.get(form, {})
            if published:
                numbers = [f"{published[key]:,}" if key in published else "" for key in COUNTS]
                print(line.format("", "", "published", *numbers))
                apart = [f"{entry[form][key] / published[key] - 1:+.2%}" if key in published else "" for key in COUNTS]
                print(line.format("", "", "apart", *apart))
