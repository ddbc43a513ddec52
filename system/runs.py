"""A run folder: one experiment, its provenance, and the lock of the process that works in it."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from system import __version__
from system.config import load_yaml, parse
from system.errors import RunError
from system.files import write_yaml
from system.recipes import resolved
from system.spec import ExperimentSpec

PACKAGES = ("torch", "torchaudio", "pytorch-lightning", "brevitas", "onnx", "onnxruntime", "optuna", "numpy")
ROOT = Path(__file__).resolve().parents[1]


def provenance(spec: ExperimentSpec, data_checksum: str) -> dict[str, Any]:
    """What a result depends on besides its specification."""
    return {
        "tinyscene": __version__,
        "git_commit": git_commit(),
        "seed": spec.seed,
        "data_checksum": data_checksum,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def git_commit() -> str | None:
    """The commit of this clone, with `+changes` if files differ from it; None outside a clone."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + ("+changes" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def differences(old: Any, new: Any, path: str = "", usual: Any = None) -> list[str]:
    """`train.epochs: 30 there, 10 asked for`, for every leaf that differs.

    What `old` does not name, because it was written before that setting was there, has the value that it has in
    `usual`: a new setting's default leaves everything as it was.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        found, least = [], usual if isinstance(usual, dict) else {}
        for key in sorted({*old, *new}):
            default = least.get(key)
            found += differences(old.get(key, default), new.get(key), f"{path}.{key}".strip("."), default)
        return found
    return [] if old == new else [f"{path}: {old} there, {new} asked for"]


def check_same(path: Path, settings: dict[str, Any]) -> bool:
    """True if `path` (a run's config.yaml) exists and holds these settings, False if it does not exist.

    Raises RunError naming every difference.
    """
    if not path.exists():
        return False
    old = load_yaml(path)
    old.pop("provenance", None)
    new = {key: value for key, value in settings.items() if key != "provenance"}
    if different := differences(old, new, usual=ExperimentSpec().plain()):
        raise RunError(
            f"{path.parent} holds another experiment ({'; '.join(different)}); "
            "give the settings it has, or another --run folder"
        )
    return True


def check_recordings(path: Path, checksum: str) -> None:
    """Raises RunError if `path` (a run's config.yaml) exists and was written for other recordings than `checksum`'s."""
    there = (load_yaml(path).get("provenance") or {}).get("data_checksum") if path.exists() else None
    if there not in (None, checksum):
        raise RunError(
            f"{path}: the recordings or their lists have changed since: expected data checksum {there}, found "
            f"{checksum}; give the same recordings, or another --run folder"
        )


def write_settings(path: Path, settings: dict[str, Any], made_with: dict[str, Any]) -> None:
    """Write a run's config.yaml once; a continued run keeps the provenance of its start.

    Raises RunError if it would go on with other recordings.
    """
    if path.exists():
        check_recordings(path, made_with["data_checksum"])
    else:
        write_yaml(path, {**settings, "provenance": made_with})


def load_experiment(path: Path) -> ExperimentSpec:
    """A run's or a user's YAML file as an experiment."""
    return parse(ExperimentSpec, resolved(load_yaml(path), origin=str(path)), str(path))


def first_run(run: Path, spec: ExperimentSpec) -> Path:
    """The run whose scores speak for `run`: itself, or for a refit the run it lies in.

    Raises RunError if that one is gone or holds another network.
    """
    if not spec.data.refit:
        return run
    first = run.parent if run.name else run.absolute().parent
    config = first / "best" / "config.yaml"
    if not config.is_file() or load_experiment(config).model != spec.model:
        raise RunError(
            f"{run} was trained on everything, so that another run must tell its scores: expected the first training "
            f"of the same network in {first}"
        )
    return first


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Only one process works in a run folder. The folder must exist."""
    lock = FileLock(run / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(f"{run} is in use by another process; wait for it or give another --run folder") from None
    try:
        yield
    finally:
        lock.release()
