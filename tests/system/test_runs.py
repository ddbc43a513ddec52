"""A run folder belongs to one experiment and one process, and says what it was made with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from system import __version__, runs
from system.config import load_yaml
from system.errors import ConfigError, RunError
from system.runs import check_same, differences, git_commit, load_experiment, locked, provenance, write_settings
from system.spec import ExperimentSpec
from tests import tiny


def test_settings_are_written_once_with_their_provenance(tmp_path: Path) -> None:
    path, spec = tmp_path / "config.yaml", tiny.experiment(seed=4)
    write_settings(path, spec.plain(), provenance(spec, "c" * 64))
    written = load_yaml(path)
    assert written["provenance"]["tinyscene"] == __version__
    assert written["provenance"]["seed"] == 4
    assert written["provenance"]["data_checksum"] == "c" * 64
    assert written["provenance"]["packages"]["torch"].startswith("2.")
    assert set(written["provenance"]["packages"]) == set(runs.PACKAGES)
    assert load_experiment(path).changed(provenance=None) == spec
    write_settings(path, tiny.experiment(seed=5).plain(), provenance(spec, "c" * 64))
    assert load_yaml(path) == written


def test_a_run_does_not_go_on_with_other_recordings(tmp_path: Path) -> None:
    path, spec = tmp_path / "config.yaml", tiny.experiment()
    write_settings(path, spec.plain(), provenance(spec, "c" * 16))
    with pytest.raises(RunError, match=r"config\.yaml: the recordings .* data checksum c{16}, found d{16};"):
        write_settings(path, spec.plain(), provenance(spec, "d" * 16))


def test_the_same_settings_continue_and_a_new_run_is_new(tmp_path: Path) -> None:
    path, spec = tmp_path / "config.yaml", tiny.experiment(learning_rate=1e-5)
    assert check_same(path, spec.plain()) is False
    write_settings(path, spec.plain(), provenance(spec, "c" * 64))
    assert check_same(path, spec.plain()) is True


def test_other_settings_are_refused_with_every_difference(tmp_path: Path) -> None:
    path, spec = tmp_path / "config.yaml", tiny.experiment(epochs=2)
    write_settings(path, {**spec.plain(), "search": {"epochs": 3}}, provenance(spec, "c" * 64))
    other = tiny.experiment(epochs=5, budget="64KiB")
    with pytest.raises(RunError) as caught:
        check_same(path, {**other.plain(), "search": {"epochs": 4}})
    message = str(caught.value)
    assert message.startswith(f"{tmp_path} holds another experiment (")
    for difference in (
        "budget: None there, 64KiB asked for",
        "search.epochs: 3 there, 4 asked for",
        "train.epochs: 2 there, 5 asked for",
    ):
        assert difference in message
    assert message.count(" asked for") == 3


def test_a_run_from_before_a_setting_was_there_had_its_default(tmp_path: Path) -> None:
    spec = ExperimentSpec()
    older = spec.plain()
    del older["train"]["ema_decay"], older["distill"]
    write_settings(tmp_path / "config.yaml", older, {})
    assert check_same(tmp_path / "config.yaml", spec.plain())
    asked = spec.changed(train=spec.train.changed(ema_decay=0.5))
    with pytest.raises(RunError, match=r"train\.ema_decay: 0\.999 there, 0\.5 asked for"):
        check_same(tmp_path / "config.yaml", asked.plain())


def test_differences_of_lists_and_missing_parts() -> None:
    assert differences({"a": [1, 2]}, {"a": [1, 2]}) == []
    assert differences({"a": [1, 2]}, {"a": [2, 1]}) == ["a: [1, 2] there, [2, 1] asked for"]
    assert differences({"a": {"b": 1}}, {}) == ["a: {'b': 1} there, None asked for"]
    assert differences({}, {"b": {"c": 1}}) == ["b: None there, {'c': 1} asked for"]


def test_a_run_s_config_with_a_fault_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("train: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"config\.yaml: train\.epoch: unknown key, did you mean 'epochs'"):
        load_experiment(tmp_path / "config.yaml")


def test_a_second_process_is_kept_out(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from system.runs import locked\n"
        f"with locked(Path({str(tmp_path)!r})): print('in', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=runs.ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        with pytest.raises(RunError, match="is in use by another process"):
            _enter(tmp_path)
        process.kill()  # a killed process leaves no lock behind
        process.wait()
        _enter(tmp_path)


def _enter(run: Path) -> None:
    with locked(run):
        pass


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    def failing() -> None:
        with locked(tmp_path):
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        failing()
    _enter(tmp_path)


def test_outside_a_clone_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    monkeypatch.setenv("PATH", "")
    assert git_commit() is None


def test_the_commit_of_a_clone_says_whether_files_were_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        return subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True, text=True
        ).stdout.strip()

    (tmp_path / "a").write_text("1")
    git("init", "-q")
    git("add", "a")
    git("commit", "-q", "-m", "first")
    monkeypatch.setattr(runs, "ROOT", tmp_path)
    assert git_commit() == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert git_commit() == git("rev-parse", "HEAD") + "+changes"
