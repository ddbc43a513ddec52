"""complexity.json, complexity.md and complexity.html of a package's models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from submission.report.markdown import markdown
from submission.report.page import page

Reports = Mapping[str, Mapping[str, Mapping[str, Any]]]  # label -> part of the edition ("" for one) -> report


def write_reports(folder: Path, reports: Reports) -> None:
    """Of one model, its report; of several, all of them, by label and part."""
    titled = {title(label, part, report): report for label, parts in reports.items() for part, report in parts.items()}
    alone = next(iter(titled.values())) if len(titled) == 1 else None
    content = alone or {"systems": {label: {part or "run": report for part, report in parts.items()}
                                    for label, parts in reports.items()}}  # fmt: skip
    text = "\n".join(markdown(name, report) for name, report in titled.items())
    (folder / "complexity.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "complexity.md").write_text(text, encoding="utf-8")
    (folder / "complexity.html").write_text(page(titled), encoding="utf-8")


def title(label: str, part: str, report: Mapping[str, Any]) -> str:
    of = f", {part}" if part else ""
    return f"{label}{of}: the INT8 model ({report['backend']}) in edition {report['edition']}"
