"""Trainings side by side: runs made by the commands, several at a time, and differences with paired intervals.

Used by accuracy.py and ablation.py. Every run is a folder that the commands of the README make; a run that is finished
is not made again, and an interrupted one goes on. A run of other settings is refused, finished or not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from system.data.folds import LABEL_SEPARATOR
from system.errors import RunError
from system.options import add_common_options, add_experiment_options, experiment
from system.progress import progress
from system.runs import check_same
from system.scoring.metrics import yes_no
from system.scoring.predictions import Predictions, read_columns

ROOT = Path(__file__).resolve().parents[1]
RESAMPLES = 2000


@dataclass(frozen=True)
class Job:
    """One run: a float training and, if `backend` is given, its quantization."""

    folder: Path
    config: Path | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    backend: str | None = None
    validation: bool = False  # also write FOLDER/validation.csv, the predictions of the validation part

    def options(self) -> list[str]:
        """What the command is told of the experiment."""
        pairs = [f"{key}={json.dumps(value)}" for key, value in self.settings.items()]
        return [*(["--config", str(self.config)] if self.config else []),
                *(word for pair in pairs for word in ("--set", pair))]  # fmt: skip

    def check(self) -> None:
        """Raises RunError if the folder holds another experiment, as the command would, were it not finished."""
        parser = argparse.ArgumentParser()
        add_experiment_options(parser)
        add_common_options(parser)
        asked = experiment(parser.parse_args(self.options()))
        check_same(self.folder / "best" / "config.yaml", asked.plain())

    def commands(self) -> list[list[str]]:
        """What is still to be done, in order."""
        todo = []
        if not (self.folder / "best" / "scores.json").is_file():
            todo.append(["system/run.py", "train", "--run", str(self.folder), *self.options()])
        if self.backend and not (self.folder / "quant" / self.backend / "parity.json").is_file():
            todo.append(["quant/run.py", "qat", "--run", str(self.folder), "--backend", self.backend])
        heard = self.folder / "validation.csv"
        if self.validation and not heard.is_file():
            todo.append(["system/run.py", "evaluate", "--run", str(self.folder), "--predictions", str(heard)])
        return todo


def make(jobs: Sequence[Job], workers: int, device: str) -> None:
    """Run the commands of every job, `workers` at a time on equal shares of the cores; output goes to FOLDER/log.txt.

    Raises RunError before anything is run if a folder holds another experiment, and with the last line of the first
    command that failed, and how many did; the other jobs are finished first.
    """
    for job in jobs:
        if (job.folder / "best" / "config.yaml").is_file():
            job.check()
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "TERM": "dumb"}
    started: list[subprocess.Popen[bytes]] = []
    stopped = threading.Event()

    def one(job: Job) -> str | None:
        for words in job.commands():
            if stopped.is_set():
                return "interrupted"
            job.folder.mkdir(parents=True, exist_ok=True)
            with (job.folder / "log.txt").open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, str(ROOT / words[0]), *words[1:], "--device", device],
                    stdout=log, stderr=subprocess.STDOUT, env=environment,
                )  # fmt: skip
                started.append(process)
                if process.wait():
                    lines = (job.folder / "log.txt").read_text(errors="replace").splitlines()
                    return f"{job.folder}: {' '.join(words[:2])} failed: {lines[-1] if lines else 'nothing was said'}"
        return None

    todo = [job for job in jobs if job.commands()]
    failures = []
    with progress("runs", len(todo), unit="runs") as step, ThreadPoolExecutor(workers) as pool:
        try:
            running = {pool.submit(one, job): job for job in todo}
            for done in as_completed(running):
                step(1, note=str(running[done].folder))
                failures += [failed] if (failed := done.result()) else []
        except KeyboardInterrupt:
            stopped.set()
            for process in started:
                if process.poll() is None:
                    process.terminate()
            raise
    if failures:
        others = f" (and {len(failures) - 1} more, each with a log.txt)" if len(failures) > 1 else ""
        raise RunError(failures[0] + others)


@dataclass(frozen=True)
class PerClip:
    """What the clips of one part add to the scores. Of sound events each class is an answer of its own, yes or no."""

    filename: tuple[str, ...]
    right: np.ndarray  # (clips, answers) rows decided as their label, by label
    rows: np.ndarray  # (clips, answers)
    loss: np.ndarray  # (clips,) sum over rows and their answers, in nats

    @classmethod
    def read(cls, path: Path, several: bool = False) -> PerClip:
        """From a predictions.csv; `several`: of sound events, which are decided here at a probability of one half."""
        if several:
            heard = read_columns(path)
            true = np.array([[name in label.split(LABEL_SEPARATOR) for name in heard.classes] for label in heard.label])
            answer, decided = yes_no(true), yes_no(heard.probabilities >= 0.5)
            p = np.where(true, heard.probabilities, 1 - heard.probabilities)
        else:
            scenes = heard = Predictions.read_csv(path)
            answer = np.array([[heard.classes.index(name)] for name in heard.label])
            decided = scenes.probabilities.argmax(axis=1)[:, None]
            p = np.take_along_axis(scenes.probabilities, answer, axis=1)
        names, clip = np.unique(heard.filename, return_inverse=True)
        right, rows = np.zeros((2, len(names), len(heard.classes) * (1 + several)))
        np.add.at(rows, (clip[:, None], answer), 1.0)
        np.add.at(right, (clip[:, None], answer), (decided == answer).astype(float))
        loss = -np.log(np.maximum(p, 1e-15)).sum(axis=1)
        return cls(tuple(names.tolist()), right, rows, np.bincount(clip, loss, len(names)))

    def scores(self, weight: np.ndarray) -> np.ndarray:
        """(resamples, clips) of how often each clip is drawn -> (resamples, 2): macro accuracy, log loss."""
        rows = weight @ self.rows
        with np.errstate(invalid="ignore"):
            accuracy = np.nanmean(np.where(rows > 0, (weight @ self.right) / rows, np.nan), axis=1)
        return np.stack([accuracy, weight @ self.loss / rows.sum(axis=1)], axis=1)


def pooled(parts: Sequence[PerClip]) -> PerClip:
    """Several trainings tested on one fold: the rows of a clip are those of all.

    Raises RunError if they were not tested on the same clips.
    """
    if any(part.filename != parts[0].filename for part in parts):
        raise RunError("two runs of one fold were tested on different clips, so that they cannot be pooled")
    return gathered(parts)


def gathered(parts: Sequence[PerClip]) -> PerClip:
    """Several trainings, each heard on some of the clips: the rows of a clip are those of all that heard it."""
    names = sorted({name for part in parts for name in part.filename})
    place = {name: number for number, name in enumerate(names)}
    right, rows = np.zeros((2, len(names), parts[0].rows.shape[1]))
    loss = np.zeros(len(names))
    for part in parts:
        mine = [place[name] for name in part.filename]
        right[mine] += part.right
        rows[mine] += part.rows
        loss[mine] += part.loss
    return PerClip(tuple(names), right, rows, loss)


def joined(parts: Sequence[PerClip]) -> PerClip:
    """Several folds as one test."""
    return PerClip(
        tuple(f"{fold}/{name}" for fold, part in enumerate(parts) for name in part.filename),
        *(np.concatenate([getattr(part, key) for part in parts]) for key in ("right", "rows", "loss")),
    )


def differences(one: PerClip, other: PerClip, seed: int = 0) -> dict[str, Any]:
    """Accuracy and log loss of `one`, and how much they are above those of `other`, with 95 % intervals.

    A paired bootstrap over clips (Efron 1979): both are scored on the same draws, and all rows of a clip are drawn
    together. Raises RunError if they were not tested on the same clips.
    """
    if one.filename != other.filename:
        raise RunError("two runs were tested on different clips, so that no difference can be told")
    count = len(one.filename)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
    everything = np.ones((1, count))
    found: dict[str, Any] = {}
    for column, key in enumerate(("accuracy", "log_loss")):
        mine, theirs = (part.scores(drawn)[:, column] for part in (one, other))
        value, reference = (part.scores(everything)[0, column] for part in (one, other))
        found[key] = {
            "value": float(value),
            "interval": np.percentile(mine, [2.5, 97.5]).tolist(),
            "difference": float(value - reference),
            "difference_interval": np.percentile(mine - theirs, [2.5, 97.5]).tolist(),
        }
    return found
