"""Where clips come from: told by TAU's names, by the data set's lists, or by nobody."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from submission.board.places import places_of
from system.data import made
from system.spec import DataSpec

TESTED = [row for row in made.recordings() if row.part == "test"]


def test_made_is_known_without_being_written(cache: Path) -> None:
    places = places_of((row.filename for row in TESTED), [DataSpec()])
    assert places.unit == "recording location"
    assert places.source == {row.filename: row.identifier for row in TESTED}
    assert places.city == {row.filename: row.city for row in TESTED}
    assert places.known_devices == {"a", "b", "c", "s1", "s2", "s3"}
    assert places.known_cities == set(made.TRAINING_CITIES)
    assert places.notes == ()
    assert not cache.exists()


def test_names_alone_tell_the_location_but_not_what_was_trained_on() -> None:
    places = places_of([row.filename for row in TESTED[:9]], [])
    assert set(places.source.values()) == {row.identifier for row in TESTED[:9]}
    assert places.known_devices is None
    assert places.known_cities is None
    assert "no run here names a data set" in places.notes[0]


def test_a_csv_folder_tells_its_sources_and_devices(csv_folder: Callable[..., Path]) -> None:
    rows = [(f"{i}.wav", "xy"[i % 2], 1 + i // 6, f"upload{i // 2}", "ab"[i // 6 % 2]) for i in range(18)]
    root = csv_folder(rows, "filename,label,fold,source_id,device")
    spec = DataSpec(dataset="csv", root=str(root), fold=2)
    places = places_of([row[0] for row in rows if row[2] == 2], [spec])
    assert places.unit == "source"
    assert places.source == {row[0]: row[3] for row in rows if row[2] == 2}
    assert places.city is None
    assert places.known_devices == {"a"}
    # all folds of the set together: each fold's sources from its own lists
    folds = [spec.changed(fold=fold) for fold in (1, 2, 3)]
    assert places_of([row[0] for row in rows], folds).source == {row[0]: row[3] for row in rows}


def test_the_device_protocol_trains_on_three_simulated_devices(csv_folder: Callable[..., Path]) -> None:
    rows = [(f"{i}.wav", "xy"[i % 2], 1 + i // 6) for i in range(12)]
    spec = DataSpec(dataset="csv", root=str(csv_folder(rows)), device_irs="anywhere")
    assert places_of(["0.wav"], [spec]).known_devices == {"a", "s1", "s2", "s3"}
    assert places_of(["0.wav"], [spec]).unit == "clip"


def test_a_set_that_has_moved_leaves_clips_on_their_own(tmp_path: Path) -> None:
    places = places_of(["1.wav", "2.wav"], [DataSpec(dataset="csv", root=str(tmp_path / "gone"))])
    assert places.unit == "clip"
    assert places.source == {"1.wav": "1.wav", "2.wav": "2.wav"}
    assert any("gone" in note for note in places.notes)
    assert any("intervals may be too narrow" in note for note in places.notes)


def test_lists_of_other_files_are_not_believed(csv_folder: Callable[..., Path]) -> None:
    rows = [(f"{i}.wav", "xy"[i % 2], 1 + i // 6, f"u{i}") for i in range(12)]
    spec = DataSpec(dataset="csv", root=str(csv_folder(rows, "filename,label,fold,source_id")))
    places = places_of(["0.wav", "other.wav"], [spec])
    assert places.unit == "clip"
    assert any("do not name every tested file" in note for note in places.notes)


@pytest.mark.parametrize("name", ["speech-lyon-1-2-3-a.wav", "airport-lyon-1-2-a.wav", "airport.wav"])
def test_other_names_are_not_taken_for_those_of_tau(name: str) -> None:
    assert places_of([name], []).city is None


def test_uploads_of_real_recordings(shared_data: Path) -> None:
    """ESC-10: several clips come from one upload, and all of them are in one fold."""
    spec = DataSpec(dataset="csv", root=str(shared_data / "esc10_32k"), fold=1)
    with (shared_data / "esc10_32k/meta.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["fold"] == "1"]
    places = places_of([row["filename"] for row in rows], [spec])
    assert places.source == {row["filename"]: row["source_id"] for row in rows}
    assert 1 < len(set(places.source.values())) < len(rows) == 80
