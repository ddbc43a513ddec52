"""Energy by the counters of the operating system: Linux's powercap, which Intel and AMD processors fill (RAPL).

A counter is of a whole processor package, with whatever else it does meanwhile; what it uses when idle is measured
beside it. Where there is no counter, or it may not be read, that is said instead of a number.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

POWERCAP = Path("/sys/class/powercap")
PACKAGES = "intel-rapl:?*"  # also on AMD; the name of a part of a package has a second colon
SECONDS = 1.0  # of running, and of idling: a thousand updates of a counter
MICRO = 1e-6


def energy_of(run: Callable[[], object], root: Path = POWERCAP, seconds: float = SECONDS) -> dict[str, Any]:
    """`joules` of one run, and `joules_above_idle`; or None for both, with the reason under `not_measured`.

    Repeats `run` for so many seconds.
    """
    counters, reason = readable_counters(root)
    if not counters:
        return {"joules": None, "joules_above_idle": None, "not_measured": reason}
    idle = used(counters, lambda: time.sleep(seconds))
    runs = 0

    def repeat() -> None:
        nonlocal runs
        ends = time.monotonic() + seconds
        while runs == 0 or time.monotonic() < ends:
            run()
            runs += 1

    started = time.monotonic()
    busy = used(counters, repeat)
    above = busy - idle * (time.monotonic() - started) / seconds
    return {
        "joules": busy / runs,
        "joules_above_idle": above / runs,
        "runs": runs,
        "counters": [str(path) for path in counters],
    }


def readable_counters(root: Path) -> tuple[list[Path], str]:
    """The counter of each processor package; why there is none."""
    packages = [path for path in sorted(root.glob(PACKAGES)) if path.name.count(":") == 1]
    counters = [path / "energy_uj" for path in packages if (path / "energy_uj").exists()]
    if not counters:
        return [], f"this machine offers no energy counter (no {root / PACKAGES / 'energy_uj'})"
    try:
        for path in counters:
            path.read_text()
    except OSError as error:
        return [], f"{error.filename} may not be read ({error.strerror}); on most machines root may"
    return counters, ""


def used(counters: list[Path], do: Callable[[], object]) -> float:
    """Joules of all packages while `do` runs. Counters begin anew at their range, which takes minutes or more."""
    before = [int(path.read_text()) for path in counters]
    do()
    total = 0
    for path, start in zip(counters, before, strict=True):
        difference = int(path.read_text()) - start
        total += difference if difference >= 0 else difference + int((path.parent / "max_energy_range_uj").read_text())
    return total * MICRO
