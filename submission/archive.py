"""Zip files: written the same way every time, read with suspicion."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from submission.checks.fault import Fault
from system.errors import FormatError

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can tell: equal content gives equal bytes
MAX_MEMBERS = 1000
MAX_BYTES = 1 << 30  # of all members, unpacked: five outputs of 178,930 rows are well below it
MAX_RATIO = 200  # unpacked to packed; a table of equal rows reaches about 100
RATIO_FROM = 10 << 20  # bytes; below it a high ratio does no harm
MODE = stat.S_IFREG | 0o644
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others are unpacked in blocks of any size
DAMAGE = (  # what zipfile and zlib raise for wrong bytes: the last three for offsets and names that cannot be
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError, OverflowError,
)  # fmt: skip


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """Write the members sorted by name, with one fixed time and mode."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, so that the mode is read
            info.external_attr = MODE << 16
            archive.writestr(info, members[name])


def holds(path: Path, name: str) -> bool:
    """Whether `path` is a zip with a member `name`."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return name in archive.namelist()


class Members:
    """The members of a zip that are safe to read, by name; `read` unpacks one, in memory."""

    def __init__(self, archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo]) -> None:
        self._archive, self._infos = archive, infos
        self._unread = set(infos)
        self.faults: list[Fault] = []  # of the members that were read

    def __contains__(self, name: object) -> bool:
        return name in self._infos

    def __iter__(self) -> Iterator[str]:
        return iter(self._infos)

    def read(self, name: str) -> bytes | None:
        """The content; None, and a fault, for a member that is damaged. Never more than the size it tells."""
        self._unread.discard(name)
        info = self._infos[name]
        try:
            with self._archive.open(info) as file:
                return file.read(info.file_size + 1)  # `ZipFile.read` unpacks all, whatever the size told
        except DAMAGE as error:
            self.faults.append(Fault(ascii_name(name), None, f"is damaged: {error}"))
            return None

    def read_rest(self) -> None:
        """Read what was not read yet, for its damage alone."""
        for name in sorted(self._unread):
            self.read(name)


@contextmanager
def opened_zip(path: Path) -> Iterator[tuple[Members, list[Fault]]]:
    """The members that are safe to read, and what is wrong with the others. Nothing is unpacked to disk.

    Raises FormatError for a file that is no zip at all.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise FormatError(f"{path} does not exist") from None
    except IsADirectoryError:
        held = ", ".join(sorted(file.name for file in path.glob("*.zip"))) or "none"
        raise FormatError(f"{path}: expected a .zip, found a folder (it holds {held})") from None
    except DAMAGE as error:
        raise FormatError(f"{path} is not a readable zip file: {error}") from None
    with archive:
        safe, faults = _safe_members(archive.infolist())
        yield Members(archive, safe), faults


def _safe_members(infos: Sequence[zipfile.ZipInfo]) -> tuple[dict[str, zipfile.ZipInfo], list[Fault]]:
    total = sum(info.file_size for info in infos)
    if len(infos) > MAX_MEMBERS:
        return {}, [Fault("", None, f"expected at most {MAX_MEMBERS} files, found {len(infos)}")]
    if total > MAX_BYTES:
        return {}, [Fault("", None, f"unpacks to {total:,} bytes, expected at most {MAX_BYTES:,}")]
    safe: dict[str, zipfile.ZipInfo] = {}
    faults: list[Fault] = []
    seen: set[str] = set()
    for info in infos:
        reason = _unsafe(info, seen)
        seen.add(info.filename.lower())
        if reason:
            faults.append(Fault(ascii_name(info.filename), None, reason))
        elif not info.is_dir():
            safe[info.filename] = info
    return safe, faults


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
    if info.compress_type not in METHODS:
        return f"is packed by method {info.compress_type}, expected deflate or none"
    if info.file_size > RATIO_FROM and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"unpacks to {info.file_size:,} bytes from {info.compress_size:,}: a bomb"
    return None


def ascii_name(name: str) -> str:
    """A member's name with nothing in it that could control a terminal."""
    return name.encode("ascii", "backslashreplace").decode().translate({i: f"\\x{i:02x}" for i in range(32)})
