"""The layout of TAU Urban Acoustic Scenes 2022 Mobile: Zenodo 6337421, and every set written like it.

Lists are tab separated with a header. A name is `<scene>-<city>-<location>-<segment>-<second>-<device>.wav`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from system.data.folds import DATASETS, Clip, DatasetFolds, data_root, split_folds
from system.data.lists import InsideFolder, Row, read_rows, unique_by_filename
from system.editions import FOLD1, SCENES
from system.errors import DataError
from system.progress import Step, progress
from system.spec import DataSpec

RECORDED_DEVICES = ("a", "b", "c")
"""The microphones; s1, s2, ... are recordings of `a` passed through a simulated device."""

META_COLUMNS = ("filename", "scene_label", "identifier", "source_label")
LIST_COLUMNS = ("filename", "scene_label")
NAME = re.compile(
    r"(?P<scene>[a-z_]+)-(?P<city>[^-]+)-(?P<location>[^-]+)-(?P<segment>[^-]+)-(?P<second>[0-9]+)-(?P<device>[^-]+)\.wav"
)


@dataclass(frozen=True)
class EvaluationRow:
    """One recording of an evaluation set, whose scene is not told."""

    filename: str  # as listed, such as audio/0.wav
    path: Path
    device: str | None  # only the 2025 list tells it


@DATASETS.add("tau2022")
def load(data: DataSpec, seed: int) -> DatasetFolds:
    """TAU Urban Acoustic Scenes 2022 Mobile, development: meta.csv and evaluation_setup/ as published

    Raises DataError.
    """
    return load_layout("tau2022", data_root(data), data, seed)


def load_layout(name: str, root: Path, data: DataSpec, seed: int) -> DatasetFolds:
    """Read a development set in the TAU 2022 layout; rows in neither list are left out but for a refit.

    Where `data.train_list` is given a refit leaves them out too: the list tells what may be trained on.
    Raises DataError.
    """
    check_fold(data, root)
    with progress(f"reading the lists of {name}", None, unit="rows") as step:
        training, test, rest = _read_lists(root, data, step)
    return replace(split_folds(name, root, SCENES, training, test, data, seed), rest=tuple(rest))


def check_fold(data: DataSpec, where: object) -> None:
    """Raises DataError for any fold but the one there is."""
    if data.fold != 1:
        raise DataError(f"{where}: data.fold is {data.fold}, but the TAU 2022 layout has only fold 1")


def _read_lists(root: Path, data: DataSpec, step: Step) -> tuple[list[Clip], list[Clip], list[Clip]]:
    setup = root / "evaluation_setup"
    meta = _rows(root / "meta.csv", META_COLUMNS, step)
    train_list = Path(data.train_list).expanduser() if data.train_list else setup / "fold1_train.csv"
    train_rows = _rows(train_list, LIST_COLUMNS, step)
    test_rows = _rows(setup / "fold1_evaluate.csv", LIST_COLUMNS, step)
    for filename, row in test_rows.items():
        if filename in train_rows:
            raise row.fault(f"{filename} is also in {train_list.name}, line {train_rows[filename].line}")
    if (setup / "fold1_test.csv").exists():
        _same_rows(setup / "fold1_test.csv", _rows(setup / "fold1_test.csv", ("filename",), step), test_rows)
    inside = InsideFolder(root)
    training = [_clip(filename, row, meta, inside) for filename, row in train_rows.items()]
    test = [_clip(filename, row, meta, inside) for filename, row in test_rows.items()]
    everything = data.refit is not None and data.train_list is None
    unlisted = meta.keys() - train_rows.keys() - test_rows.keys() if everything else ()
    rest = [_clip(filename, meta[filename], meta, inside) for filename in sorted(unlisted)]
    return training, test, rest


def _rows(path: Path, columns: Sequence[str], step: Step) -> dict[str, Row]:
    rows = unique_by_filename(read_rows(path, columns, "\t"))
    step(len(rows))
    return rows


def _same_rows(path: Path, found: Mapping[str, Row], expected: Mapping[str, Row]) -> None:
    """The list without labels must hold the files of the list with labels."""
    for filename, row in found.items():
        if filename not in expected:
            raise row.fault(f"{filename} is not in fold1_evaluate.csv")
    for filename in expected:
        if filename not in found:
            raise DataError(f"{path}: expected the files of fold1_evaluate.csv, but {filename} is missing")


def _clip(filename: str, row: Row, meta: Mapping[str, Row], inside: InsideFolder) -> Clip:
    label = row.one_of("scene_label", SCENES)
    described = meta.get(filename)
    if described is None:
        raise row.fault(f"{filename} is not in meta.csv")
    if described.one_of("scene_label", SCENES) != label:
        raise row.fault(f"expected scene_label {described['scene_label']!r} as in meta.csv, found {label!r}")
    parts = NAME.fullmatch(posixpath.basename(filename))
    if parts is None or parts["scene"] != label:
        raise row.fault(
            f"expected a name like {label}-<city>-<location>-<segment>-<second>-<device>.wav, found {filename}"
        )
    device = described["source_label"].strip() or parts["device"]
    return Clip(
        filename=filename,
        path=inside.path(row),
        label=label,
        # Not the identifier column: published readers also put the segment into it, which would let
        # one location be on both sides of a split.
        source=f"{parts['city']}-{parts['location']}",
        device=device,
        recorded=device in RECORDED_DEVICES,
        # the ten seconds of one device that the edition of 2022 cut into files
        parent="-".join(parts.group("scene", "city", "location", "segment", "device")),
        place=int(parts["second"]),
    )


def evaluation_list(root: Path, name: str = FOLD1) -> list[EvaluationRow]:
    """The rows of an evaluation set, in the order of its list `name`.

    Raises DataError for a missing folder, list or column, a duplicate, or a path out of the folder.
    """
    if not root.is_dir():
        raise DataError(
            f"{root}: expected the folder of an evaluation set, found {'a file' if root.exists() else 'nothing'}"
        )
    path = root / name
    with progress("reading the evaluation list", None, unit="rows") as step:
        rows = _rows(path, ("filename",), step)
    if not rows:
        raise DataError(f"{path}: expected at least one row, found only a header")
    inside = InsideFolder(root)
    return [EvaluationRow(row["filename"], inside.path(row), row.get("device_id")) for row in rows.values()]
