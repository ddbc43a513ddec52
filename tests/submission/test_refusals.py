"""What is not legal is refused, with all that is wrong named, and leaves nothing behind."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from submission.adapt import unlisted
from submission.packing.package import Request, pack
from submission.run_parts import load_run
from system.editions import EDITIONS
from system.errors import BudgetError, ConfigError, DataError, FormatError, RunError, TinySceneError
from tests.submission.conftest import PEOPLE, MakeRun, ask, guess, made_up, write_list

ANIMALS = ("cat", "dog", "hen", "no")


def refused(error: type[TinySceneError], request: Request, *words: str) -> None:
    """`request` is refused with a message that holds `words`, and leaves the file system as it was."""
    run = next(iter(request.systems[0].runs.values()))
    before = sorted(run.parent.rglob("*")) if run.parent.is_dir() else []
    with pytest.raises(error) as caught:
        pack(request, guess)
    for word in words:
        assert word in str(caught.value)
    assert (sorted(run.parent.rglob("*")) if run.parent.is_dir() else []) == before


def test_over_budget_names_the_excess_of_each_quantity(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    run = make_run(complexity={"params": 128_500, "macs": 30_216_768})
    request = ask("2022", run, people=people, eval_root=eval_root)
    refused(BudgetError, request, "128,500", "500 too many", "30,216,768", "216,768 too many")


def test_own_edition_holds_the_run_to_its_own_budget(make_run: MakeRun) -> None:
    run = make_run(budget="64KiB")
    refused(BudgetError, ask("own", run, draft=True), "127,000 bytes of 65,536")


def test_all_that_is_missing_from_the_people_file_is_told_at_once(
    make_run: MakeRun, eval_root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "half.yaml"
    path.write_text(
        "authors: [{lastname: Solo, affiliation: {institute: X}}]\nabbreviation: far too long a text\nnmae: x\n"
    )
    request = ask("2022", make_run(), people=path, eval_root=eval_root)
    refused(
        ConfigError, request, "authors.0.firstname", "authors.0.email", "affiliation.abbreviation",
        "affiliation.location", "at most 10", "did you mean 'name'",
        "exactly one must have corresponding: true, found 0",
    )  # fmt: skip


def test_two_corresponding_authors(make_run: MakeRun, eval_root: Path, tmp_path: Path) -> None:
    both = {**PEOPLE, "authors": [{**author, "corresponding": True} for author in PEOPLE["authors"]]}
    path = tmp_path / "both.yaml"
    path.write_text(yaml.safe_dump(both))
    refused(ConfigError, ask("2022", make_run(), people=path, eval_root=eval_root), "found 2")


def test_people_and_list_are_asked_for_together(make_run: MakeRun) -> None:
    run = make_run()
    refused(ConfigError, ask("2022", run), "--people", "--eval-root", "--draft")
    refused(ConfigError, ask("own", run), "--people")


@pytest.mark.parametrize(
    "label",
    ["-M_TU_task1_1", "Muller_TU_task1", "Muller_TU_task1_5", "Mul_ler_TU_task1_1", "../x_TU_task1_1", "M_T_task2_1"],
)
def test_bad_labels(make_run: MakeRun, label: str) -> None:
    refused(ConfigError, ask("2022", make_run(), draft=True, label=label), "Lastname_Institute_task1_1")


@pytest.mark.parametrize("name", ["int8.onnx", "scores.json", "complexity.json", "predictions.csv", "parity.json"])
def test_missing_parts_name_the_command_that_makes_them(make_run: MakeRun, name: str) -> None:
    run = make_run()
    (run / "quant/brevitas" / name).unlink()
    refused(RunError, ask("2022", run, draft=True), name, f"python quant/run.py qat --run {run}")


def test_missing_run_and_config(make_run: MakeRun, tmp_path: Path) -> None:
    refused(RunError, ask("2022", tmp_path / "nowhere", draft=True), "a run folder, found nothing", "search/run.py")
    (tmp_path / "run.zip").write_bytes(b"")
    refused(RunError, ask("2022", tmp_path / "run.zip", draft=True), "run.zip: expected a run folder, found a file")
    run = make_run()
    (run / "best/config.yaml").unlink()
    refused(RunError, ask("2022", run, draft=True), "config.yaml", "train")
    refused(RunError, ask("2022", make_run("b"), backend="onnxruntime", draft=True), "--backend onnxruntime")


def test_other_classes_need_a_label_map(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(predictions=made_up(ANIMALS))
    refused(ConfigError, ask("2022", run, draft=True), "cat, dog", "--label-map")
    path = tmp_path / "map.yaml"
    path.write_text("cat: airport\ndog: buss\ncow: tram\n")
    refused(
        ConfigError, ask("2022", run, draft=True, label_map=path),
        "hen: is not mapped", "'cow'", "did you mean 'bus'", "no class is mapped to metro",
    )  # fmt: skip
    refused(ConfigError, ask("own", run, draft=True, label_map=path), "--label-map")


def test_evaluation_sets(make_run: MakeRun, people: Path, tmp_path: Path) -> None:
    run = make_run()

    def request(root: Path) -> Request:
        return ask("2022", run, people=people, eval_root=root)

    refused(DataError, request(tmp_path / "nothing"), "nothing")
    development = write_list(tmp_path / "dev", ["audio/airport-lisbon-1000-40000-0-a.wav"])
    refused(DataError, request(development), "evaluation set", "airport-lisbon")
    refused(DataError, request(write_list(tmp_path / "twice", ["a/0.wav", "b/0.wav"])), "a/0.wav", "b/0.wav")
    refused(ConfigError, ask("own", run, people=people, eval_root=development), "--eval-root")


def test_segments_of_another_length(make_run: MakeRun) -> None:
    run = make_run(data={"segment_seconds": 5.0})
    refused(RunError, ask("2022", run, draft=True), "5 s", "1 s")


def test_editions_and_parts(make_run: MakeRun) -> None:
    run = make_run()
    refused(ConfigError, ask("2024", run, draft=True), "takes --run split_5=R --run split_10=R", f"found --run {run}")
    refused(ConfigError, ask("2031", run, draft=True), "unknown edition")
    refused(ConfigError, ask("2022", {"split_5": run}, draft=True), "takes --run R", "split_5")


def test_a_run_of_another_subset(make_run: MakeRun) -> None:
    run = make_run(data={"train_list": "lists/split25.csv"})
    splits = dict.fromkeys(EDITIONS["2024"].splits, run)
    refused(
        RunError, ask("2024", splits, draft=True), f"trained on lists/split25.csv: expected as --run split_25={run}",
        "found as split_5",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("edition", "part", "data", "named"),
    [
        ("2025", "", {"dataset": "tau2022"}, "fold1_train.csv"),
        ("2025", "b", {"dataset": "tau2022", "train_list": "lists/split50.csv"}, "split50.csv"),
        ("2025", "", {"dataset": "tau2022", "train_list": "lists/split25.csv"}, None),
        ("2025", "", {"dataset": "csv"}, None),
        ("2024", "split_5", {"dataset": "tau2022"}, "fold1_train.csv"),
        ("2024", "split_5", {"dataset": "tau2022", "train_list": "split_5.csv"}, None),
        ("2024", "split_100", {"dataset": "tau2022"}, None),
        ("2022", "", {"dataset": "tau2022"}, None),
    ],
)
def test_a_run_whose_list_is_not_named_as_the_subset_is_told(
    make_run: MakeRun, edition: str, part: str, data: dict[str, Any], named: str | None
) -> None:
    said = unlisted(EDITIONS[edition], load_run(make_run(data=data), "brevitas"), part)
    if named is None:
        assert said is None
    else:
        subset = part if part.startswith("split") else "split_25"
        assert said is not None
        assert f"{named}: edition {edition} disqualifies what was trained on more than its {subset}" in said
        assert f"--set data.train_list={subset.replace('_', '')}.csv" in said


def test_packing_tells_of_a_list_that_is_not_named(make_run: MakeRun) -> None:
    run = make_run(data={"dataset": "tau2022"})
    packed = pack(ask("2024", dict.fromkeys(EDITIONS["2024"].splits, run), draft=True))
    assert sum("more than its split_" in warning for warning in packed.warnings) == 4, "split_100 is the whole list"


def test_a_draft_does_not_replace_a_finished_package(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    run = make_run()
    pack(ask("2022", run, people=people, eval_root=eval_root), guess)
    refused(RunError, ask("2022", run, people=people, draft=True), "finished package")


def test_damaged_scores(make_run: MakeRun) -> None:
    run = make_run()
    (run / "quant/brevitas/scores.json").write_text('{"accuracy": 0.5}')
    refused(RunError, ask("2022", run, draft=True), "scores.json", "log_loss")


def test_a_failure_while_writing_leaves_nothing(make_run: MakeRun, people: Path, eval_root: Path) -> None:
    def broken(paths: Any, run: Any) -> np.ndarray:
        return np.full((len(paths), 10), np.nan)

    run = make_run()
    with pytest.raises(FormatError, match="faults"):
        pack(ask("2022", run, people=people, eval_root=eval_root), broken)
    assert sorted(path.name for path in run.iterdir()) == ["best", "quant"]


def test_a_full_disk_leaves_nothing(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(path: Path, members: dict[str, bytes]) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("submission.packing.package.write_zip", full)
    run = make_run()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OSError, match="No space"):
        pack(ask("own", run, draft=True))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_where_the_folder_should_be(make_run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    request = ask("own", make_run(), draft=True, out=tmp_path / "taken" / "deep")
    refused(ConfigError, request, "taken", "a folder")
