"""Where derived data is kept, and how a cache entry is named and built once."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
from filelock import FileLock

from system.errors import DataError
from system.files import whole_folder
from system.progress import progress


def cache_folder() -> Path:
    """`TINYSCENE_CACHE`, or the user's cache folder (~/.cache/tinyscene on Linux)."""
    chosen = os.environ.get("TINYSCENE_CACHE")
    return Path(chosen).expanduser() if chosen else Path(platformdirs.user_cache_dir("tinyscene"))


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Let one process fill `folder` while others wait; a folder that exists is whole.

    `build` gets a temporary folder. Raises DataError if the cache folder cannot be written.
    """
    if folder.is_dir():
        return folder
    lock = FileLock(folder.parent / f"{folder.name}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with progress(f"waiting for another process that writes {folder}", None):
            lock.acquire()
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{folder.parent}: the cache cannot be written ({reason}); set TINYSCENE_CACHE") from None
    try:
        if not folder.is_dir():
            for left_by_a_kill in folder.parent.glob(f".{folder.name}.*.part"):
                shutil.rmtree(left_by_a_kill, ignore_errors=True)
            with whole_folder(folder) as part:
                build(part)
    finally:
        lock.release()
    return folder


@contextmanager
def growing_array(path: Path, row_shape: tuple[int, ...]) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an .npy file of float32 rows whose number is not known yet: yields `append(rows)`.

    Plain writes, not a memory map: a full disk is an error here, and a crash there.
    """
    count = 0
    with path.open("wb") as file:

        def header() -> None:
            # numpy leaves room for the first axis to grow, so the last header has the size of the first.
            described = {"descr": "<f4", "fortran_order": False, "shape": (count, *row_shape)}
            np.lib.format.write_array_header_1_0(file, described)

        def append(rows: np.ndarray) -> None:
            nonlocal count
            if rows.shape[1:] != row_shape or rows.dtype != np.float32:
                raise ValueError(f"expected float32 rows of shape {row_shape}, found {rows.dtype} {rows.shape}")
            file.write(np.ascontiguousarray(rows).data)
            count += len(rows)

        header()
        yield append
        file.seek(0)
        header()
