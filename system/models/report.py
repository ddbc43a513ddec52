"""The catalogue's costs in three forms beside the published numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from system.complexity import Complexity
from system.errors import MissingPackage
from system.models.catalog import CATALOG, Entry
from system.models.forms import fresh
from system.models.hooked import count
from system.models.layers import FORMS, Form
from system.models.network import complexity
from system.progress import progress

SPEC_KEYS = (
    "stem_kernel", "stem_stride", "block", "kernel_size", "expansion", "activation", "activations_kept", "norm",
    "pooling", "downsampling",
)  # fmt: skip
VIEWS = {
    "macs_exact": "exact", "macs_torchinfo": "torchinfo", "macs_nessi_tflite": "NeSsi-TFLite", "macs_fvcore": "fvcore",
}  # fmt: skip
COUNTS = {"params": "params", **VIEWS}


def entry_cost(entry: Entry, form: Form) -> Complexity:
    """The cost of a named network on the input its numbers were published for: by arithmetic if it has a spec."""
    if entry.spec is not None:
        return complexity(entry.spec, entry.shape, entry.classes, form)
    return seen_cost(entry, form)


def seen_cost(entry: Entry, form: Form) -> Complexity:
    """The same of the network as built, with the names of its layers."""
    with torch.device("meta"):
        return count(fresh(entry, form), entry.shape)


def catalog_report(names: Sequence[str]) -> dict[str, Any]:
    """name -> input, spec, the counts of each form, published (None where nothing was), source, remark.

    Published numbers of the train form stand directly under `published`, those of another form under its name. A
    network whose package is not installed has only `missing`. Raises ConfigError for an unknown name.
    """
    report: dict[str, Any] = {}
    with progress("counting", len(names), unit="models") as step:
        for name in names:
            report[name] = entry_report(CATALOG[name])
            step(1, name)
    return report


def entry_report(entry: Entry) -> dict[str, Any]:
    try:
        costs = {form: entry_cost(entry, form) for form in FORMS}
    except MissingPackage as error:
        return {"missing": str(error)}
    published: dict[str, Any] = dict(entry.published.get("train", {}))
    published |= {form: dict(numbers) for form, numbers in entry.published.items() if form != "train"}
    return {
        "input": [1, *entry.shape],
        "spec": None if entry.spec is None else {key: entry.spec.plain()[key] for key in SPEC_KEYS},
        **{form: {key: getattr(cost, key) for key in COUNTS} for form, cost in costs.items()},
        "published": published or None,
        "source": entry.source,
        "remark": entry.remark,
    }


class Row(NamedTuple):
    """One form of one network."""

    name: str
    shape: str
    form: Form
    found: Mapping[str, int]
    published: Mapping[str, int]

    def number(self, key: str) -> str:
        return f"{self.published[key]:,}" if key in self.published else ""

    def apart(self, key: str) -> str:
        """Relative difference of the number found to the published one."""
        return f"{self.found[key] / self.published[key] - 1:+.2%}" if key in self.published else ""


def rows(report: Mapping[str, Any]) -> Iterator[Row]:
    """The forms that differ from the one before, or have published numbers."""
    for name, found in report.items():
        shape, before = "x".join(map(str, found.get("input", ()))), None
        for form in FORMS if "missing" not in found else ():
            published = CATALOG[name].published.get(form, {})
            if found[form] != before or published:
                yield Row(name, shape, form, found[form], published)
            before = found[form]


def print_catalog(report: Mapping[str, Any]) -> None:
    """A line per form; where numbers were published, a line with them and one with the relative difference."""
    line = "{:<28} {:<13} {:<9} {:>11} {:>15} {:>15} {:>15} {:>15}"
    print(line.format("model", "input", "form", *COUNTS.values()))
    for row in rows(report):
        print(line.format(row.name, row.shape, row.form, *(f"{row.found[key]:,}" for key in COUNTS)))
        if row.published:
            print(line.format("", "", "published", *(row.number(key) for key in COUNTS)))
            print(line.format("", "", "apart", *(row.apart(key) for key in COUNTS)))
    for name, said in remarks(report):
        print(f"{name}: {said}")


def print_markdown(report: Mapping[str, Any]) -> None:
    """The table of docs/networks.md: MACs in the view they were published in, else exact."""
    print("| model | input | form | parameters | published | apart | MACs | published | apart |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|")
    for row in rows(report):
        view = next((key for key in VIEWS if key in row.published), "macs_exact")
        macs = f"{row.found[view]:,} {VIEWS[view]}"
        print(f"| {row.name} | {row.shape} | {row.form} | {row.found['params']:,} | {row.number('params')} "
              f"| {row.apart('params')} | {macs} | {row.number(view)} | {row.apart(view)} |")  # fmt: skip
    print()
    for name, said in remarks(report):
        print(f"- {name}: {said}")


def remarks(report: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, found in report.items():
        if said := found.get("missing") or found["remark"]:
            yield name, said
        if "missing" not in found and found["train"]["macs_exact"] > 1.05 * found["train"]["macs_torchinfo"]:
            share = found["train"]["macs_torchinfo"] / found["train"]["macs_exact"]
            yield name, f"torchinfo, the official tool, sees {share:.0%} of it; --model {name} says why"
