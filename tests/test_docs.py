"""README and docs/ stay true: commands, files, links and tables that they show are those of the code."""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest

from search.space import table
from system.models.catalog import CATALOG
from system.models.report import catalog_report, print_markdown

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
STAGES = "system|search|quant|submission|benchmarks"


def anchors(page: str) -> set[str]:
    """What GitHub makes of a page's headings, for links into it."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)]+)\)", page) if "://" not in target]


def cells(row: str) -> set[str]:
    return {cell.strip() for cell in row.strip("|").split("|")}


@pytest.mark.parametrize("name", PAGES)
def test_every_file_it_names_exists(name: str) -> None:
    page = PAGES[name]
    named = set(re.findall(rf"`((?:{STAGES})/[a-z0-9_./]*)`", page))
    named |= set(re.findall(rf"python ((?:{STAGES})/\w+\.py)", page))
    named |= set(re.findall(r"(?:--config|--space|--ours) ([a-z]+/\w+/\w+\.yaml)", page))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("name", PAGES)
def test_every_link_meets_a_file_and_a_heading(name: str) -> None:
    for link in links(PAGES[name]):
        path, _, heading = link.partition("#")
        target = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
        assert target.exists(), link
        if heading:
            assert heading in anchors(PAGES[target.relative_to(ROOT).as_posix()]), link


class Parsed(Exception):
    """In place of what a command does."""


def commands(page: str) -> Iterator[list[str]]:
    """Script and words of each command in the blocks of a page."""
    for block in re.findall(r"^```[a-z]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        given = dict(re.findall(r'^(\w)="(.*)"$', block, re.MULTILINE))
        for line in block.replace("\\\n", " ").splitlines():
            if shown := re.search(rf"^[^#]*python ((?:{STAGES})/\w+\.py .*)", line):
                yield shlex.split(Template(shown[1]).safe_substitute(given), comments=True)


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_one_that_its_script_reads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *words: Any) -> None:
        read(parser, *words)
        raise Parsed

    def explained(*_: object) -> None:  # search --explain ends while it is read
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr("search.explain.explain", explained)
    shown = list(commands(PAGES[name]))
    assert len(shown) > 1 or name == "docs/networks.md"
    for script, *words in shown:
        main = importlib.import_module(script.removesuffix(".py").replace("/", ".")).main
        monkeypatch.setattr("sys.argv", [script, *words])
        try:
            with pytest.raises(Parsed):
                main(*[words] * len(inspect.signature(main).parameters))
        except SystemExit as ended:
            if ended.code != 0:  # as that of --help
                pytest.fail(" ".join([script, *words]))


def test_every_page_and_picture_is_linked() -> None:
    linked = {
        (ROOT / name).parent.joinpath(link.partition("#")[0]).resolve()
        for name, page in PAGES.items()
        for link in links(page)
    }
    assert [path.name for path in sorted((ROOT / "docs").iterdir()) if path not in linked] == []
    assert all(f"docs/{path.name}" in PAGES["README.md"] for path in (ROOT / "docs").glob("*.md"))


def test_the_search_space_is_the_one_that_its_module_writes() -> None:
    assert table() in PAGES["docs/searching.md"], "put there what python -m search.space prints"


def test_the_table_of_networks_is_the_one_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_markdown(catalog_report(list(CATALOG)))
    printed = capsys.readouterr().out.strip()
    assert printed in PAGES["docs/networks.md"], (
        "put there what python system/run.py complexity --all --markdown prints"
    )


def test_numbers_on_the_front_page_are_those_of_the_results() -> None:
    """A row there leaves columns of the same row out."""
    results = PAGES["README.md"].partition("\n## Results\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| .*\[0\.\d+, 0\.\d+\].* \|$", results, re.MULTILINE)
    known = [cells(row) for row in PAGES["docs/results.md"].splitlines() if "| INT8 |" in row]
    assert len(rows) >= 7
    assert [row for row in rows if not any(cells(row) <= full for full in known)] == []


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    targets = re.findall(r"^(\w[\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"search", "test", "test-all", "lint", "setup"} <= set(targets)
    assert set(re.findall(r"`?make ([\w-]+)", PAGES["README.md"])) <= set(targets)


def test_ci_runs_exactly_the_test_command() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    assert lines[-1] == "make test"
