"""No long step is silent, and no short one talks."""

import threading
import time

import pytest
from rich.console import Console

from system import progress as module
from system.progress import line, progress


def test_a_line() -> None:
    assert line("reading audio", 120, 400, "clips", 2.0) == "reading audio: 120/400 clips, 60 clips/s, 5 s left"
    assert (
        line("training", 2, 30, "epochs", 20.0, "loss 1.2")
        == "training: 2/30 epochs, 0.1 epochs/s, 5 min left, loss 1.2"
    )
    assert line("searching", 7, None, "trials", 7.0) == "searching: 7 trials, 1 trials/s"
    assert line("waiting", 0, None, "items", 3.0) == "waiting: no end known, 3 s so far"


def test_short_steps_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("quick", 3) as step:
        step(3)
    assert capsys.readouterr().err == ""


def test_one_slow_item_is_not_silent(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_LINE_SECONDS", 0.05)
    monkeypatch.setattr(module, "NEXT_LINE_SECONDS", 0.2)
    with progress("slow", 2, unit="clips") as step:
        time.sleep(0.15)
        step(2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0].startswith("slow: 0/2 clips")
    assert captured.err.splitlines()[-1].startswith("slow: 2 clips after")
    assert len(captured.err.splitlines()) == 2


def test_steps_from_threads(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_LINE_SECONDS", 0.01)
    with progress("threads", 400) as step:
        workers = [threading.Thread(target=lambda: [step() for _ in range(20)]) for _ in range(20)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        time.sleep(0.1)
    assert "threads: 400 items after" in capsys.readouterr().err


def test_an_error_ends_the_report() -> None:
    before = threading.active_count()

    def fail() -> None:
        with progress("failing", 1):
            raise KeyError("mine")

    with pytest.raises(KeyError):
        fail()
    assert threading.active_count() == before


def test_a_terminal_gets_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress("reading audio", 4, unit="clips") as step:
        step(2, note="half")
        with progress("inside", 2) as inner:
            inner(1)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "reading audio" in captured.err


def test_what_is_printed_beside_a_bar_goes_to_standard_output_where_that_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "Console", lambda stderr: Console(stderr=stderr, force_terminal=True))
    with progress("labelling", 3):
        print("a.wav\tbus")
    captured = capsys.readouterr()
    assert captured.out == "a.wav\tbus\n"
    assert "labelling" in captured.err
