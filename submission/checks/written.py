"""Does a package hold the numbers that its runs write? Its code and texts may have been edited, its numbers not."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from submission.archive import DAMAGE, Members
from submission.checks.fault import Fault
from submission.checks.meta import short

Compare = Callable[[str, bytes, bytes], Iterator[Fault]]  # name, expected content, found content


def check_written(written: Mapping[str, bytes], members: Members) -> Iterator[Fault]:
    """Faults of the files whose ending is one of `COMPARED`. `written`: path -> content, by `CODE` of
    submission/inference/code.py.
    """
    for name, expected in written.items():
        compare = COMPARED.get(PurePosixPath(name).suffix)
        if compare is not None and name not in members:
            yield Fault(name, None, "is missing")
        elif compare is not None and (found := members.read(name)) is not None:
            yield from compare(name, expected, found)


def _same_bytes(name: str, expected: bytes, found: bytes) -> Iterator[Fault]:
    if found != expected:
        yield Fault(name, None, "is not what the run writes")


def _same_lines(name: str, expected: bytes, found: bytes) -> Iterator[Fault]:
    yield from _same_bytes(name, b"\n".join(expected.splitlines()), b"\n".join(found.splitlines()))


def _same_values(name: str, expected: bytes, found: bytes) -> Iterator[Fault]:
    try:
        told = json.loads(found)
    except (ValueError, RecursionError):
        return  # a fault of submission/checks/code.py
    for path, value, other in _differences(json.loads(expected), told):
        yield Fault(name, None, f"{path}: expected {value} as measured, found {short(other)}")


def _differences(expected: Any, found: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(expected, dict):
        for key, value in expected.items():
            other = found.get(key) if isinstance(found, dict) else None
            yield from _differences(value, other, f"{path}.{key}" if path else key)
    elif found != expected:
        yield path, expected, found


def _same_tensors(name: str, expected: bytes, found: bytes) -> Iterator[Fault]:
    try:
        same = _records(found) == _records(expected)
    except DAMAGE:
        same = False
    if not same:
        yield Fault(name, None, "does not hold the tensors that the run writes")


def _records(content: bytes) -> dict[str, bytes]:
    """The tensors of a file of `torch.save`, and what names them; the rest of it differs between versions of PyTorch.

    Raises one of `DAMAGE` for another file. Nothing is unpickled.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise zipfile.BadZipFile("PyTorch does not compress")
        if sum(info.file_size for info in infos) > len(content):
            raise zipfile.BadZipFile("its files overlap")
        named = ((info.filename.partition("/")[2], info) for info in infos)
        return {name: archive.read(info) for name, info in named if name.startswith("data")}


COMPARED: dict[str, Compare] = {
    ".json": _same_values,
    ".csv": _same_lines,
    ".safetensors": _same_bytes,
    ".pt": _same_tensors,
    ".pth": _same_tensors,
}
