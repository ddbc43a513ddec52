"""Lines of labels: each recording's as soon as it is labelled, on standard output, with progress beside them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from system import progress as progress_module
from system.checkpoint import Checkpoint, save_checkpoint
from system.dataset import stream_features
from system.errors import DataError
from system.models.network import build
from system.prediction import float_run
from system.prediction.float_run import predict
from system.prediction.label_lines import labelling
from system.run import main
from tests import tiny

BANDS, FRAMES = tiny.FEATURES.n_mels, tiny.FEATURES.frames(tiny.SECONDS)


@pytest.fixture
def checkpoint() -> Checkpoint:
    """A network of events that are always there."""
    spec = tiny.experiment()
    torch.manual_seed(0)
    state = build(spec.model, spec.input_shape(), len(tiny.CLASSES)).state_dict()
    zeros, ones = np.zeros(BANDS, np.float32), np.ones(BANDS, np.float32)
    return Checkpoint(spec, tiny.CLASSES, zeros, ones, state, thresholds=(0.0, 2.0, 2.0))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / name for name in ("one.wav", "two.wav", "bad.wav")]
    for path in paths:
        soundfile.write(path, np.full(round(2.5 * tiny.SECONDS * 8000), 0.1), 8000)
    return paths


@pytest.mark.parametrize("batch", [1, 2, 4, 128])
@pytest.mark.parametrize("events", [True, False])
def test_a_damaged_recording_takes_nothing_from_those_before(
    events: bool, batch: int, checkpoint: Checkpoint, files: list[Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Wherever the batch ends that it would have been in."""
    files[2].write_bytes(b"no recording")
    monkeypatch.setattr(float_run, "stream_features", partial(stream_features, batch=batch))
    with pytest.raises(DataError, match=r"bad\.wav"):
        predict(checkpoint if events else replace(checkpoint, thresholds=None), files, "cpu")
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [row[0] for row in printed] == [str(path) for path in files[:2] for _ in range(1 if events else 3)]
    if events:
        assert printed[0][1:] == ["0", "0.5", "airport"], "the recording ends before the third segment does"


def test_damaged_recordings_are_left_out_where_that_is_asked_for(
    checkpoint: Checkpoint, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files[-1].write_bytes(b"RIFF")
    save_checkpoint(tmp_path / "model.safetensors", checkpoint)
    words = ["predict", "--device", "cpu", "--checkpoint", str(tmp_path / "model.safetensors"), str(tmp_path)]
    with pytest.raises(DataError, match=r"bad\.wav: .* --skip-bad leaves damaged recordings out"):
        main(words)
    capsys.readouterr()
    main([*words, "--skip-bad"])
    captured = capsys.readouterr()
    assert {line.split("\t")[0] for line in captured.out.splitlines()} == {str(path) for path in files[:-1]}
    assert captured.err.count("; left out") == 1
    assert "bad.wav: expected an audio file" in captured.err
    with pytest.raises(DataError, match="of 1 recordings none can be read"):
        main([*words[:-1], str(files[-1]), "--skip-bad"])


def test_a_name_is_one_field_of_one_line(checkpoint: Checkpoint, files: list[Path], capsys: Any) -> None:
    odd = files[0].with_name("tab\there, line\r\nthere and Ünïcode.wav")
    unprintable = files[0].with_name(b"\xff.wav".decode("utf-8", "surrogateescape"))
    files[0].rename(odd)
    files[1].rename(unprintable)
    predict(replace(checkpoint, thresholds=None), [odd, unprintable], "cpu")
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(row) for row in printed} == {3}
    folder = odd.parent
    told = [rf"{folder}/tab\there, line\r\nthere and Ünïcode.wav", rf"{folder}/\udcff.wav"]
    assert [row[0] for row in printed] == [name for name in told for _ in range(3)]


def test_a_long_labelling_tells_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "FIRST_LINE_SECONDS", 0.0)
    for shown in (True, False):
        with labelling(3, shown) as step:
            step(1)
            print("a.wav\tbus")
        captured = capsys.readouterr()
        assert captured.out == "a.wav\tbus\n"
        assert ("labelling: 1 recordings" in captured.err) == shown
