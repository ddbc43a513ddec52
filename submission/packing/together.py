"""The files of a package appear together or not at all, and nothing of a killed command stays for long."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from system.errors import ConfigError

PREFIX, SUFFIX = ".package.", ".part"
LOCK = ".lock"  # held as long as the command lives that made the folder: the system frees it, however it ends


@contextmanager
def together(out: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success move its files into `out`, the zip last, else leave no trace.

    What commands left that were killed is removed. Raises ConfigError where no folder can be; an error of writing
    names the file that was asked for.
    """
    near = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not near.is_dir():
        raise ConfigError(f"{out}: expected a folder, or a place to make one, but {near} is a file")
    for left in near.glob(f"{PREFIX}*{SUFFIX}"):
        _remove_if_left(left)
    try:
        part = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=SUFFIX, dir=near))
    except OSError as error:
        raise ConfigError(
            f"{out}: expected a place to make a folder, but {near} takes none ({error.strerror})"
        ) from None
    try:
        with FileLock(part / LOCK):
            yield part
            out.mkdir(parents=True, exist_ok=True)
            files = (path for path in part.iterdir() if path.name != LOCK)
            for file in sorted(files, key=lambda path: path.suffix == ".zip"):
                os.replace(file, out / file.name)
    except OSError as error:  # a full disk names no file, or one of the temporary folder
        written = Path(error.filename) if isinstance(error.filename, str) else part
        if written.is_relative_to(part):
            error.filename = str(out / written.relative_to(part))
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _remove_if_left(part: Path) -> None:
    try:
        with FileLock(part / LOCK, timeout=0):
            shutil.rmtree(part, ignore_errors=True)
    except (Timeout, OSError):
        return  # another command is at work in it, or it is not ours to remove
