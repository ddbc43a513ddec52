"""The scripts as a user calls them: from another folder, with mistakes, on a full disk, stopped half way."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

import search.run
import system.run
from system.errors import guarded
from tests import tiny

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = (
    "system/run.py", "search/run.py", "quant/run.py", "submission/pack.py", "submission/validate.py",
    "submission/leaderboard.py",
)  # fmt: skip
SMALL = [
    "--device", "cpu", "--set", f"data.segment_seconds={tiny.SECONDS}", "--set", "train.batch_size=8",
    *(word for key in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels")
      for word in ("--set", f"features.{key}={tiny.FEATURES.plain()[key]}")),
    "--set", "model.width=4", "--set", "model.stages=[{depth: 1}, {depth: 1, stride: [2, 2]}]",
]  # fmt: skip
TRAIN = ["system/run.py", "train", *SMALL]
SEARCH = ["search/run.py", *SMALL, "--trials", "1", "--epochs", "1"]


class Place:
    """A folder far from the repository, with a small data set and a cache of its own."""

    def __init__(self, root: Path) -> None:
        self.root, self.data = root, root / "set"
        self.data.mkdir()
        lines = ["filename,label,fold,source_id"]
        for number in range(18):
            samples = np.random.default_rng(number).standard_normal(1600) * 0.05 * (1 + number % 3)
            soundfile.write(self.data / f"{number}.wav", samples, 8000)
            lines.append(f"{number}.wav,{tiny.CLASSES[number % 3]},{number // 6 + 1},{number // 3}")
        (self.data / "meta.csv").write_text("\n".join(lines) + "\n")

    def environment(self) -> dict[str, str]:
        return {**os.environ, "TINYSCENE_CACHE": str(self.root / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}

    def call(
        self, script: str, *words: str, flags: tuple[str, ...] = (), before: Callable[[], None] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *flags, str(ROOT / script), *words], cwd=self.root, env=self.environment(),
            capture_output=True, text=True, timeout=300, preexec_fn=before,
        )  # fmt: skip

    def left_over(self) -> list[str]:
        """Everything but the data and the cache."""
        return sorted(path.name for path in self.root.iterdir() if path.name not in ("set", "cache"))

    def half_written(self) -> list[str]:
        return [str(path) for path in self.root.rglob("*") if ".part" in path.name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("far away"))


CSV = ["--dataset", "csv", "--data-root", "set"]
MISTAKES = {  # name -> (words, what the line must say)
    "unknown key": ([*TRAIN, "--run", "r", "--set", "train.epoch=3"], "train.epoch: unknown key, did you mean"),
    "two faults": ([*TRAIN, "--run", "r", "--set", "train.epochs=0", "--set", "sed=1"], "sed: unknown key"),
    "no setting": ([*TRAIN, "--run", "r", "--set", "epochs"], "--set epochs: expected section.key=value"),
    "no config": ([*TRAIN, "--run", "r", "--config", "none.yaml"], "none.yaml does not exist"),
    "a config by its name": (
        [*TRAIN, "--run", "r", "--config", "kt_finel"],
        "--config kt_finel does not exist; did you mean",
    ),
    "no run": (["system/run.py", "evaluate", "--run", "nowhere"], "--run nowhere: no such run folder"),
    "unknown model": (["system/run.py", "complexity", "--model", "kt_finel"], "did you mean 'kt_final'?"),
    "bad budget": ([*SEARCH, "--budget", "128k"], "budget '128k': cannot read '128k'; expected limits joined by '_'"),
    "impossible budget": ([*SEARCH, *CSV, "--budget", "1_params"], "nothing fits the budget 1_params"),
    "unreachable storage": (
        [*SEARCH, *CSV, "--budget", "64KiB", "--storage", "postgresql://someone:secret@127.0.0.1:9/db"],
        "--storage 127.0.0.1:9/db: the study cannot be opened",
    ),
}
MISTAKES_BEYOND_IMPORTS = {  # told by the same functions in this process: each import takes seconds
    "no data folder": ([*TRAIN, "--run", "r", "--dataset", "csv", "--data-root", "nowhere"], "nowhere"),
    "unknown block": ([*TRAIN, *CSV, "--run", "r", "--set", "model.block=invrted"], "did you mean 'inverted'?"),
    "stride beyond the map": ([*TRAIN, *CSV, "--run", "r", "--set", "model.stem_stride=[17, 1]"], "does not fit a map"),
    "over the budget": ([*TRAIN, *CSV, "--run", "r", "--set", "budget=100_params"], "parameters of 100 allowed"),
    "a bad budget": ([*TRAIN, *CSV, "--run", "r", "--set", "budget=1k"], "budget '1k': cannot read '1k'"),
    "a file for a run": ([*TRAIN, *CSV, "--run", "set/meta.csv"], "set/meta.csv/best: Not a directory"),
    "a place that takes no folder": ([*TRAIN, *CSV, "--run", "/proc/r"], "/proc/r"),
    "the same for a search": ([*SEARCH, *CSV, "--budget", "64KiB", "--run", "/proc/r"], "/proc/r"),
    "a folder in a file": ([*SEARCH, *CSV, "--budget", "64KiB", "--run", "set/meta.csv/x"], "Not a directory"),
    "unknown data set": ([*SEARCH, "--budget", "64KiB", "--dataset", "tua2022"], "did you mean 'tau2022'?"),
    "no trained model": (["system/run.py", "evaluate", "--run", "set"], "set/best/model.safetensors does not exist"),
    "storage in no folder": (
        [*SEARCH, *CSV, "--budget", "64KiB", "--storage", "sqlite:////dev/null/s.db"],
        "--storage sqlite:////dev/null/s.db: the study cannot be opened",
    ),
}

Outcomes = dict[str, Future[subprocess.CompletedProcess[str]]]


def one_error(stderr: str) -> str:
    """The only line on standard error that is not progress."""
    assert "Traceback" not in stderr
    lines = [line for line in stderr.splitlines() if "error" in line.lower()]
    assert len(lines) == 1, stderr
    assert lines[0].startswith("error: ")
    assert "secret" not in stderr
    return lines[0]


@pytest.fixture(scope="module")
def refusals(place: Place) -> Iterator[Outcomes]:
    """All of them, two at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield {name: pool.submit(place.call, *words) for name, (words, _) in MISTAKES.items()}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name: str, refusals: Outcomes) -> None:
    done = refusals[name].result()
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert MISTAKES[name][1] in one_error(done.stderr)


