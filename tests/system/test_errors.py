"""Every foreseeable failure is one line on standard error and an exit code; a bug keeps its traceback."""

from __future__ import annotations

import errno
import inspect
import os

import pytest

from system import errors
from system.errors import ConfigError, TinySceneError, fail, guarded


def raising(error: BaseException) -> int:
    def main(argv: list[str]) -> None:
        raise error

    return guarded(main)


KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, TinySceneError)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_user_s_error_is_one_line_and_exit_code_2(
    kind: type[TinySceneError], capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(kind("train.epochs: found 0\nexpected 1")) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: train.epochs: found 0 expected 1\n")


@pytest.mark.parametrize(
    "code",
    [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EFBIG, errno.ENOTDIR, errno.ENOENT, errno.EEXIST, errno.EISDIR],
    ids=errno.errorcode.get,
)
def test_a_full_disk_or_an_impossible_path_is_a_user_s_error(code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(OSError(code, os.strerror(code), "/some/file")) == 2
    assert capsys.readouterr().err == f"error: /some/file: {os.strerror(code)}\n"
    assert raising(OSError(code, os.strerror(code))) == 2
    assert capsys.readouterr().err == f"error: writing: {os.strerror(code)}\n"


def test_a_missing_package_names_the_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(ModuleNotFoundError("No module named 'torch'", name="torch")) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: the Python package 'torch' is not installed here")
    assert "run make setup" in message


def test_control_c_says_that_nothing_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    assert raising(KeyboardInterrupt()) == 130
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ValueError("a bug"), KeyError("a bug"), OSError(errno.EBADF, "a bug")])
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="a bug"):
        raising(error)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_the_exit_code_of_a_command_that_ends(returned: int | None, code: int) -> None:
    assert guarded(lambda argv: returned) == code


def test_the_command_gets_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run.py", "train", "--seed", "1"])
    seen: list[str] = []
    assert guarded(lambda argv: seen.extend(argv)) == 0
    assert seen == ["train", "--seed", "1"]


def test_fail_prints_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert fail(" a\nb ") == 2
    assert capsys.readouterr().err == "error: a b\n"


def test_every_kind_is_caught_as_one() -> None:
    assert ConfigError in KINDS
    assert len(KINDS) >= 6
    with pytest.raises(TinySceneError):
        raise ConfigError("x")
