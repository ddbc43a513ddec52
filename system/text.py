"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(lines: Sequence[Sequence[str]], numbers: bool = False) -> str:
    """Columns as wide as their widest cell; of `numbers` all but the first and the last stand to the right."""
    columns = max(map(len, lines))
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(columns)]
    to_the_right = range(1, columns - 1) if numbers else ()
    rows = (
        [cell.rjust(widths[i]) if i in to_the_right else cell.ljust(widths[i]) for i, cell in enumerate(line)]
        for line in lines
    )
    return "\n".join("  ".join(cells).rstrip() for cells in rows)
