"""The front door stays true: commands, files and the search space it shows are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from search.space import table
from system.models.catalog import CATALOG
from system.models.report import catalog_report, print_markdown

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_search_space_is_the_one_that_its_module_writes() -> None:
    assert table() in README


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`((?:system|search|quant|submission|benchmarks)/[a-z0-9_./]*)`", README))
    named |= set(re.findall(r"python ((?:system|search|quant|submission|benchmarks)/\w+\.py)", README))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_link_into_it_meets_a_heading() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    linked = set(re.findall(r"\]\(#([^)]+)\)", README))
    assert linked
    assert linked <= anchors


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"search", "test", "test-all", "lint", "setup"} <= set(targets)
    assert set(re.findall(r"`?make ([\w-]+)", README)) <= set(targets)


def test_ci_runs_exactly_the_test_command() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[-1] == "make test"


def test_the_table_of_networks_is_the_one_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_markdown(catalog_report(list(CATALOG)))
    assert capsys.readouterr().out.strip() in README
