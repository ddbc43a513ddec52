#!/usr/bin/env python3
"""How long submission/validate.py takes for a package with the official number of rows.

    python benchmarks/validate_speed.py --run runs/NAME     # a quantized run on the ten scenes, on an idle machine

Packages are packed from the run's meta-data with made-up probabilities: a validator reads a table, not where it comes
from. Seconds are of the whole command, the start of Python included: wall clock, and of the processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from submission.formats import FORMATS
from submission.packing.package import Request, pack
from submission.packing.systems import SystemRequest
from submission.run_parts import RunParts
from system.editions import EDITIONS, SCENES, Edition
from system.errors import guarded

VALIDATE = Path(__file__).resolve().parents[1] / "submission" / "validate.py"
LISTED = [key for key in FORMATS if EDITIONS[key].evaluation_rows and EDITIONS[key].classes == SCENES]
PEOPLE = """
authors: [{lastname: L, firstname: F, email: l@example.com, corresponding: true, affiliation: {abbreviation: I,
           institute: I, location: L}}]
energy_consumption: {training: 0, inference: 0, baseline_inference: 0}
"""


def random_rows(paths: Sequence[Path], run: RunParts) -> np.ndarray:
    return np.random.default_rng(0).dirichlet(np.ones(len(run.predictions.classes)), size=len(paths))


def package(rules: Edition, run: Path, place: Path) -> Path:
    """A package of full length; of the evaluation set only the list is there."""
    (place / "people.yaml").write_text(PEOPLE, encoding="utf-8")
    assert rules.evaluation_list is not None
    assert rules.evaluation_rows is not None
    path = place / rules.evaluation_list
    path.parent.mkdir(parents=True, exist_ok=True)
    names, devices = rules.evaluation_names(rules.evaluation_rows), rules.evaluation_devices
    rows = [f"audio/{name}" + (f"\t{devices[i % len(devices)]}" if devices else "") for i, name in enumerate(names)]
    path.write_text("\n".join(["filename" + ("\tdevice_id" if devices else ""), *rows, ""]), encoding="utf-8")
    systems = [SystemRequest(dict.fromkeys(rules.splits or ("",), run))]
    request = Request(rules.key, systems, people=place / "people.yaml", eval_root=place, out=place / "out")
    return pack(request, random_rows).zip_path


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, metavar="R", help="a quantized run on the ten scenes")
    parser.add_argument("--editions", nargs="+", default=LISTED, choices=LISTED, metavar="E", help=f"{LISTED}")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest is told")
    args = parser.parse_args(argv)
    print(f"{'edition':8} {'rows':>9} {'zip, MB':>8} {'wall, s':>8} {'processor, s':>13}")
    for key in args.editions:
        rules = EDITIONS[key]
        with tempfile.TemporaryDirectory() as folder:
            path = package(rules, args.run, Path(folder))
            times = []
            for _ in range(args.repeats):
                start, before = time.monotonic(), os.times()
                command = [sys.executable, str(VALIDATE), str(path), "--edition", key]
                subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
                after = os.times()
                used = after.children_user + after.children_system - before.children_user - before.children_system
                times.append((time.monotonic() - start, used))
            wall, used = min(times)
            rows = (rules.evaluation_rows or 0) * max(1, len(rules.splits))
            print(f"{key:8} {rows:9,} {path.stat().st_size / 1e6:8.1f} {wall:8.2f} {used:13.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
