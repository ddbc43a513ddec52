"""The counts of every network of the catalogue as they stand. Write them anew: python -m tests.models.golden"""

from __future__ import annotations

import csv
from pathlib import Path

from system.models.catalog import CATALOG
from system.models.layers import FORMS
from system.models.report import COUNTS, catalog_report

FILE = Path(__file__).with_name("golden_counts.csv")
Counts = dict[tuple[str, str], tuple[int, ...]]  # (name, form) -> the counts in the order of COUNTS


def found() -> Counts:
    """Without the networks whose package is not installed."""
    report = catalog_report(list(CATALOG))
    return {
        (name, form): tuple(entry[form][key] for key in COUNTS)
        for name, entry in report.items()
        for form in FORMS
        if form in entry
    }


def read() -> Counts:
    with FILE.open(encoding="utf-8", newline="") as file:
        return {(row["name"], row["form"]): tuple(int(row[key]) for key in COUNTS) for row in csv.DictReader(file)}


def write() -> None:
    with FILE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["name", "form", *COUNTS])
        writer.writerows([*key, *counts] for key, counts in sorted(found().items()))


if __name__ == "__main__":
    write()
