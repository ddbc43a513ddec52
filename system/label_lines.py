"""Lines of labels on standard output, and how far they are on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from system.progress import Step, progress


@contextmanager
def labelling(recordings: int, shown: bool = True) -> Iterator[tuple[TextIO, Step]]:
    """Yields where to print the lines, and what to call when a recording is done.

    Where the lines go to a terminal they show themselves how far they are, and so do those of a stream, which has no
    end (not `shown`). The lines are printed to what is yielded: a bar takes the place of `sys.stdout` and would carry
    them to standard error.
    """
    out = sys.stdout
    if not shown or out.isatty():
        yield out, lambda n=1, note="": None
        return
    with progress("labelling", recordings, unit="recordings") as step:
        yield out, step
