"""Files appear whole or not at all: written under a temporary name, then moved into place."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from system.errors import RunError


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Let a failed write name the file that was to be written: it knows no name, or a temporary one."""
    try:
        yield
    except OSError as error:
        known = Path(error.filename).parts if isinstance(error.filename, str) else ()
        if not known or any(name.startswith(_temporary(path)) for name in known):
            error.filename = str(path)
        raise


def _temporary(path: Path) -> str:
    """How the names begin under which `path` is written."""
    return f".{path.name}."


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it there on success, remove it on any failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        handle, name = tempfile.mkstemp(prefix=_temporary(path), suffix=".part", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            part.chmod(0o644)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; move it there on success, remove it on any failure.

    If another process put the same folder there first, theirs is kept: both are whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        part = Path(tempfile.mkdtemp(prefix=_temporary(path), suffix=".part", dir=path.parent))
        try:
            yield part
            part.chmod(0o755)
            try:
                os.replace(part, path)
            except OSError:
                if not path.is_dir():
                    raise
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a folder inside `folder`, into which its files move on success; after a failure `folder` is as it was.

    What a killed process left of it is removed: the caller has seen to it that there is no other.
    """
    part = folder / ".part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        for file in part.iterdir():
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str = ",") -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())


def write_with(path: Path, save: Callable[[Path], Any]) -> None:
    """Let a library write its own format: `save` gets a temporary path with the final suffix."""
    with whole_folder_for_file(path) as part:
        save(part)


@contextmanager
def whole_folder_for_file(path: Path) -> Iterator[Path]:
    """Like `whole_file`, for libraries that look at the file's name or suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _naming(path):
        folder = Path(tempfile.mkdtemp(prefix=_temporary(path), dir=path.parent))
        try:
            yield folder / path.name
            os.replace(folder / path.name, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def read_json(path: Path, made_by: str) -> Any:
    """Read a JSON file of a run; a missing or damaged one names the command that makes it.

    Raises RunError.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; {made_by} writes it") from None
    except (ValueError, OSError) as error:
        raise RunError(f"{path} cannot be read as JSON ({error}); {made_by} writes it anew") from None


def require_whole_checkpoint(path: Path) -> None:
    """Raises RunError for a file of an interrupted training that is no archive of PyTorch's."""
    if not zipfile.is_zipfile(path):
        raise RunError(f"{path}: expected a checkpoint to go on from, found a damaged file; remove it to begin anew")
