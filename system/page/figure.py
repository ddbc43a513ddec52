"""Figures as SVG to stand inside a page: colours are the page's own, so that they follow light and dark."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

SHOWN_AS = {  # drawn with -> the page's, see style.css
    "#010203": "var(--ink)", "#040506": "var(--line)", "#070809": "var(--accent)", "#0a0b0c": "var(--second)",
    "#0d0e0f": "var(--muted)", "#101112": "var(--paper)",
}  # fmt: skip
INK, LINE, ACCENT, SECOND, MUTED, PAPER = SHOWN_AS
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: it can be searched, copied and scaled
    "text.parse_math": False,  # a name may hold a dollar
    "font.size": 11, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": LINE, "xtick.color": INK,
    "ytick.color": INK, "grid.color": LINE, "grid.linewidth": 0.6, "axes.spines.top": False,
    "axes.spines.right": False, "legend.frameon": False, "axes.axisbelow": True,
}  # fmt: skip


def svg(draw: Callable[[Figure], str | None], name: str, title: str, size: tuple[float, float]) -> str:
    """The figure that `draw` fills, `size` in inches, as one accessible <svg>: with a title and, if `draw` returns one,
    a description. `name` makes its ids the only ones of a page that holds several figures."""
    with rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        description = draw(figure)
        content = io.StringIO()
        figure.savefig(content, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for drawn, shown in SHOWN_AS.items():
        text = text.replace(drawn, shown)
    head, _, body = text.partition(">")
    head = re.sub(r' (width|height)="[^"]*"', "", head)
    told, names = f'<title id="{name}-title">{html.escape(title)}</title>', f"{name}-title"
    if description is not None:
        told += f'<desc id="{name}-desc">{html.escape(description)}</desc>'
        names += f" {name}-desc"
    return f'{head} role="img" aria-labelledby="{names}">{told}{body}'