@pytest.mark.parametrize("name", MISTAKES_BEYOND_IMPORTS)
def test_a_later_mistake_is_one_line(
    name: str, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (script, *words), said = MISTAKES_BEYOND_IMPORTS[name]
    monkeypatch.setenv("TINYSCENE_CACHE", str(place.root / "cache"))
    monkeypatch.chdir(place.root)
    monkeypatch.setattr("sys.argv", [script, *words])
    assert guarded({"system/run.py": system.run.main, "search/run.py": search.run.main}[script]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in one_error(captured.err)
    assert place.left_over() == []


def test_no_mistake_left_anything(refusals: Outcomes, place: Place) -> None:
    assert all(future.result().returncode == 2 for future in refusals.values())
    assert place.left_over() == []
    assert place.half_written() == []
    assert sorted(path.suffix for path in place.data.iterdir()) == [".csv"] + [".wav"] * 18


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_from_another_folder(script: str, tmp_path: Path, place: Place) -> None:
    done = place.call(script, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {script}")


@pytest.mark.parametrize("script", [script for script in SCRIPTS if not script.startswith("benchmarks")])
def test_help_waits_for_no_large_library(script: str) -> None:
    """Each takes a second or more to import."""
    program = (
        "import runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        "try:\n    runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "finally:\n    print(sorted({'torch', 'sklearn', 'librosa', 'optuna'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


class Parsed(Exception):
    """In place of what a command does."""


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_what_every_option_is(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Parsed(parser)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    with pytest.raises(Parsed) as caught:
        importlib.import_module(script.removesuffix(".py").replace("/", ".")).main([])
    actions = caught.value.args[0]._actions
    commands = next(
        (a.choices for a in actions if isinstance(a, argparse._SubParsersAction)), {"": caught.value.args[0]}
    )
    bare = [(name, a.dest) for name, parser in commands.items() for a in parser._actions if not a.help]
    assert bare == []
    assert all(parser.description for parser in commands.values())


@pytest.mark.parametrize(
    "words",
    [["system/run.py", "train", "--run", "r"], ["search/run.py", "--budget", "64KiB"],
     ["system/run.py", "complexity", "--all"], ["quant/run.py", "qat", "--run", "set"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_without_the_packages_the_set_up_is_named(words: list[str], place: Place) -> None:
    done = place.call(*words, flags=("-S",))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: the Python package ")
    assert "run make setup" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def no_file_over_8_kilobytes() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def test_a_training_goes_on_after_a_full_disk_and_after_control_c(refusals: Outcomes, place: Place) -> None:
    refusals["impossible budget"].result()  # it left the data set in the cache
    words = [*TRAIN, *CSV, "--run", "r", "--set", "train.epochs=40"]
    best = place.root / "r" / "best"

    full = place.call(*words, before=no_file_over_8_kilobytes)
    assert full.returncode == 2, full.stderr
    assert one_error(full.stderr) == "error: r/best/.training.ckpt: File too large"
    assert [path.name for path in best.iterdir()] == ["config.yaml"]

    with subprocess.Popen(
        [sys.executable, str(ROOT / words[0]), *words[1:]], cwd=place.root, env=place.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not (best / ".training.ckpt").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 130, told
    assert "interrupted" in told
    assert "Traceback" not in told
    assert sorted(path.name for path in best.iterdir()) == [".training.ckpt", "config.yaml"]

    done = place.call(*words)
    assert done.returncode == 0, done.stderr
    assert not (best / ".training.ckpt").exists()
    assert json.loads((best / "scores.json").read_text())["n"] == 6
    rows = (best / "history.csv").read_text().splitlines()
    assert [int(row.split(",")[0]) for row in rows[1:]] == list(range(1, 41))
    assert place.half_written() == []


def test_complexity_as_json_for_machines(place: Place) -> None:
    done = place.call("system/run.py", "complexity", "--model", "dcase2024_baseline", "--json")
    assert done.returncode == 0, done.stderr
    entry = json.loads(done.stdout)["dcase2024_baseline"]
    assert entry["train"]["params"] == entry["published"]["params"] == 61_148
    assert entry["deploy"]["macs_torchinfo"] == 30_216_768
