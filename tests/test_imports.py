"""Imports go one way, names hide nothing, and a script starts without any package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("system", "quant", "search", "submission")
SCRIPTS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for package in PACKAGES
    for path in (ROOT / package).glob("*.py")
    if path.read_text(encoding="utf-8").startswith("#!")
)


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (ROOT / package).rglob("*.py")


def importers_of(package: str) -> set[str]:
    """The files that import `package` or a part of it, anywhere in them."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            if any(name.split(".")[0] == package for name in names):
                found.add(str(path.relative_to(ROOT)))
    return found


def test_the_contracts_of_setup_cfg_hold() -> None:
    """In a process of its own: its console keeps the stream that the first import of it saw, which may be closed."""
    call = "from importlinter.cli import lint_imports as lint; raise SystemExit(lint('setup.cfg', no_cache=True))"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
    assert "submission and search build on quant, quant on system KEPT" in done.stdout


def test_lightning_is_known_to_one_module() -> None:
    assert importers_of("pytorch_lightning") == {"system/learning/loop.py"}


@pytest.mark.parametrize("quantizer", ["brevitas", "pytorch_quantization"])
def test_a_quantizer_is_known_to_its_backend_only(quantizer: str) -> None:
    importers = importers_of(quantizer)
    assert all(path.startswith("quant/") and path.endswith("_backend.py") for path in importers)
    assert importers or quantizer != "brevitas"


def test_optuna_is_known_to_search_only() -> None:
    importers = importers_of("optuna")
    assert importers
    assert all(path.startswith("search/") for path in importers)


def test_benchmarks_and_tests_are_imported_by_nothing() -> None:
    assert importers_of("benchmarks") == importers_of("tests") == set()


def test_no_module_is_named_after_another() -> None:
    """A script's own folder comes first on the path."""
    taken = {*sys.stdlib_module_names, *packages_distributions()} - set(PACKAGES) - {"tests", "benchmarks"}
    assert {"json", "torch", "yaml"} <= taken
    assert [str(path) for path in sources() if path.stem in taken and path.parent.name in PACKAGES] == []


def test_scripts_are_imported_without_any_package() -> None:
    """What is missing is told when a command runs, in one line."""
    assert {"system.run", "quant.run", "search.run", "submission.pack", "submission.validate"} <= set(SCRIPTS)
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(SCRIPTS)}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "submission.pack" in done.stdout.split()
    assert not {"torch", "numpy", "yaml", "pydantic"} & set(done.stdout.split())
