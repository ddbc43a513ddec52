"""Any labelled folder: audio files and one meta.csv."""

from __future__ import annotations

import re

from system.data.folds import DATASETS, Clip, DatasetFolds, data_root, split_folds
from system.data.lists import InsideFolder, Row, read_rows, unique_by_filename
from system.errors import DataError
from system.progress import progress
from system.spec import DataSpec

COLUMNS = ("filename", "label", "fold")
SIMULATED_DEVICE = re.compile(r"s\d+")
"""TAU's names for simulated devices; any other name is a microphone that recorded the clip."""


@DATASETS.add("csv")
def load(data: DataSpec, seed: int) -> DatasetFolds:
    """a folder with meta.csv of filename,label,fold[,source_id,device]; fold data.fold is the test fold

    The other folds are the training fold. Without a `source_id` column each file is its own source.
    Raises DataError.
    """
    root = data_root(data)
    training: list[Clip] = []
    test: list[Clip] = []
    folds: set[int] = set()
    inside = InsideFolder(root)
    with progress("reading meta.csv", None, unit="rows") as step:
        rows = unique_by_filename(read_rows(root / "meta.csv", COLUMNS, ","))
        for name, row in rows.items():
            fold = _fold(row)
            folds.add(fold)
            (test if fold == data.fold else training).append(_clip(name, row, inside))
            step(1)
    if not rows:
        raise DataError(f"{root / 'meta.csv'}: expected at least one clip, found only a header")
    if data.fold not in folds:
        raise DataError(
            f"{root / 'meta.csv'}: data.fold is {data.fold}, but the folds found are "
            f"{', '.join(map(str, sorted(folds)))}"
        )
    shared = {clip.source for clip in training} & {clip.source for clip in test}
    if shared:
        raise DataError(
            f"{root / 'meta.csv'}: source_id {min(shared)!r} is both in fold {data.fold} and in another one "
            f"({len(shared)} such sources); recordings of one source must stay in one fold"
        )
    classes = sorted({clip.label for clip in training + test})
    return split_folds("csv", root, classes, training, test, data, seed)


def _fold(row: Row) -> int:
    try:
        return int(row["fold"])
    except ValueError:
        raise row.fault(f"expected fold to be a whole number, found {row['fold']!r}") from None


def _clip(name: str, row: Row, inside: InsideFolder) -> Clip:
    device = row.filled("device") if "device" in row else "a"
    return Clip(
        filename=name,
        path=inside.path(row),
        label=row.filled("label"),
        source=row.filled("source_id") if "source_id" in row else name,
        device=device,
        recorded=SIMULATED_DEVICE.fullmatch(device) is None,
    )
