"""Where the templates of a page are found, and what all of them may use."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def environment(folder: Path) -> Environment:
    """Templates of `folder`, which may extend base.html. Values are escaped; an undefined one is an error."""
    found = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals["common_style"] = Markup((HERE / "style.css").read_text(encoding="utf-8").rstrip())
    found.filters["thousands"] = lambda number: f"{number:,}"
    return found
