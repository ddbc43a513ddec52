"""Labels as lines of fields between tabs, on standard output, and how far labelling is, beside them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from system.progress import Step, progress

BREAKING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # ends a field or line, or cannot be printed


def as_field(path: Path) -> str:
    """A file name as one field of a line: a tab or line end in it is told as Python writes it, `\\t` or `\\n`."""
    return BREAKING.sub(lambda found: found[0].encode("unicode_escape").decode(), str(path))


@contextmanager
def labelling(recordings: int, shown: bool = True) -> Iterator[Step]:
    """Yields what to call when a recording is done.

    Lines that go to a terminal show themselves how far they are, and so do those of a stream, which has no end (not
    `shown`).
    """
    if not shown or sys.stdout.isatty():
        yield lambda n=1, note="": None
        return
    with progress("labelling", recordings, unit="recordings") as step:
        yield step
