"""The validation split: by source, stratified, and no class lost."""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import system.data
from system.data.folds import DATASETS, Clip, Event, split_folds, split_validation
from system.errors import ConfigError, DataError
from system.options import add_experiment_options
from system.spec import DataSpec


def clips(rows: Sequence[tuple[str, str]]) -> list[Clip]:
    """(label, source) pairs as clips."""
    return [Clip(f"{number}.wav", Path(f"{number}.wav"), *row) for number, row in enumerate(rows)]


def test_by_source_with_the_asked_share() -> None:
    training = clips([(f"c{source % 4}", f"s{source}") for source in range(40) for _ in range(5)])
    train, validation = split_validation(training, 0.2, 0, "here")
    assert {clip.source for clip in train}.isdisjoint({clip.source for clip in validation})
    assert sorted(clip.filename for clip in train + validation) == sorted(clip.filename for clip in training)
    assert len(validation) == 40
    assert all(sum(clip.label == label for clip in validation) == 10 for label in ("c0", "c1", "c2", "c3"))


def test_seed_decides() -> None:
    training = clips([(f"c{source % 4}", f"s{source}") for source in range(40) for _ in range(5)])
    splits = [split_validation(training, 0.2, seed, "here")[1] for seed in (0, 0, 1)]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_a_source_of_its_own_each() -> None:
    training = clips([(f"c{number % 3}", f"s{number}") for number in range(60)])
    train, validation = split_validation(training, 0.25, 0, "here")
    assert (len(train), len(validation)) == (45, 15)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 9)), min_size=2, max_size=40),
    seed=st.integers(0, 5),
    share=st.sampled_from([0.1, 0.2, 0.5]),
)
def test_every_class_stays_where_it_can(rows: list[tuple[str, int]], seed: int, share: float) -> None:
    # One label per source, as for scenes and uploads; sources of several labels have no such promise.
    training = clips([(label, f"{label}{source}") for label, source in rows])
    sources = {label: {clip.source for clip in training if clip.label == label} for label, _ in rows}
    if all(len(some) < 2 for some in sources.values()):
        with pytest.raises(DataError, match="source"):
            split_validation(training, share, seed, "here")
        return
    train, validation = split_validation(training, share, seed, "here")
    assert {clip.source for clip in train}.isdisjoint({clip.source for clip in validation})
    for label, some in sources.items():
        assert label in {clip.label for clip in train}
        assert (label in {clip.label for clip in validation}) == (len(some) >= 2)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), min_size=2, max_size=30),
    seed=st.integers(0, 5),
)
def test_training_keeps_every_class_of_shared_sources(rows: list[tuple[str, int]], seed: int) -> None:
    training = clips([(label, f"speaker{source}") for label, source in rows])
    try:
        train, validation = split_validation(training, 0.2, seed, "here")
    except DataError:
        return
    assert validation
    assert {clip.label for clip in train} == {label for label, _ in rows}


@pytest.mark.parametrize("seed", range(3))
def test_the_share_is_kept_where_every_class_has_many_sources(seed: int) -> None:
    training = clips([(label, f"{label}{number}") for label in "abcde" for number in range(20)])
    train, validation = split_validation(training, 0.25, seed, "here")
    assert (len(train), len(validation)) == (75, 25)
    assert {label: sum(clip.label == label for clip in validation) for label in "abcde"} == dict.fromkeys("abcde", 5)


def test_the_classes_of_a_clip_are_told_once_and_in_order() -> None:
    events = tuple(Event(float(number), number + 1.0, label) for number, label in enumerate("gbfaecdbg"))
    assert Clip("x.wav", Path("x.wav"), "", "x", events=events).labels == tuple("abcdefg")


def test_one_source_cannot_be_split() -> None:
    with pytest.raises(DataError, match="at least two sources in the training fold, found 1"):
        split_validation(clips([("a", "s"), ("b", "s"), ("a", "s")]), 0.2, 0, "here")


@pytest.mark.filterwarnings("error")
def test_a_class_of_one_clip_stays_in_training_without_a_warning() -> None:
    training = clips([(label, f"{label}{number}") for label in "ab" for number in range(8)] + [("c", "only")])
    assert "c" in {clip.label for clip in split_validation(training, 0.2, 0, "here")[0]}


def test_class_missing_from_the_training_fold() -> None:
    training, test = clips([("dog", "s1"), ("dog", "s2")]), clips([("dog", "t1"), ("rain", "t2")])
    with pytest.raises(DataError, match=r"set, fold 3: class 'rain' occurs nowhere in the training fold"):
        split_folds("csv", Path("set"), ("dog", "rain"), training, test, DataSpec(fold=3), 0)


def test_empty_parts() -> None:
    some = clips([("dog", "s1"), ("dog", "s2")])
    with pytest.raises(DataError, match="the training fold is empty"):
        split_folds("csv", Path("set"), ("dog",), [], some, DataSpec(), 0)
    with pytest.raises(DataError, match="the test fold is empty"):
        split_folds("csv", Path("set"), ("dog",), some, [], DataSpec(), 0)


def test_registry() -> None:
    assert {"made", "tau2022", "csv"} <= set(DATASETS)
    with pytest.raises(ConfigError, match="did you mean 'tau2022'"):
        DATASETS["tau2020"]


def test_every_module_of_a_data_set_is_imported_and_told() -> None:
    folder = Path(system.data.__file__).parent
    modules = {
        path.stem for path in folder.glob("*.py") if re.search(r"^@DATASETS\.add", path.read_text(), re.MULTILINE)
    }
    assert modules == set(system.data.__all__), "a data set is found once system/data/__init__.py imports its module"
    parser = argparse.ArgumentParser()
    add_experiment_options(parser)
    told = next(action.help or "" for action in parser._actions if action.dest == "dataset")
    assert [name for name in DATASETS if name not in told] == [], "the help of --dataset is in system/options.py"


@pytest.mark.parametrize("name", [name for name in DATASETS if name != "made"])
def test_every_data_set_needs_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data-root"):
        DATASETS[name](DataSpec(dataset=name), 0)
    with pytest.raises(DataError, match=r"nowhere: expected the folder .* found nothing"):
        DATASETS[name](DataSpec(dataset=name, root=str(tmp_path / "nowhere")), 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="found a file"):
        DATASETS[name](DataSpec(dataset=name, root=str(tmp_path / "file")), 0)
