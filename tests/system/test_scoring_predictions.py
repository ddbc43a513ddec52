"""predictions.csv: every number comes back bit for bit, and each way to be damaged is told with its line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from system.errors import FormatError
from system.scoring.predictions import Predictions
from system.scoring.scenes import score
from tests.system.test_scoring_scenes import GROUPS, made_up


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_file_gives_back_every_bit(tmp_path: Path, dtype: Any) -> None:
    predictions = made_up(dtype=dtype)
    predictions.write_csv(tmp_path / "p.csv")
    read = Predictions.read_csv(tmp_path / "p.csv")
    assert np.array_equal(read.probabilities.astype(dtype), predictions.probabilities)
    assert np.array_equal(read.segment, predictions.segment)
    assert (read.filename, read.device, read.label) == (predictions.filename, predictions.device, predictions.label)
    assert read.source == predictions.filename
    assert score(replace(read, source=predictions.source), "test", GROUPS) == score(predictions, "test", GROUPS)


HEADER = "filename,segment,device,label,predicted,x,y\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1.*an empty file"),
        ("filename,device\n", "line 1.*expected the columns"),
        (HEADER.replace("y", "x"), "line 1"),
        (HEADER.replace("y", ""), "line 1"),
        (HEADER, "at least one row"),
        (HEADER + "f,0,a,x,x,0.9\n", "line 2: expected 7 fields, found 6"),
        (HEADER + "f,0,a,x,x,0.9,0.1\nf,one,a,x,x,0.9,0.1\n", "line 3: segment: expected a number, found 'one'"),
        (HEADER + "f,0,a,x,x,0.9,lots\n", "line 2: y: expected a number, found 'lots'"),
        (HEADER + "f,0,a,x,x,0.9,0.1\nf,1,a,x,x,nan,0.1\n", "line 3: expected probabilities between 0 and 1"),
        (HEADER + "f,0,a,x,x,0.9,0.3\n", "line 2: expected probabilities that sum to 1, found 1.2"),
        (HEADER + "f,0,a,x,x,0.5,0.25\n", "line 2: expected probabilities that sum to 1, found 0.75"),
        (HEADER + "f,0,a,z,x,0.9,0.1\n", "line 2: expected a label among x, y, found 'z'"),
        (HEADER + "f,0,a,x,y,0.9,0.1\n", "line 2: expected predicted = the most probable class, found 'y'"),
    ],
)
def test_a_damaged_file_names_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(FormatError, match=words) as caught:
        Predictions.read_csv(path)
    assert str(path) in str(caught.value)


def test_a_missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="does not exist"):
        Predictions.read_csv(tmp_path / "none.csv")
    (tmp_path / "p.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FormatError, match="UTF-8"):
        Predictions.read_csv(tmp_path / "p.csv")
