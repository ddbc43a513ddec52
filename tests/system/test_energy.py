"""Energy is read off the system's counters, or the reason is told why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from system.energy import POWERCAP, energy_of, readable_counters, used


def package(root: Path, number: int, microjoules: int, largest: int = 10**9) -> Path:
    folder = root / f"intel-rapl:{number}"
    folder.mkdir(parents=True)
    (folder / "max_energy_range_uj").write_text(f"{largest}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    return folder / "energy_uj"


def add(counter: Path, microjoules: int) -> None:
    counter.write_text(str(int(counter.read_text()) + microjoules))


def test_packages_are_added_and_their_parts_are_not(tmp_path: Path) -> None:
    first, second = package(tmp_path, 0, 500), package(tmp_path, 1, 7)
    core = tmp_path / "intel-rapl:0:0"
    core.mkdir()
    (core / "energy_uj").write_text("3")
    counters, _ = readable_counters(tmp_path)
    assert counters == [first, second]

    def do() -> None:
        add(first, 2_000_000)
        add(second, 500_000)

    assert used(counters, do) == pytest.approx(2.5)


def test_a_counter_that_began_anew(tmp_path: Path) -> None:
    counter = package(tmp_path, 0, 990, largest=1000)
    assert used([counter], lambda: counter.write_text("40")) == pytest.approx(50e-6)


def test_the_energy_of_one_run_and_what_is_above_idle(tmp_path: Path) -> None:
    counter = package(tmp_path, 0, 0)
    found = energy_of(lambda: add(counter, 3_000_000), tmp_path, seconds=0.02)
    assert found["runs"] >= 1
    assert found["joules"] == pytest.approx(3.0)
    assert found["joules_above_idle"] == pytest.approx(3.0)  # nothing counted while it slept
    assert found["counters"] == [str(counter)]


def test_no_counter_is_told_and_nothing_runs(tmp_path: Path) -> None:
    found = energy_of(lambda: pytest.fail("ran"), tmp_path)
    assert found["joules"] is None
    assert "no energy counter" in found["not_measured"]


def test_a_counter_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir(parents=True)  # no file to read, whoever asks
    found = energy_of(lambda: pytest.fail("ran"), tmp_path)
    assert found["joules"] is None
    assert "may not be read" in found["not_measured"]


def test_this_machine_gives_a_number_or_a_reason() -> None:
    found = energy_of(lambda: sum(range(10_000)), seconds=0.05)
    assert found["joules"] is not None if readable_counters(POWERCAP)[0] else found["not_measured"]
