"""How far labelling is, while the labels themselves go to standard output."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from system.progress import Step, progress


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
