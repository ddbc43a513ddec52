"""The TAU 2022 Mobile layout, read to the letter, and each way in which its lists can be wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from system.data.folds import DatasetFolds
from system.data.tau import evaluation_list, load
from system.editions import SCENES
from system.errors import DataError
from system.spec import DataSpec

Rows = list[list[str]]


def write(path: Path, header: str, rows: Sequence[Sequence[str]], end: str = "\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(header.split()), *("\t".join(row) for row in rows)]
    path.write_bytes((end.join(lines) + end).encode())


def names(locations: Sequence[int], devices: str) -> Rows:
    """[filename, scene, identifier, device] of two seconds per scene, location and device."""
    return [
        [f"audio/{scene}-lisbon-{place}-{place}00-{second}-{device}.wav", scene, f"lisbon-{place}", device]
        for scene in SCENES
        for place in locations
        for device in devices.split()
        for second in range(2)
    ]


@pytest.fixture(params=["\n", "\r\n"], ids=["LF", "CRLF"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    train, test, neither = names([1000, 1001, 1002], "a s1"), names([2000], "b s4"), names([3000], "a")
    end = request.param
    write(tmp_path / "meta.csv", "filename scene_label identifier source_label", [*test, *train, *neither], end)
    setup = tmp_path / "evaluation_setup"
    write(setup / "fold1_train.csv", "filename scene_label", [row[:2] for row in train], end)
    write(setup / "fold1_evaluate.csv", "filename scene_label", [row[:2] for row in test], end)
    write(setup / "fold1_test.csv", "filename", [row[:1] for row in test], end)
    return tmp_path


def read(root: Path, fold: int = 1) -> DatasetFolds:
    return load(DataSpec(dataset="tau2022", root=str(root), fold=fold), 0)


def test_parts(root: Path) -> None:
    folds = read(root)
    assert folds.classes == SCENES
    assert folds.classes == tuple(sorted(SCENES))
    assert len(folds.train) + len(folds.validation) == 120
    assert len(folds.test) == 40
    assert {clip.device: clip.recorded for clip in folds.test} == {"b": True, "s4": False}
    assert {clip.label for clip in folds.validation} == set(SCENES)
    first = folds.test[0]
    assert first.filename == "audio/airport-lisbon-2000-200000-0-b.wav"
    assert first.path == root / first.filename
    assert (first.parent, first.place) == ("airport-lisbon-2000-200000-b", 0)
    parts = {clip.place for clip in folds.test if clip.parent == first.parent}
    assert parts == {0, 1}  # the seconds that one device recorded


def test_rows_in_neither_list_are_read_for_a_refit_alone(root: Path) -> None:
    assert read(root).rest == ()
    folds = load(DataSpec(dataset="tau2022", root=str(root), refit="all"), 0)
    assert {clip.source for clip in folds.rest} == {"lisbon-3000"}
    every = folds.everything()
    assert len(every.train) == 120 + 40 + 20
    assert (every.validation, every.test, every.rest) == ((), (), ())


def subset(root: Path, rows: Sequence[Sequence[str]]) -> DataSpec:
    """Trained on a list of its own, as the subsets of DCASE 2024 are published."""
    write(root / "split5.csv", "filename scene_label", rows)
    return DataSpec(dataset="tau2022", root=str(root), train_list=str(root / "split5.csv"))


def test_another_training_list_stands_in_place_of_the_set_s_own(root: Path) -> None:
    rows = [row[:2] for row in names([1000, 1001], "a")]
    data = subset(root, rows)
    (root / "evaluation_setup" / "fold1_train.csv").unlink()  # not asked for
    folds = load(data, 0)
    assert {clip.filename for clip in (*folds.train, *folds.validation)} == {row[0] for row in rows}
    assert len(folds.test) == 40
    everything = load(data.changed(refit="all"), 0).everything()
    assert {clip.source for clip in everything.train} == {"lisbon-1000", "lisbon-1001", "lisbon-2000"}, "no more"


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (2000, "fold1_evaluate.csv, line 2: .* is also in split5.csv, line 2"),
        (9, "split5.csv, line 2: .* is not in meta"),
    ],
)
def test_a_training_list_that_does_not_fit_is_refused(root: Path, place: int, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(subset(root, [row[:2] for row in names([place], "b")]), 0)


def test_source_is_city_and_location_whatever_the_identifier_says(root: Path) -> None:
    meta = root / "meta.csv"
    meta.write_bytes(meta.read_bytes().replace(b"\tlisbon-1000\t", b"\tlisbon-1000-100000\t"))
    folds = read(root)
    assert {clip.source for clip in folds.train + folds.validation} == {"lisbon-1000", "lisbon-1001", "lisbon-1002"}
    assert {clip.source for clip in folds.train}.isdisjoint({clip.source for clip in folds.validation})


def change(root: Path, name: str, old: str, new: str, count: int = 1) -> str:
    path = root / name
    content = path.read_bytes().decode()
    assert old in content
    path.write_bytes(content.replace(old, new, count).encode())
    with pytest.raises(DataError) as caught:
        read(root)
    message = str(caught.value)
    assert "\n" not in message
    assert name.split("/")[-1] in message
    return message


TRAIN, TEST, UNLABELLED = (f"evaluation_setup/fold1_{part}.csv" for part in ("train", "evaluate", "test"))
FIRST = "audio/airport-lisbon-1000-100000-0-a.wav"


def test_wrong_label_with_a_near_match(root: Path) -> None:
    message = change(root, TRAIN, f"{FIRST}\tairport", f"{FIRST}\tairprt")
    assert "line 2: expected scene_label to be one of airport, bus" in message
    assert "found 'airprt'; did you mean 'airport'?" in message


def test_empty_label(root: Path) -> None:
    assert "line 2: expected a scene_label, found none" in change(root, TRAIN, f"{FIRST}\tairport", f"{FIRST}\t")


def test_label_that_contradicts_meta(root: Path) -> None:
    message = change(root, TRAIN, f"{FIRST}\tairport", f"{FIRST}\tbus")
    assert "line 2: expected scene_label 'airport' as in meta.csv, found 'bus'" in message


def test_wrong_label_in_meta(root: Path) -> None:
    assert "did you mean 'airport'" in change(root, "meta.csv", f"{FIRST}\tairport", f"{FIRST}\tAirport")


def test_row_that_meta_does_not_hold(root: Path) -> None:
    message = change(root, TRAIN, FIRST, FIRST.replace("-0-a", "-7-a"))
    assert "line 2: audio/airport-lisbon-1000-100000-7-a.wav is not in meta.csv" in message


@pytest.mark.parametrize("name", ["meta.csv", TRAIN, TEST, UNLABELLED])
def test_duplicate(root: Path, name: str) -> None:
    lines = (root / name).read_bytes().splitlines(keepends=True)
    (root / name).write_bytes(b"".join([*lines, lines[1]]))
    with pytest.raises(DataError, match=rf"line {len(lines) + 1}: .* was already listed in line 2"):
        read(root)


def test_row_in_both_lists(root: Path) -> None:
    lines = (root / TRAIN).read_bytes().splitlines(keepends=True)
    with (root / TEST).open("ab") as file:
        file.write(lines[1])
    with pytest.raises(DataError, match=r"fold1_evaluate\.csv, line 42: .* is also in fold1_train\.csv, line 2"):
        read(root)


def test_test_list_of_other_rows(root: Path) -> None:
    message = change(root, UNLABELLED, "bus-lisbon-2000-200000-0-b", "bus-lisbon-2000-200000-9-b")
    assert "is not in fold1_evaluate.csv" in message


def test_the_list_without_labels_may_be_missing(root: Path) -> None:
    folds = read(root)
    (root / "evaluation_setup" / "fold1_test.csv").unlink()
    assert read(root) == folds


def test_shorter_test_list(root: Path) -> None:
    lines = (root / UNLABELLED).read_bytes().splitlines(keepends=True)
    (root / UNLABELLED).write_bytes(b"".join(lines[:-1]))
    with pytest.raises(DataError, match=r"tram-lisbon-2000-200000-1-s4\.wav is missing"):
        read(root)


@pytest.mark.parametrize(
    ("name", "column"),
    [("meta.csv", "source_label"), ("meta.csv", "identifier"), (TRAIN, "scene_label"), (TEST, "filename")],
)
def test_missing_column(root: Path, name: str, column: str) -> None:
    message = change(root, name, column, "other")
    assert f"no column '{column}'" in message
    assert "separated by tab, found" in message


def test_commas_instead_of_tabs(root: Path) -> None:
    assert "separated by tab" in change(root, "meta.csv", "\t", ",", count=-1)


@pytest.mark.parametrize("name", ["meta.csv", TRAIN, TEST])
def test_missing_list(root: Path, name: str) -> None:
    (root / name).unlink()
    with pytest.raises(DataError, match=r"\.csv does not exist; expected a list with the columns filename"):
        read(root)


def test_path_out_of_the_folder(root: Path) -> None:
    outside = "../airport-lisbon-1000-100000-0-a.wav"
    meta = root / "meta.csv"
    meta.write_bytes(meta.read_bytes().replace(FIRST.encode(), outside.encode()))
    assert "line 2: expected a path inside" in change(root, TRAIN, FIRST, outside)


def test_name_that_tells_no_location(root: Path) -> None:
    meta = root / "meta.csv"
    meta.write_bytes(meta.read_bytes().replace(FIRST.encode(), b"audio/1.wav"))
    assert "expected a name like airport-<city>-<location>" in change(root, TRAIN, FIRST, "audio/1.wav")


def test_class_missing_from_the_training_fold(root: Path) -> None:
    lines = (root / TRAIN).read_bytes().splitlines(keepends=True)
    (root / TRAIN).write_bytes(b"".join(line for line in lines if b"metro_station" not in line))
    with pytest.raises(DataError, match="fold 1: class 'metro_station' occurs nowhere in the training fold"):
        read(root)


def test_other_fold(root: Path) -> None:
    with pytest.raises(DataError, match="only fold 1"):
        read(root, fold=2)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_evaluation_list(tmp_path: Path, end: str) -> None:
    path = tmp_path / "evaluation_setup" / "fold1_test.csv"
    write(path, "filename", [["audio/1.wav"], ["audio/0.wav"]], end)
    rows = evaluation_list(tmp_path)
    assert [(row.filename, row.device) for row in rows] == [("audio/1.wav", None), ("audio/0.wav", None)]
    assert rows[0].path == tmp_path / "audio" / "1.wav"
    write(path, "filename device_id", [["audio/1.wav", "s1"], ["audio/0.wav", "unknown"]], end)
    assert [row.device for row in evaluation_list(tmp_path)] == ["s1", "unknown"]


def test_broken_evaluation_lists(tmp_path: Path) -> None:
    def refused(message: str, folder: Path = tmp_path) -> None:
        with pytest.raises(DataError, match=message):
            evaluation_list(folder)

    refused("found nothing", tmp_path / "nowhere")
    refused(r"fold1_test\.csv does not exist")
    path = tmp_path / "evaluation_setup" / "fold1_test.csv"
    broken: dict[str, Callable[[], None]] = {
        "found only a header": lambda: write(path, "filename", []),
        "no column 'filename'": lambda: write(path, "name", [["audio/0.wav"]]),
        "line 3: audio/0.wav was already listed in line 2": lambda: write(path, "filename", [["audio/0.wav"]] * 2),
        "line 2: expected a path inside": lambda: write(path, "filename", [["/audio/0.wav"]]),
    }
    for message, make in broken.items():
        make()
        refused(message)
