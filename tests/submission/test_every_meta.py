"""Every meta.yaml of every edition: each class of fault in it is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from submission.formats import FORMATS
from system.budget import QUANTITIES, Budget
from system.editions import EDITIONS
from tests.submission.conftest import Example, Examples
from tests.submission.mutated import ALL, TABLES, Draw, Mutate, bad_byte, meta_of, noticed, quick


def paths_in(value: Any, path: str = "") -> list[str]:
    """Every dotted path of a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, item in items:
        found += [f"{path}.{key}".strip("."), *paths_in(item, f"{path}.{key}")]
    return found


def changed(document: Any, path: str, value: Any) -> bytes:
    """The document with another value at a path; `...` removes it."""
    node = document
    *keys, last = path.split(".")
    for key in keys:
        node = node[int(key)] if isinstance(node, list) else node[key]
    if value is ...:
        del node[int(last) if isinstance(node, list) else last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode()


def at(path: str, value: Any) -> Mutate:
    return lambda draw, example, content: changed(yaml.safe_load(content), path, value)


OPTIONAL = {"2021A": ("complexity_management", "total_parameters_non_zero", "model_size")}


def remove_any(draw: Draw, example: Example, content: bytes) -> bytes:
    document = yaml.safe_load(content)
    optional = OPTIONAL.get(example.edition, ())
    names = [(path, path.rpartition(".")[2]) for path in paths_in(document)]
    keys = [path for path, name in names if not name.isdigit() and name not in optional]
    return changed(document, draw(st.sampled_from(keys)), ...)


def wrong_type(draw: Draw, example: Example, content: bytes) -> bytes:
    """A section instead of a value, or a value instead of a section."""
    document = yaml.safe_load(content)
    path = draw(st.sampled_from([path for path in paths_in(document) if value_of(document, path) is not None]))
    section = isinstance(value_of(document, path), dict | list)
    return changed(document, path, draw(st.sampled_from([1.5, "text"])) if section else {"a": 1})


def value_of(document: Any, path: str) -> Any:
    for key in path.split("."):
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


def over_a_limit(draw: Draw, example: Example, content: bytes) -> bytes:
    limits = Budget.parse(EDITIONS[example.edition].limits or "").limits()
    costs = {QUANTITIES[name][0]: limit for name, limit in limits.items()}
    costs["bytes_nonzero"] = costs.get("total_bytes", 0)
    layout = FORMATS[example.edition]
    path, measure = draw(
        st.sampled_from(
            [(p, m) for p, m in layout.measured.items() if costs.get(m.source) and m.source != "params_nonzero"]
        )
    )
    over = costs[measure.source] / measure.unit + draw(st.integers(1, 10**9))
    return changed(yaml.safe_load(content), path, over if measure.unit > 1 else int(over))


META_FAULTS: dict[str, tuple[Mutate, str]] = {
    "a key missing": (remove_any, ""),
    "a value of another type": (wrong_type, "expected"),
    "another label": (at("submission.label", "Muller_TU_task1_9"), "as in the path"),
    "abbreviation": (at("submission.abbreviation", "eleven chars"), "1 to 10 characters"),
    "two corresponding authors": (at("submission.authors.1.corresponding", True), "exactly one"),
    "no corresponding author": (at("submission.authors.0.corresponding", False), "exactly one"),
    "e-mail": (at("submission.authors.0.email", "at home"), "e-mail"),
    "a draft's name": (at("submission.name", "DRAFT"), "draft"),
    "not YAML": (lambda draw, example, content: content + b"\n]", "not valid YAML"),
    "not UTF-8": (bad_byte, "UTF-8"),
    "an alias": (lambda draw, example, content: b"a: &x 1\nb: *x\n" + content, "alias"),
    "a key twice": (lambda draw, example, content: content + b"results: {}\n", "given before"),
}


@pytest.mark.parametrize("key", ALL)
@pytest.mark.parametrize("fault", META_FAULTS)
@quick
@given(data=st.data())
def test_a_fault_in_meta_is_noticed(
    key: str, fault: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    mutate, words = META_FAULTS[fault]
    noticed(example, name, mutate(data.draw, example, example.members[name]), words, tmp_path / "x.zip")


@pytest.mark.parametrize("key", [key for key in ALL if EDITIONS[key].limits])
@quick
@given(data=st.data())
def test_a_number_over_a_limit_is_noticed(key: str, examples: Examples, tmp_path: Path, data: st.DataObject) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    content = over_a_limit(data.draw, example, example.members[name])
    noticed(example, name, content, "too many)", tmp_path / "x.zip")


@pytest.mark.parametrize("key", ALL)
@quick
@given(data=st.data())
def test_a_number_that_was_not_measured_is_noticed(
    key: str, examples: Examples, tmp_path: Path, data: st.DataObject
) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    scores = (".accuracy", ".logloss", ".accuracy_inference", ".roc_auc_inference")
    scored = [path for path in paths_in(meta_of(example)) if path.endswith(scores)]
    path = data.draw(st.sampled_from([*FORMATS[key].measured, *scored]))
    content = changed(meta_of(example), path, value_of(meta_of(example), path) + data.draw(st.sampled_from([-1, 1])))
    noticed(example, name, content, "as measured", tmp_path / "x.zip", runs=True)


@pytest.mark.parametrize("key", [key for key in TABLES if EDITIONS[key].classes])
def test_results_that_contradict_each_other_are_noticed(key: str, examples: Examples, tmp_path: Path) -> None:
    example, name = examples[key], examples[key].file(".meta.yaml")
    splits = EDITIONS[key].splits
    block = "results.development_dataset" + (f".{splits[-1]}" if splits else "")
    for value, words in (("accuracy", "mean of the class accuracies"), ("logloss", "between those of the classes")):
        content = changed(meta_of(example), f"{block}.overall.{value}", 99.0)
        noticed(example, name, content, words, tmp_path / "x.zip")
