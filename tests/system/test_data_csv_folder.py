"""A folder with meta.csv, and each way in which it can be wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest

from system.data.csv_folder import load
from system.data.folds import DatasetFolds
from system.errors import DataError
from system.spec import DataSpec

ROWS = [(f"audio/{label}{number}.wav", label, 1 + number % 3) for label in ("dog", "rain") for number in range(9)]


def read(root: Path, fold: int = 1) -> DatasetFolds:
    return load(DataSpec(dataset="csv", root=str(root), fold=fold), 0)


@pytest.fixture
def root(csv_folder: Callable[..., Path]) -> Path:
    return csv_folder(ROWS, seconds=0.01)


def write_meta(root: Path, *lines: str) -> Path:
    (root / "meta.csv").write_text("\n".join(lines) + "\n")
    return root


def test_folds(root: Path) -> None:
    folds = read(root, fold=2)
    assert folds.classes == ("dog", "rain")
    assert {clip.filename for clip in folds.test} == {name for name, _, fold in ROWS if fold == 2}
    assert {clip.filename for clip in folds.train + folds.validation} == {name for name, _, fold in ROWS if fold != 2}
    assert all(clip.source == clip.filename and clip.device == "a" and clip.recorded for clip in folds.train)
    assert all(clip.path.is_file() for clip in folds.test)


def test_a_list_beside_the_folds_is_refused(root: Path) -> None:
    with pytest.raises(DataError, match=r"meta.csv: its folds tell what is trained on; expected no data.train_list"):
        load(DataSpec(dataset="csv", root=str(root), train_list="split5.csv"), 0)


def test_optional_and_extra_columns_in_any_order(root: Path) -> None:
    lines = [
        f"{fold},x,{'s1' if fold == 1 else 'phone'},{label},up{fold}{label}{number},{name}"
        for number, (name, label, fold) in enumerate(ROWS)
    ]
    folds = read(write_meta(root, "fold,license,device,label,source_id,filename", *lines))
    assert {(clip.device, clip.recorded) for clip in folds.test} == {("s1", False)}
    assert {(clip.device, clip.recorded) for clip in folds.train} == {("phone", True)}
    assert all(clip.source.startswith("up") for clip in folds.train)


def test_byte_order_mark_and_crlf(root: Path) -> None:
    content = (root / "meta.csv").read_text()
    (root / "meta.csv").write_bytes(("\ufeff" + content.replace("\n", "\r\n")).encode())
    assert len(read(root).test) == 6


def broken(root: Path, change: Callable[[list[str]], list[str]]) -> str:
    lines = (root / "meta.csv").read_text().splitlines()
    write_meta(root, *change(lines))
    with pytest.raises(DataError) as caught:
        read(root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace_line_3(text: str) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines[:2], text, *lines[3:]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/etc/passwd,dog,2", "line 3: expected a path inside"),
        ("../x.wav,dog,2", "line 3: expected a path inside"),
        ("audio/../../x.wav,dog,2", "line 3: expected a path inside"),
        ("audio\\..\\..\\x.wav,dog,2", "line 3: expected a path inside"),
        (",dog,2", "line 3: expected a filename, found none"),
        ("audio/dog1.wav,,2", "line 3: expected a label, found none"),
        ("audio/dog1.wav, ,2", "line 3: expected a label, found none"),
        ("audio/dog1.wav,dog,one", "line 3: expected fold to be a whole number, found 'one'"),
        ("audio/dog1.wav,dog,1.5", "line 3: expected fold to be a whole number, found '1.5'"),
        ("audio/dog1.wav,dog,", "line 3: expected fold to be a whole number, found ''"),
        ("audio/dog1.wav,dog", "line 3: expected 3 fields, found 2"),
        ("audio/dog1.wav,dog,2,extra", "line 3: expected 3 fields, found 4"),
        ("audio/dog0.wav,dog,2", "line 3: audio/dog0.wav was already listed in line 2"),
        ("./audio//dog0.wav,dog,2", "was already listed in line 2"),
        ('audio/dog1.wav,"do\tg",2', "line 3: expected a label on one line and without tabs or control characters"),
        ('"audio/dog1.wav,dog,2', "line 3: expected 3 fields, found 1"),
        ("audio/dog1.wav,cat,1", "class 'cat' occurs nowhere in the training fold"),
    ],
)
def test_wrong_line(root: Path, line: str, message: str) -> None:
    assert message in broken(root, replace_line_3(line))


def test_spaces_around_a_label_are_not_part_of_it(root: Path) -> None:
    lines = (root / "meta.csv").read_text().splitlines()
    folds = read(write_meta(root, *replace_line_3("audio/dog1.wav, dog ,2")(lines)))
    assert folds.classes == ("dog", "rain")


def test_a_repeated_column(root: Path) -> None:
    message = broken(root, lambda lines: [f"{lines[0]},label", *(f"{line},cat" for line in lines[1:])])
    assert message.endswith("expected each column once, found 2 of 'label'")


@pytest.mark.parametrize("column", ["device", "source_id"])
def test_an_optional_column_is_in_every_row_or_none(root: Path, column: str) -> None:
    message = broken(root, lambda lines: [f"{lines[0]},{column}", f"{lines[1]},x", *(f"{line}," for line in lines[2:])])
    assert f"line 3: expected a {column} in every row, or no column of that name, found none here" in message


@pytest.mark.parametrize("column", ["filename", "label", "fold"])
def test_missing_column(root: Path, column: str) -> None:
    message = broken(root, lambda lines: [lines[0].replace(column, "other"), *lines[1:]])
    assert f"no column '{column}'" in message
    assert "found " in message.split(";")[1]
    assert "other" in message


def test_empty_lists(root: Path) -> None:
    assert "found only a header" in broken(root, lambda lines: lines[:1])
    (root / "meta.csv").write_text("")
    with pytest.raises(DataError, match="found an empty file"):
        read(root)
    (root / "meta.csv").unlink()
    with pytest.raises(DataError, match=r"meta\.csv does not exist"):
        read(root)
    (root / "meta.csv").write_bytes(b"filename,label,fold\n\xff\xfe,\x00,1\n")
    with pytest.raises(DataError, match=r"meta\.csv cannot be read .*: expected UTF-8, found the byte 0xff in line 2"):
        read(root)


def test_fold_that_is_not_there(root: Path) -> None:
    with pytest.raises(DataError, match=r"data\.fold is 9, but the folds found are 1, 2, 3"):
        read(root, fold=9)


@pytest.mark.parametrize("number", [0, -1])
def test_folds_are_numbered_as_one_likes(root: Path, number: int) -> None:
    write_meta(root, "filename,label,fold", *(f"{name},{label},{number if f == 1 else f}" for name, label, f in ROWS))
    assert {clip.filename for clip in read(root, fold=number).test} == {name for name, _, fold in ROWS if fold == 1}


def test_only_one_fold(root: Path) -> None:
    write_meta(root, "filename,label,fold", *(f"{name},{label},1" for name, label, _ in ROWS))
    with pytest.raises(DataError, match=r"meta\.csv: expected at least two folds, .* found only 1"):
        read(root)


def test_one_class_alone_is_no_scene(root: Path) -> None:
    write_meta(root, "filename,label,fold", *(f"{name},dog,{fold}" for name, _, fold in ROWS))
    with pytest.raises(DataError, match=r"meta\.csv: expected at least two classes, found only 'dog'; .* events\.csv"):
        read(root)


def test_source_in_two_folds(root: Path) -> None:
    lines = [f"{name},{label},{fold},same" for name, label, fold in ROWS]
    write_meta(root, "filename,label,fold,source_id", *lines)
    with pytest.raises(DataError, match="source_id 'same' is both in fold 1 and in another one"):
        read(root)


@pytest.mark.parametrize("link_the_folder", [False, True])
def test_symbolic_link_out_of_the_folder(root: Path, tmp_path: Path, link_the_folder: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    if link_the_folder:
        (root / "audio").rename(outside / "audio")
        (root / "audio").symlink_to(outside / "audio")
    else:
        (root / "audio" / "dog4.wav").rename(outside / "dog4.wav")
        (root / "audio" / "dog4.wav").symlink_to(outside / "dog4.wav")
    with pytest.raises(DataError, match=r"expected a path inside .* a link to"):
        read(root)


def test_symbolic_link_inside_the_folder(root: Path) -> None:
    (root / "audio").rename(root / "clips")
    (root / "audio").symlink_to(root / "clips")
    assert len(read(root).test) == 6


@pytest.mark.parametrize(
    ("name", "classes", "clips", "test"), [("esc10_32k", 10, 400, 80), ("speech_commands_6w_16k", 6, 900, None)]
)
def test_real_sets(shared_data: Path, name: str, classes: int, clips: int, test: int | None) -> None:
    folds = read(shared_data / name)
    assert len(folds.classes) == classes
    assert len(folds.train) + len(folds.validation) + len(folds.test) == clips
    assert test is None or len(folds.test) == test
    sources = [{clip.source for clip in part} for part in (folds.train, folds.validation, folds.test)]
    assert sources[0].isdisjoint(sources[1])
    assert (sources[0] | sources[1]).isdisjoint(sources[2])
    assert {clip.label for clip in folds.validation} == set(folds.classes)
