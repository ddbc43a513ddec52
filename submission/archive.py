"""Zip files: written the same way every time, read with suspicion."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from submission.fault import Fault
from system.errors import FormatError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can tell: equal content gives equal bytes
MAX_MEMBERS = 1000
MAX_BYTES = 1 << 30  # of all members, unpacked: five outputs of 178,930 rows are well below it
MAX_RATIO = 200  # unpacked to packed; a table of equal rows reaches about 100
RATIO_FROM = 10 << 20  # bytes; below it a high ratio does no harm
MODE = stat.S_IFREG | 0o644


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """Write the members sorted by name, with one fixed time and mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, so that the mode is read
            info.external_attr = MODE << 16
            archive.writestr(info, members[name])


def read_zip(path: Path) -> tuple[dict[str, bytes], list[Fault]]:
    """Name -> content of every member that is safe to read, and what is wrong with the others. Nothing is unpacked
    to disk.

    Raises FormatError for a file that is no zip at all.
    """
    members: dict[str, bytes] = {}
    faults: list[Fault] = []
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            total = sum(info.file_size for info in infos)
            if len(infos) > MAX_MEMBERS:
                return {}, [Fault("", None, f"expected at most {MAX_MEMBERS} files, found {len(infos)}")]
            if total > MAX_BYTES:
                return {}, [Fault("", None, f"unpacks to {total:,} bytes, expected at most {MAX_BYTES:,}")]
            seen: set[str] = set()
            for info in infos:
                reason = _unsafe(info, seen)
                seen.add(info.filename.lower())
                if reason:
                    faults.append(Fault(ascii_name(info.filename), None, reason))
                elif not info.is_dir():
                    try:
                        members[info.filename] = archive.read(info)
                    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
                        faults.append(Fault(info.filename, None, f"is damaged: {error}"))
    except FileNotFoundError:
        raise FormatError(f"{path} does not exist") from None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise FormatError(f"{path} is not a readable zip file: {error}") from None
    return members, faults


def _unsafe(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    """Why a member must not be read; None if it may."""
    name = info.orig_filename
    parts = name.rstrip("/").split("/")
    mode = info.external_attr >> 16
    if "\\" in name or "\0" in name or ":" in parts[0] or any(ord(letter) < 32 for letter in name):
        return "a path with a backslash, colon or control character"
    if name.startswith("/"):
        return "an absolute path"
    if any(part in ("", ".", "..") for part in parts):
        return "a path that leads out of the package, or has empty parts"
    if info.filename.lower() in seen:
        return "the same path occurs more than once (letter case aside)"
    if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode) and stat.S_IFMT(mode):
        return "a link or special file, expected a regular file"
    if info.flag_bits & 0x1:
        return "is encrypted"
    if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to {info.file_size:,} bytes from {info.compress_size:,}: a bomb"
    return None


def ascii_name(name: str) -> str:
    """A member's name with nothing in it that could control a terminal."""
    return name.encode("ascii", "backslashreplace").decode().translate({i: f"\\x{i:02x}" for i in range(32)})
