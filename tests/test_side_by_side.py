"""The benchmarks that train: what is still to be done, and intervals of paired differences."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ablation, ablation_report, accuracy, accuracy_report
from benchmarks.side_by_side import Job, PerClip, differences, gathered, joined, make, pooled
from system.augment.table import AUGMENTATIONS, names_of
from system.errors import DataError, RunError
from system.scoring.predictions import Predictions
from system.spec import AugmentSpec

CLASSES = ("a", "b", "c")


def fake_run(path: Path, right: float, seed: int) -> PerClip:
    """Three segments of each clip, all of them right, or all wrong, with the probability `right`."""
    generator, clips = np.random.default_rng(seed), 60
    label = np.arange(clips) % 3
    decided = np.where(generator.random(clips) < right, label, (label + 1) % 3)
    probabilities = np.full((clips, 3), 0.1)
    probabilities[np.arange(clips), decided] = 0.8
    Predictions(
        CLASSES,
        tuple(f"{clip}.wav" for clip in range(clips) for _ in range(3)),
        np.tile(np.arange(3), clips),
        ("a",) * 3 * clips,
        tuple(CLASSES[number] for number in label.repeat(3)),
        tuple(f"{clip}" for clip in range(clips) for _ in range(3)),
        probabilities.repeat(3, axis=0),
    ).write_csv(path)
    return PerClip.read(path)


def test_a_run_does_not_differ_from_itself(tmp_path: Path) -> None:
    one = fake_run(tmp_path / "one.csv", 0.7, 0)
    found = differences(one, one)
    for key in ("accuracy", "log_loss"):
        assert found[key]["difference"] == 0
        assert found[key]["difference_interval"] == [0, 0]
        low, high = found[key]["interval"]
        assert low < found[key]["value"] < high
    # the standard error of 60 clips, not of 180 segments
    low, high = found["accuracy"]["interval"]
    p = found["accuracy"]["value"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(p * (1 - p) / 60), rel=0.2)


def test_a_difference_is_of_the_same_draws(tmp_path: Path) -> None:
    one, other = (fake_run(tmp_path / f"{seed}.csv", right, seed) for seed, right in ((0, 0.95), (1, 0.5)))
    found = differences(one, other)["accuracy"]
    assert found["difference"] == pytest.approx(one.right.sum() / 180 - other.right.sum() / 180)
    assert 0 < found["difference_interval"][0] < found["difference"] < found["difference_interval"][1]
    two = joined([one, one])
    halved = differences(two, joined([other, other]))["accuracy"]
    assert halved["difference"] == pytest.approx(found["difference"])
    with pytest.raises(RunError, match="different clips"):
        differences(one, two)


def test_trainings_of_one_fold_are_pooled_by_clip(tmp_path: Path) -> None:
    """The score of two seeds is their mean; the interval is of clips, which do not become more."""
    one, other = (fake_run(tmp_path / f"{seed}.csv", 0.7, seed) for seed in (0, 1))
    both, everything = pooled([one, other]), np.ones((1, 60))
    assert both.filename == one.filename
    assert both.scores(everything) == pytest.approx((one.scores(everything) + other.scores(everything)) / 2)
    twice = differences(pooled([one, one]), pooled([one, one]))["accuracy"]["interval"]
    assert twice == pytest.approx(differences(one, one)["accuracy"]["interval"])
    with pytest.raises(RunError, match="cannot be pooled"):
        pooled([one, joined([one, one])])


def test_a_clip_brings_the_rows_of_all_trainings_that_heard_it(tmp_path: Path) -> None:
    """Validation parts of two seeds overlap: a clip in both is one clip of the bootstrap, not two."""
    one, other = (fake_run(tmp_path / f"{seed}.csv", 0.7, seed) for seed in (0, 1))
    keys = ("right", "rows", "loss")
    first = PerClip(one.filename[:40], *(getattr(one, key)[:40] for key in keys))
    second = PerClip(other.filename[20:][::-1], *(getattr(other, key)[20:][::-1] for key in keys))
    both = gathered([first, second])
    assert both.filename == one.filename
    for key in keys:
        expected = np.array(getattr(one, key))
        expected[20:40] += getattr(other, key)[20:40]
        expected[40:] = getattr(other, key)[40:]
        assert getattr(both, key) == pytest.approx(expected), key


def test_each_class_of_a_sound_event_is_an_answer_of_its_own(tmp_path: Path) -> None:
    from system.learning.objectives import log_loss_and_accuracy
    from system.scoring.events import EventPredictions

    label = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=bool)
    logits = np.array([[2.0, -1.0], [0.5, -0.5], [-3.0, 0.2], [-0.1, 4.0]])
    clips = ("b.wav", "b.wav", "a.wav", "c.wav")
    EventPredictions(
        ("x", "y"), clips, np.array([0, 1, 0, 0]), ("a",) * 4, label, clips, 1 / (1 + np.exp(-logits)),
        thresholds=np.full(2, 0.3), seconds=1.0,
    ).write_csv(tmp_path / "one.csv")  # fmt: skip
    part = PerClip.read(tmp_path / "one.csv", several=True)
    assert part.filename == ("a.wav", "b.wav", "c.wav")
    accuracy, log_loss = part.scores(np.ones((1, 3)))[0]
    assert (log_loss, accuracy) == pytest.approx(log_loss_and_accuracy(logits, label, "events"))


def test_scores_are_those_of_the_run(tmp_path: Path) -> None:
    from system.scoring.scenes import score

    part = fake_run(tmp_path / "one.csv", 0.7, 0)
    expected = score(Predictions.read_csv(tmp_path / "one.csv"), "test", {}, 0)
    accuracy, log_loss = part.scores(np.ones((1, 60)))[0]
    assert accuracy == pytest.approx(expected["accuracy"])
    assert log_loss == pytest.approx(expected["log_loss"])


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    job = Job(tmp_path, Path("some.yaml"), {"train.epochs": 3, "data.root": None}, "brevitas")
    train, quantize = job.commands()
    assert train[:6] == ["system/run.py", "train", "--run", str(tmp_path), "--config", "some.yaml"]
    assert train[6:] == ["--set", "train.epochs=3", "--set", "data.root=null"]
    assert quantize == ["quant/run.py", "qat", "--run", str(tmp_path), "--backend", "brevitas"]
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "scores.json").write_text("{}")
    assert job.commands() == [quantize]
    (tmp_path / "quant" / "brevitas").mkdir(parents=True)
    (tmp_path / "quant" / "brevitas" / "parity.json").write_text("{}")
    assert job.commands() == []
    make([job], 2, "cpu")
    job = replace(job, validation=True)
    heard = str(tmp_path / "validation.csv")
    assert job.commands() == [["system/run.py", "evaluate", "--run", str(tmp_path), "--predictions", heard]]
    (tmp_path / "validation.csv").write_text("")
    assert job.commands() == []


def test_a_finished_run_of_other_settings_is_refused(tmp_path: Path) -> None:
    """A configuration that was changed since would else stand in a table with scores of what it was."""
    config, folder = tmp_path / "one.yaml", tmp_path / "run"
    config.write_text("train: {epochs: 3}\n")
    job = Job(folder, config, {"seed": 1})
    (folder / "best").mkdir(parents=True)
    (folder / "best" / "scores.json").write_text("{}")
    (folder / "best" / "config.yaml").write_text("train: {epochs: 3}\nseed: 1\nprovenance: {commit: a}\n")
    make([job], 1, "cpu")
    config.write_text("train: {epochs: 3, learning_rate: 0.5}\n")
    with pytest.raises(RunError, match=r"run/best holds another experiment \(train\.learning_rate: 0\.003 there, 0\.5"):
        make([job], 1, "cpu")


def test_another_configuration_of_ours_has_a_folder_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("model: {width: 8}\naugment: {gain_db: 3.0}\n")
    parser_defaults = {"data_root": "d", "device_irs": None, "epochs": 2, "settings": [], "teacher": [],
                       "quant_epochs": None, "float": False}  # fmt: skip
    for recipe, gain in (("own", 0.0), ("ours", 3.0)):
        args = argparse.Namespace(**parser_defaults, ours=config, recipe=recipe)
        known = accuracy.rivals("3M_macs", ours=config)
        mine, other = (
            accuracy.job(name, known[name], "3M_macs", args, 1, 0, 10, tmp_path) for name in ("ours", "kt_final")
        )
        assert (mine.folder, mine.config) == (tmp_path / "3M_macs/mine/f1", config)
        assert other.folder == tmp_path / "3M_macs/kt_final/f1"
        assert other.settings.get("augment.gain_db", 0.0) == gain


def test_a_failed_run_is_told_by_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Job, "commands", lambda self: [["nothing.py", "train"]])
    with pytest.raises(RunError, match=r"run: nothing\.py train failed: .*nothing\.py"):
        make([Job(tmp_path / "run", None)], 1, "cpu")
    with pytest.raises(RunError, match=r"run: .*nothing\.py.* \(and 1 more, each with a log\.txt\)"):
        make([Job(tmp_path / "run", None), Job(tmp_path / "other", None)], 1, "cpu")
    assert sys.executable in (tmp_path / "run" / "log.txt").read_text()


@pytest.mark.parametrize("words", [("--folds", "1,x"), ("--seeds", "0,0"), ("--seeds", "-1")])
def test_folds_and_seeds_are_numbers(words: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        accuracy.main(["--data-root", "nowhere", *words])
    assert ended.value.code == 2
    assert f"expected different whole numbers by commas, found '{words[1]}'" in capsys.readouterr().err


def test_a_searched_network_is_that_of_each_fold(tmp_path: Path) -> None:
    found = accuracy.rivals(accuracy.AS_PUBLISHED, str(tmp_path / "f{fold}"))
    searched = found[accuracy.SEARCHED]
    assert searched.of(3) == tmp_path / "f3" / "best" / "config.yaml"
    assert accuracy.absent(searched, [3], []) == f"there is no {searched.of(3)}"
    searched.of(3).parent.mkdir(parents=True)
    searched.of(3).write_text("{}")
    assert accuracy.absent(searched, [3], []) is None
    assert accuracy.SEARCHED not in accuracy.rivals(accuracy.AS_PUBLISHED)


def test_a_trick_is_added_alone_and_taken_out_alone() -> None:
    chosen = {"one": {"augment.mixup_alpha": 0.3}, "two": {"train.average": "ema", "augment.gain_db": 6.0}}
    found = ablation.cases(chosen)
    assert list(found) == ["plain", "all", "plain + one", "all - one", "plain + two", "all - two"]
    keys = ("augment.mixup_alpha", "train.average", "augment.gain_db")
    assert [[found[name][key] for key in keys] for name in found] == [
        [0.0, "none", 0.0], [0.3, "ema", 6.0], [0.3, "none", 0.0], [0.0, "ema", 6.0], [0.0, "ema", 6.0],
        [0.3, "none", 0.0],
    ]  # fmt: skip


def test_recordings_that_are_not_there_end_an_ablation_before_it_trains(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: expected the folder of data set 'csv', found nothing"):
        ablation.main(["--data-root", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert list(tmp_path.iterdir()) == []


def test_every_augmentation_is_tried_and_none_is_in_the_plain_training() -> None:
    found = ablation.tricks(argparse.Namespace(device_irs="irs", teacher=[], tricks=None))
    tried = {key for settings in found.values() for key in settings}
    assert {f"augment.{key}" for row in AUGMENTATIONS.values() for key in row.usual} <= tried
    assert found["device responses"] == {"augment.impulse_responses": "irs"}
    recipe = AugmentSpec(**{key: value for row in AUGMENTATIONS.values() for key, value in row.usual.items()})
    plain = {key.removeprefix("augment."): value for key, value in ablation.PLAIN.items() if "augment." in key}
    assert names_of(recipe.changed(**plain)) == []


def test_a_trick_is_compared_with_what_it_is_added_to_over_all_seeds(tmp_path: Path) -> None:
    cases = ("plain", "plain + gain", "all - gain")
    folders = {name: [tmp_path / name / f"s{seed}" for seed in (0, 1)] for name in cases}
    for place, (name, right) in enumerate(zip(folders, (0.5, 0.9, 0.7), strict=True)):
        for seed, folder in enumerate(folders[name]):
            (folder / "best").mkdir(parents=True)
            (folder / "best" / "scores.json").write_text(f'{{"train_seconds": {seed + 1}}}')
            fake_run(folder / "validation.csv", right, 10 * place + seed)
    found = {name: ablation.compared(runs, folders["plain"]) for name, runs in folders.items()}
    assert found["plain"]["accuracy"]["difference"] == 0
    assert found["plain"]["seconds"] == 1.5
    gain = found["plain + gain"]["accuracy"]
    assert 0.25 < gain["difference"] < 0.55
    assert gain["difference_interval"][0] > 0.2
    assert found["plain + gain"]["clips"] == 60
    results = {"all": found["plain"], **found}
    table = ablation_report.markdown(results, ["gain"]).splitlines()
    assert table[2].count("[") == table[3].count("[") == 4
    assert f"| gain | {gain['difference']:+.3f} [" in table[3]
    ablation_report.plot(results, ["gain"], "two seeds", tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"


def test_networks_that_differ_between_folds_show_the_least_and_the_most() -> None:
    assert accuracy_report._range([9_342, 75_212, 5_402], "{:,}") == "5,402 to 75,212"
    assert accuracy_report._range([2.43, 2.43], "{:.2f}") == "2.43"
