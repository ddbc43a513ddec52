"""What several test modules use: real audio where it is there, small folders of wav files, a cache of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

import system  # noqa: F401  (before torch: it sets how OpenMP threads wait)

REPOSITORY = Path(__file__).resolve().parent.parent
SHARED_DATA = REPOSITORY.parent / "shared" / "data"


@pytest.fixture
def shared_data() -> Path:
    """The folder of real recordings beside the repository, which a clone does not have."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{SHARED_DATA} is not on this machine")
    return SHARED_DATA


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("TINYSCENE_CACHE", str(folder))
    return folder


@pytest.fixture
def csv_folder(tmp_path: Path) -> Callable[..., Path]:
    """Make a folder with meta.csv: rows of (filename, label, fold[, ...]) and one second of noise for each."""

    def make(
        rows: Sequence[Sequence[object]],
        header: str = "filename,label,fold",
        seconds: float = 1.0,
        sample_rate: int = 8000,
        name: str = "set",
    ) -> Path:
        root = tmp_path / name
        root.mkdir()
        for number, row in enumerate(rows):
            noise = np.random.default_rng(number).standard_normal(round(seconds * sample_rate))
            path = root / str(row[0])
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 0.1 * noise, sample_rate)
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (root / "meta.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        return root

    return make
