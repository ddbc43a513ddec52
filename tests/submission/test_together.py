"""What a killed command left is removed by the next one; what a living one is at work in is not."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from submission.packing.together import together
from system.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import sys, time
from pathlib import Path
from submission.packing.together import together
with together(Path(sys.argv[1])) as place:
    (place / "x.zip").write_text("half")
    print("ready", flush=True)
    time.sleep(60)
"""


def write(out: Path) -> list[str]:
    with together(out) as place:
        (place / "y.zip").write_text("whole")
    return sorted(path.suffix for path in out.iterdir())


def test_leftovers(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert write(tmp_path) == [".part", ".zip"]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert write(tmp_path) == [".zip"]
    assert os.listdir(tmp_path) == ["y.zip"]


@pytest.mark.parametrize("out", ["/proc/out", "/proc/a/deep/out"])
def test_a_place_where_no_folder_can_be_made_is_refused_by_its_name(out: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^{out}: expected a place to make a folder, but /proc takes none \(No such"
    ):
        write(Path(out))


def write_fully(out: Path, name: str) -> None:
    with together(out) as place:
        (place / name).symlink_to("/dev/full")
        (place / name).write_text("this error has no name")


def write_temporarily(out: Path, name: str) -> None:
    with together(out) as place:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(place / name))


@pytest.mark.parametrize(("write", "told"), [(write_fully, "out"), (write_temporarily, "out/x.json")])
def test_a_full_disk_is_told_with_the_file_that_was_asked_for(
    write: Callable[[Path, str], None], told: str, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="No space left") as error:
        write(tmp_path / "out", "x.json")
    assert error.value.filename == str(tmp_path / told)
    assert os.listdir(tmp_path) == []


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, together(tmp_path / "out"):
        (tmp_path / "people.yaml").read_text()
    assert error.value.filename == str(tmp_path / "people.yaml")
