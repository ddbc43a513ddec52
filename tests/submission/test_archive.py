"""A zip that is not safe to read is told, not unpacked."""

from __future__ import annotations

import stat
import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from submission import archive
from submission.validate import validate
from system.errors import FormatError
from tests.submission.conftest import OUTPUT, Members, faults_of


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/passwd", "task1/../../x", "C:/x", "a\\b", "a//b", "task1/./x", "a\nb"]
)
def test_unsafe_paths(package: Members, tmp_path: Path, eval_root: Path, name: str) -> None:
    found = faults_of({**package, name: b"x"}, tmp_path / "x.zip", eval_root)
    assert [fault for fault in found if "path" in fault.message]
    assert "\n" not in str(found[0])


def append(path: Path, name: str, content: bytes, mode: int = archive.MODE) -> None:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr(info, content)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "content", "mode", "words"),
    [
        ("task1/link", b"/etc/passwd", stat.S_IFLNK | 0o777, "a link"),
        (OUTPUT, b"x", archive.MODE, "more than once"),
        (OUTPUT.upper(), b"x", archive.MODE, "more than once"),
        ("task1/zeros", bytes(60 << 20), archive.MODE, "a bomb"),
    ],
)
def test_unsafe_members(
    package: Members, tmp_path: Path, eval_root: Path, name: str, content: bytes, mode: int, words: str
) -> None:
    path = tmp_path / "x.zip"
    archive.write_zip(path, package)
    append(path, name, content, mode)
    assert any(words in fault.message for fault in validate(path, "2022", eval_root))


def test_encrypted_and_damaged_members(package: Members, tmp_path: Path, eval_root: Path) -> None:
    path = tmp_path / "x.zip"
    archive.write_zip(path, package)
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF  # inside the first member's packed bytes
    path.write_bytes(content)
    assert any("damaged" in fault.message for fault in validate(path, "2022", eval_root))
    archive.write_zip(path, package)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the encryption bit of the first entry of the directory
    path.write_bytes(content)
    assert any("encrypted" in fault.message for fault in validate(path, "2022", eval_root))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_in_blocks_of_any_size(
    package: Members, tmp_path: Path, eval_root: Path, method: int
) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as zipped:
        for name, content in package.items():
            zipped.writestr(name, content)
    assert any("expected deflate or none" in fault.message for fault in validate(path, "2022", eval_root))


def directory_entry(path: Path, offset: int, code: str, *values: int) -> None:
    """Write into the first entry of a zip's directory."""
    content = bytearray(path.read_bytes())
    struct.pack_into(code, content, content.index(b"PK\x01\x02") + offset, *values)
    path.write_bytes(content)


def test_no_more_is_unpacked_than_the_directory_tells(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    archive.write_zip(path, {"a": bytes(64 << 20)})
    directory_entry(path, 24, "<I", 1000)
    tracemalloc.start()
    with archive.opened_zip(path) as (members, _):
        assert members.read("a") is None
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 << 20


def test_an_offset_before_the_file(package: Members, tmp_path: Path, eval_root: Path) -> None:
    path = tmp_path / "x.zip"
    archive.write_zip(path, package)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x05\x06") + 18] += 1  # the directory's place: every member lies a byte before its own
    path.write_bytes(content)
    assert any("damaged" in fault.message for fault in validate(path, "2022", eval_root))


def test_too_large_and_too_many(
    package: Members, tmp_path: Path, eval_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAX_BYTES", 1000)
    assert "unpacks to" in faults_of(package, tmp_path / "x.zip", eval_root)[0].message
    monkeypatch.setattr(archive, "MAX_MEMBERS", 1)
    assert "at most 1 files" in faults_of(package, tmp_path / "x.zip", eval_root)[0].message


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04 cut short"])
def test_what_is_no_zip_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.zip"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.zip"):
        validate(path, "2022")


def test_a_folder_is_told_with_the_zip_in_it(tmp_path: Path) -> None:
    (tmp_path / "X.zip").write_bytes(b"")
    with pytest.raises(FormatError, match=r"expected a \.zip, found a folder \(it holds X\.zip\)$"):
        validate(tmp_path, "2022")
