"""Is a file of the kind that its name says? Looked into, never loaded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import PurePosixPath

import soundfile

from submission.archive import Members
from submission.checks.fault import Fault
from submission.checks.meta import read_meta


def check_kind(name: str, members: Members) -> list[Fault]:
    """Faults of a file that must be there, where its name's ending is one of `KINDS`."""
    check = KINDS.get(PurePosixPath(name).suffix)
    content = members.read(name) if check else None
    return check(name, content) if check and content is not None else []


def _mapping(name: str, content: bytes) -> list[Fault]:
    return read_meta(name, content)[1]


def _recording(name: str, content: bytes) -> list[Fault]:
    try:
        length = soundfile.info(io.BytesIO(content)).frames
    except soundfile.SoundFileError:
        length = 0
    return [] if length else [Fault(name, None, "expected a recording, found none")]


def _table(name: str, content: bytes) -> list[Fault]:
    rows = sum(1 for line in content.splitlines() if line.strip())
    return [] if rows > 1 else [Fault(name, None, "expected at least one row below a header, found none")]


def _saved(name: str, content: bytes) -> list[Fault]:
    """PyTorch and Keras both save a zip."""
    return [] if zipfile.is_zipfile(io.BytesIO(content)) else [Fault(name, None, "is not a file of saved weights")]


KINDS: dict[str, Callable[[str, bytes], list[Fault]]] = {
    ".yaml": _mapping,
    ".wav": _recording,
    ".csv": _table,
    ".pt": _saved,
    ".pth": _saved,
    ".keras": _saved,
}
