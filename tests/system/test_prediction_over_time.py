"""Labels of recordings are decided by medians over time, those of streams and of another hop are not."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from system.checkpoint import Checkpoint
from system.prediction import float_run, onnx_file
from system.prediction.onnx_file import Classifier, Description, predict
from system.prediction.raw_stream import Pcm
from tests import tiny

RATE = 8000
SEGMENT = round(tiny.SECONDS * RATE)
LEVELS = [0.1, 0.7, 0.1, 0.8, 0.9, 0.2, 0.8]  # of each segment: the probability that a dog is heard
STEADY = ["-", "-", "dog", "dog", "dog", "dog", "dog"]  # medians of three, and 0.7 once more at the end
ALONE = ["-", "dog", "-", "dog", "dog", "-", "dog"]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.repeat(LEVELS, SEGMENT), RATE, subtype="FLOAT")
    return tmp_path / "a.wav"


def heard_by(monkeypatch: pytest.MonkeyPatch, window: int, thresholds: tuple[float, ...] | None = (0.5,)) -> None:
    """Have every ONNX file take the first sample for the probability."""
    about = Description(("dog",), RATE, SEGMENT, thresholds, 1.0, {}, window)
    monkeypatch.setattr(onnx_file, "open_classifier", lambda *_: Classifier(about, lambda samples: samples[:, :1]))


def labels(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.split("\t")[2] for line in capsys.readouterr().out.splitlines()]


def test_a_recording_is_decided_over_time(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for window, expected in ((1, ALONE), (3, STEADY)):
        heard_by(monkeypatch, window)
        predict(Path("x.onnx"), [recording, recording], None, None, None)
        assert labels(capsys) == expected * 2, "and each is decided alone"
    predict(Path("x.onnx"), [recording], None, None, None)
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [float(row[1]) for row in rows] == [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2]
    assert [float(row[3]) for row in rows] == [0.1, 0.1, 0.7, 0.8, 0.8, 0.8, 0.8]


def test_a_damaged_recording_is_left_out(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard_by(monkeypatch, 1)
    (bad := recording.with_name("bad.wav")).write_bytes(b"RIFF")
    told: list[Exception] = []
    predict(Path("x.onnx"), [recording, bad, recording], None, None, None, told.append)
    assert labels(capsys) == ALONE * 2
    assert [str(damage).partition(": ")[0] for damage in told] == [str(bad)]


def test_what_has_no_end_or_another_hop_is_decided_at_once(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard_by(monkeypatch, 3)
    predict(Path("x.onnx"), [recording], None, tiny.SECONDS, None)
    assert labels(capsys) == ALONE
    stream = io.BytesIO(np.repeat(LEVELS, SEGMENT).astype("<f4").tobytes())
    predict(Path("x.onnx"), [Path("-")], None, None, Pcm(format="f32le", stream=stream))
    assert labels(capsys) == ALONE


def test_the_events_of_a_run_are_decided_over_time(
    recording: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def found(*_: Any) -> Iterator[tuple[int, np.ndarray]]:
        yield from ((0, np.array([level])) for level in LEVELS)

    monkeypatch.setattr(float_run, "_probabilities", found)
    spec = tiny.experiment()
    nothing = np.zeros(0)
    for window, expected in ((1, [(1, 2), (3, 5), (6, 7)]), (3, [(2, 7)])):
        float_run.predict(Checkpoint(spec, ("dog",), nothing, nothing, {}, (0.5,), 1.0, window), [recording], "cpu")
        assert capsys.readouterr().out == "".join(
            f"{recording}\t{start * tiny.SECONDS:g}\t{stop * tiny.SECONDS:g}\tdog\n" for start, stop in expected
        )
