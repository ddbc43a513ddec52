"""Several searches on one front."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from search.pareto import finished, write_fronts
from system.errors import RunError
from system.files import write_json, write_yaml
from tests import tiny


def run(folder: Path, budget: str, trials: list[tuple[int, int, float]], **changes: Any) -> Path:
    """A run with trials of (parameters, MACs, loss), the last one pruned."""
    folder.mkdir()
    records = [
        {"number": i, "state": "COMPLETE", "params": p, "macs": m, "log_loss": loss, "accuracy": 0.5}
        for i, (p, m, loss) in enumerate(trials)
    ]
    records[-1]["state"] = "PRUNED"
    write_json(folder / "search.json", {"budget": {"text": budget}, "trials": records})
    plain = {**tiny.experiment().plain(), "budget": budget, "search": {"epochs": 3}}
    write_yaml(folder / "config.yaml", {**plain, "provenance": {"data_checksum": "a", "commit": budget}, **changes})
    return folder


def test_the_front_of_several_budgets(tmp_path: Path) -> None:
    small = run(tmp_path / "small", "1M_macs", [(100, 90, 2.0), (90, 95, 2.5), (1, 1, 0.1)])
    large = run(tmp_path / "large", "3M_macs", [(300, 280, 1.0), (310, 290, 1.5), (80, 300, 1.9), (1, 1, 0.1)])
    front = write_fronts(tmp_path / "out", [small, large])
    assert [(t["run"], t["number"]) for t in front] == [("small", 0), ("small", 1), ("large", 0), ("large", 2)]
    with (tmp_path / "out" / "pareto.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["budget"] for row in rows] == ["1M_macs", "1M_macs", "3M_macs", "3M_macs"]
    assert (tmp_path / "out" / "pareto.png").read_bytes().startswith(b"\x89PNG")
    assert len(finished([small, large])) == 5


def test_searches_that_were_not_trained_alike_are_refused(tmp_path: Path) -> None:
    first = run(tmp_path / "a", "1M_macs", [(1, 1, 1.0), (1, 1, 1.0)])
    longer = run(tmp_path / "b", "3M_macs", [(1, 1, 1.0), (1, 1, 1.0)], search={"epochs": 4})
    other = run(tmp_path / "c", "3M_macs", [(1, 1, 1.0), (1, 1, 1.0)], provenance={"data_checksum": "b"})
    with pytest.raises(RunError, match=r"b does not compare with .*a: search\.epochs: 3 there, 4 asked for"):
        finished([first, longer])
    with pytest.raises(RunError, match=r"c does not compare with .*data_checksum: a there, b asked for"):
        finished([first, other])
    with pytest.raises(RunError, match=r"search\.json does not exist"):
        finished([tmp_path / "none"])
    with pytest.raises(RunError, match=r"no trial of .* finished"):
        finished([run(tmp_path / "d", "1M_macs", [(1, 1, 1.0)])])
