"""Runs on sound events are ranked among themselves, on the same recordings and the same draws."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from submission.board.sound_events import QUANTITIES, SCORES, event_board
from submission.board.systems import Item
from submission.leaderboard import main
from system.data.folds import DATASETS
from system.errors import ConfigError, RunError, TinySceneError
from system.files import write_csv, write_json, write_yaml
from system.scoring.events import EventPredictions, decode, event_probabilities, score_events
from system.spec import DataSpec, ExperimentSpec
from tests.submission import ranked
from tests.submission.test_leaderboard_page import HOSTILE, Reader

CLASSES = ("dog", "rain", "siren")
CLIPS, SECONDS = 40, 5


@pytest.fixture
def data(tmp_path: Path) -> DataSpec:
    """A folder of 40 clips of 20 places to test on, and one to train on."""
    root = tmp_path / "set"
    root.mkdir()
    label = truth()
    names = [f"{i}.wav" for i in range(CLIPS)]
    for name in (*names, "train.wav"):
        (root / name).touch()
    rows = [(name, 1, f"place-{i // 2}") for i, name in enumerate(names)]
    write_csv(root / "meta.csv", ("filename", "fold", "source_id"), [*rows, ("train.wav", 2, "elsewhere")])
    sounds = [
        (name, *event) for i, name in enumerate(names) for event in decode(label[i], np.arange(SECONDS), CLASSES, 1.0)
    ]
    write_csv(root / "events.csv", ("filename", "onset", "offset", "label"),
              [*sounds, *(("train.wav", 0, 1, name) for name in CLASSES)])  # fmt: skip
    return DataSpec(dataset="csv", root=str(root), fold=1, validation_share=0.0)


def truth() -> np.ndarray:
    return np.random.default_rng(5).random((CLIPS, SECONDS, len(CLASSES))) < 0.3


def answers(skill: float, seed: int = 0) -> EventPredictions:
    label = truth().reshape(-1, len(CLASSES))
    noise = np.random.default_rng(seed).normal(size=label.shape)
    filename = tuple(f"{i // SECONDS}.wav" for i in range(len(label)))
    return EventPredictions(
        classes=CLASSES,
        filename=filename,
        segment=np.arange(len(label)) % SECONDS,
        device=("a",) * len(label),
        label=label,
        source=tuple(f"place-{i // SECONDS // 2}" for i in range(len(label))),
        probabilities=event_probabilities(noise + skill * (2 * label - 1)),
        thresholds=np.full(len(CLASSES), 0.5),
        seconds=1.0,
    )


def run(folder: Path, data: DataSpec, heard: EventPredictions, backend: str | None = "brevitas") -> Path:
    write_yaml(folder / "best/config.yaml", ExperimentSpec(data=data).plain())
    for part in ("best", *([f"quant/{backend}"] if backend else [])):
        heard.write_csv(folder / part / "predictions.csv")
        heard.write_events(folder / part / "events.csv")
        write_json(folder / part / "complexity.json", ranked.COSTS)
    return folder


def scored(heard: EventPredictions, data: DataSpec) -> dict[str, float]:
    clips = DATASETS["csv"](data, 0).test
    found = score_events(heard, {clip.filename: clip.events or () for clip in clips}, "test", {"a": "real"})
    return {
        score: found[score] if score == "mAP" else found[score.split(".")[0]][score.split(".")[1]] for score in SCORES
    }


def refused(error: type[TinySceneError], words: str, arguments: Sequence[object]) -> None:
    with pytest.raises(error, match=words):
        main([str(word) for word in arguments])


def test_scores_and_intervals_are_those_of_scores_json(data: DataSpec, tmp_path: Path) -> None:
    heard = answers(1.0)
    board = event_board([Item.parse(str(run(tmp_path / "a", data, heard)))])
    (row,) = board["systems"]
    clips = DATASETS["csv"](data, 0).test
    told = score_events(heard, {clip.filename: clip.events or () for clip in clips}, "test", {"a": "real"})
    assert {score: row[score] for score in SCORES} == pytest.approx(scored(heard, data))
    for score in SCORES:
        kind, _, name = score.rpartition(".")
        assert row["interval"]["bootstrap"][score] == (told["interval"][kind] if kind else told["interval"])[name]
    assert (board["clips"], board["sources"], board["unit"]) == (CLIPS, 20, "source")
    assert row["values"]["macs"] == ranked.COSTS["macs"]


def test_the_better_is_first_and_surely_so(data: DataSpec, tmp_path: Path) -> None:
    good, bad = run(tmp_path / "good", data, answers(1.5)), run(tmp_path / "bad", data, answers(0.2, seed=1))
    items = [Item.parse(str(path)) for path in (bad, good)]
    for by in SCORES:
        board = event_board(items, by)
        assert [row["name"] for row in board["systems"]] == [str(good), str(bad)]
        assert [row["place"] for row in board["systems"]] == [1, 2]
        (pair,) = board["neighbours"]
        low, high = pair[by]["interval"]
        assert low < pair[by]["difference"] < high
        assert low * high > 0, "zero is outside"
        assert pair[by]["p_holm"] < 0.05


def test_equal_answers_differ_in_nothing(data: DataSpec, tmp_path: Path) -> None:
    """As draws are shared, what is hard for both cancels."""
    items = [Item.parse(str(run(tmp_path / name, data, answers(1.0)))) for name in ("a", "b")]
    (pair,) = event_board(items)["neighbours"]
    for score in SCORES:
        assert (pair[score]["difference"], pair[score]["interval"], pair[score]["p"]) == (0.0, [0.0, 0.0], 1.0)


def test_classes_may_stand_in_another_order(data: DataSpec, tmp_path: Path) -> None:
    heard, order = answers(1.0), [2, 0, 1]
    turned = replace(heard, classes=tuple(CLASSES[i] for i in order), label=heard.label[:, order],
                     probabilities=heard.probabilities[:, order])  # fmt: skip
    items = [Item.parse(str(run(tmp_path / str(i), data, one))) for i, one in enumerate((heard, turned))]
    first, second = event_board(items)["systems"]
    for score in SCORES:
        assert first[score] == pytest.approx(second[score])


def test_every_integer_model_is_a_line_and_a_float_one_where_there_is_none(data: DataSpec, tmp_path: Path) -> None:
    both = run(tmp_path / "both", data, answers(1.0))
    shutil.copytree(both / "quant/brevitas", both / "quant/onnxruntime")
    alone = run(tmp_path / "alone", data, answers(1.0), backend=None)
    items = [Item.parse(str(both)), Item.parse(f"mine:{alone}")]
    found = {(row["name"], row["form"]) for row in event_board(items)["systems"]}
    assert found == {
        (f"{both} (INT8 brevitas)", "INT8 brevitas"),
        (f"{both} (INT8 onnxruntime)", "INT8 onnxruntime"),
        ("mine", "float"),
    }
    assert len(event_board(items[:1], backend="onnxruntime", data_root=data.root)["systems"]) == 1
    refused(RunError, "does not exist; python quant/run.py qat --run .*alone --backend onnxruntime writes it",
            [alone, "--backend", "onnxruntime"])  # fmt: skip


def test_the_command_prints_a_table_or_json(data: DataSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = run(tmp_path / "good", data, answers(1.5)), run(tmp_path / "bad", data, answers(0.2, seed=1))
    names = [f"good:{good}", f"bad:{bad}"]
    assert main(names) == 0
    told = capsys.readouterr().out
    assert (
        "40 recordings, 3 classes of sound events; ranked by mAP; 95 % intervals by bootstrap over 20 sources" in told
    )
    assert told.index("good") < told.index("bad")
    assert f"{scored(answers(1.5), data)['event_based.f1']:.3f} [" in told
    assert "good - bad: mAP +" in told
    assert main([*names, "--edition", "own_events"]) == 0
    assert "ranked by mAP" in capsys.readouterr().out
    assert main([*names, "--by", "event_based.error_rate", "--json"]) == 0
    (board,) = json.loads(capsys.readouterr().out)
    assert board["rule"] == {"text": "by event_based.error_rate", "score": "event_based.error_rate",
                             "higher_is_better": False}  # fmt: skip
    assert [row["name"] for row in board["systems"]] == ["good", "bad"]


def test_the_page_shows_what_the_board_says(data: DataSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(tmp_path / "good", data, answers(1.5))
    run(tmp_path / HOSTILE, data, answers(0.2, seed=1), backend=None)
    words = ["good", HOSTILE, "--html", "board.html"]
    assert main(words) == 0
    text = Path("board.html").read_text(encoding="utf-8")
    assert main(words) == 0
    assert Path("board.html").read_text(encoding="utf-8") == text
    page = Reader(text)
    assert page.faults == []
    assert page.all("img", "script") == []
    assert HOSTILE in "".join(page.words)
    told = " ".join("".join(page.words).split())
    assert "40 recordings, 3 classes of sound events, 20 sources" in told
    assert "an onset within 0.2 s, and an offset within 0.2 s or 50% of its length" in told
    (first, _) = event_board([Item.parse("good"), Item.parse(HOSTILE)])["systems"]
    for score, quantity in QUANTITIES.items():
        assert f"{quantity.label}" in told
        low, high = first["interval"]["bootstrap"][score]
        assert f"{first[score]:.3f}{low:.3f} to {high:.3f}" in told
    assert len(page.all("svg")) == 3, "intervals, costs, differences"
    assert {attributes["role"] for attributes in page.all("svg")} == {"img"}
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {str(link["href"])[1:] for link in page.all("a")} <= ids


def test_a_page_of_one_system_of_one_source(data: DataSpec, tmp_path: Path) -> None:
    """No interval, no neighbour, no cost to compare."""
    root = Path(data.root or "")
    rows = (root / "meta.csv").read_text().splitlines()
    (root / "meta.csv").write_text("\n".join([rows[0], *(re.sub(r"place-\d+", "here", row) for row in rows[1:])]))
    alone = run(tmp_path / "alone", data, answers(1.0))
    assert main([str(alone), "--html", str(tmp_path / "board.html")]) == 0
    page = Reader((tmp_path / "board.html").read_text(encoding="utf-8"))
    assert page.faults == []
    assert len(page.all("svg")) == len(page.all("table")) == 1


def test_tags_without_a_time_are_ranked_by_mean_average_precision(data: DataSpec, tmp_path: Path) -> None:
    root = Path(data.root or "")
    (root / "events.csv").unlink()
    tagged = [[name for name, heard in zip(CLASSES, clip.any(axis=0), strict=True) if heard] for clip in truth()]
    rows = [(f"{i}.wav", 1, f"place-{i // 2}", "|".join(labels)) for i, labels in enumerate(tagged)]
    write_csv(
        root / "meta.csv", ("filename", "fold", "source_id", "label"), [*rows, ("train.wav", 2, "x", "|".join(CLASSES))]
    )
    item = Item.parse(str(run(tmp_path / "a", data, answers(1.0))))
    (row,) = event_board([item])["systems"]
    assert [score for score in SCORES if score in row] == ["mAP"]
    refused(ConfigError, "no time; expected mAP", [item.path, "--by", "event_based.f1"])
    assert main([str(item.path), "--html", str(tmp_path / "board.html")]) == 0
    assert "events: F1" not in (tmp_path / "board.html").read_text(encoding="utf-8")


def test_what_cannot_be_ranked_is_refused(data: DataSpec, tmp_path: Path) -> None:
    heard = answers(1.0)
    events = run(tmp_path / "events", data, heard)
    scenes = ranked.run(tmp_path / "scenes", ranked.fold(1.0))
    refused(RunError, "sound events, which are ranked among themselves", [events, scenes])
    refused(ConfigError, "--weight: is for scenes", [events, "--weight", "macs=1"])
    refused(ConfigError, "--edition 2022: is of one class for each recording", [events, "--edition", "2022"])
    refused(ConfigError, "--edition own_events: is of sound events", [scenes, "--edition", "own_events"])
    refused(ConfigError, "unknown score of sound events 'accuracy'", [events, "--by", "accuracy"])
    rows = [row for row, name in enumerate(heard.filename) if name != "0.wav"]
    kept = {key: tuple(getattr(heard, key)[row] for row in rows) for key in ("filename", "device", "source")}
    arrays = {key: getattr(heard, key)[rows] for key in ("label", "probabilities", "segment")}
    fewer = replace(heard, **kept, **arrays)
    refused(ConfigError, "not tested on the same recordings", [events, run(tmp_path / "fewer", data, fewer)])
    other = replace(heard, classes=("cat", "rain", "siren"))
    refused(ConfigError, "do not have the same classes", [events, run(tmp_path / "other", data, other)])


def test_other_annotations_are_another_test_fold(data: DataSpec, tmp_path: Path) -> None:
    first = run(tmp_path / "a", data, answers(1.0))
    copied = tmp_path / "copy"
    shutil.copytree(data.root or "", copied)
    again = run(tmp_path / "b", data.changed(root=str(copied)), answers(1.0))
    assert len(event_board([Item.parse(str(path)) for path in (first, again)])["systems"]) == 2
    both = [Item.parse(str(path)) for path in (first, again)]
    assert len(event_board(both, data_root=data.root)["systems"]) == 2, "wherever the data set has moved"
    header, _, *others = (copied / "events.csv").read_text().splitlines(keepends=True)
    (copied / "events.csv").write_text("".join([header, *others]))
    refused(ConfigError, "the test folds differ", [first, again])


def test_a_list_of_sounds_of_other_recordings_is_refused(data: DataSpec, tmp_path: Path) -> None:
    path = run(tmp_path / "a", data, answers(1.0))
    events = path / "quant/brevitas/events.csv"
    events.write_text(events.read_text() + "none.wav,a,0.0,1.0,dog\n")
    refused(TinySceneError, r"events\.csv, line \d+: expected a recording, seconds and class", [path])
