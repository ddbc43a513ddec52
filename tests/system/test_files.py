"""Files appear whole or not at all, whatever goes wrong while they are written."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from system.errors import RunError
from system.files import (
    read_json,
    whole_file,
    whole_folder,
    write_csv,
    write_json,
    write_text,
    write_with,
    write_yaml,
)


class Stop(BaseException):
    """Not even an Exception, like KeyboardInterrupt."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_replaced_only_when_it_is_whole(old: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def stopped() -> None:
        with whole_file(path) as part:
            part.write_text("half")
            assert part.parent == tmp_path  # the same file system, so that the move is atomic
            raise Stop

    with pytest.raises(Stop):
        stopped()
    assert names(tmp_path) == (["a.txt"] if old else [])
    assert not old or path.read_text() == old
    with whole_file(path) as part:
        part.write_text("new")
        assert not path.exists() or path.read_text() == old
    assert (names(tmp_path), path.read_text()) == (["a.txt"], "new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_folder_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder"

    def stopped() -> None:
        with whole_folder(path) as part:
            (part / "a").write_text("half")
            raise Stop

    with pytest.raises(Stop):
        stopped()
    assert names(tmp_path / "deep") == []
    with whole_folder(path) as part:
        (part / "a").write_text("new")
        assert not path.exists()
    assert (names(tmp_path / "deep"), names(path)) == (["folder"], ["a"])


def test_the_folder_of_the_faster_process_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with whole_folder(path) as part:
        (part / "a").write_text("slow")
        path.mkdir()
        (path / "a").write_text("fast")
    assert names(tmp_path) == ["folder"]
    assert (path / "a").read_text() == "fast"


def test_a_folder_does_not_replace_a_file(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.write_text("a file")
    with pytest.raises(OSError, match="folder"), whole_folder(path) as part:
        (part / "a").write_text("new")
    assert names(tmp_path) == ["folder"]
    assert path.read_text() == "a file"


def test_a_library_sees_the_final_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"

    def stopped(part: Path) -> None:
        part.write_bytes(b"half")
        raise Stop

    with pytest.raises(Stop):
        write_with(path, stopped)
    assert names(tmp_path) == []
    seen: list[str] = []

    def save(part: Path) -> None:
        seen.append(part.name)
        part.write_bytes(b"new")

    write_with(path, save)
    assert (seen, names(tmp_path), path.read_bytes()) == (["picture.png"], ["picture.png"], b"new")


WRITERS: dict[str, Callable[[Path], Any]] = {
    "text": lambda path: write_text(path, "new"),
    "json": lambda path: write_json(path, {"new": 1}),
    "yaml": lambda path: write_yaml(path, {"new": 1}),
    "csv": lambda path: write_csv(path, ["new"], [[1]]),
    "library": lambda path: write_with(path, lambda part: part.write_text("new")),
}


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("old", [None, "old"])
def test_a_disk_that_fills_up_half_way_leaves_the_old_file(
    writer: Callable[[Path], Any], old: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    if old:
        path.write_text(old)
    whole = Path.write_text

    def half(self: Path, text: str, *args: Any, **kwargs: Any) -> int:
        whole(self, text[: len(text) // 2], *args, **kwargs)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), *([str(self)] if old else []))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="No space left") as caught:
            writer(path)
    assert caught.value.filename == str(path)  # neither no name nor the temporary one
    assert names(tmp_path) == (["file"] if old else [])
    assert not old or path.read_text() == old
    writer(path)
    assert "new" in path.read_text()


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_folder_that_takes_no_file_is_told_by_the_file_s_name(writer: Callable[[Path], Any]) -> None:
    path = Path("/proc/file")  # where nobody can make one, not even root
    with pytest.raises(OSError, match="/proc") as caught:
        writer(path)
    assert caught.value.filename == str(path)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    value = {"ä": [1, 2.5, None, True, "x\ny"]}
    write_json(tmp_path / "a" / "b.json", value)
    assert read_json(tmp_path / "a" / "b.json", "x") == value
    write_csv(tmp_path / "c.csv", ["filename", "p"], [["a, b.wav", 0.5], ['say "x"', 1]])
    assert (tmp_path / "c.csv").read_bytes() == b'filename,p\n"a, b.wav",0.5\n"say ""x""",1\n'
    write_csv(tmp_path / "c.csv", ["a", "b"], [[1, 2]], delimiter="\t")
    assert (tmp_path / "c.csv").read_bytes() == b"a\tb\n1\t2\n"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_that_is_no_json_is_not_written(value: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"log_loss": value})
    assert names(tmp_path) == []


def test_a_missing_or_damaged_json_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"a\.json does not exist; search/run\.py writes it"):
        read_json(tmp_path / "a.json", "search/run.py")
    (tmp_path / "a.json").write_text(json.dumps({"a": 1})[:-1])
    with pytest.raises(RunError, match=r"a\.json cannot be read as JSON .*search/run\.py writes it anew"):
        read_json(tmp_path / "a.json", "search/run.py")
    (tmp_path / "a.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunError, match="cannot be read as JSON"):
        read_json(tmp_path / "a.json", "search/run.py")
