"""Is a meta.yaml what its edition asks for? Every fault with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from submission.checks.fault import Fault
from submission.packing.people import PLACEHOLDER
from submission.schema import DRAFT_MARK, Each, Kind, Leaf, Many, PackageFormat, Schema, empty, value_at
from system.budget import QUANTITIES, Budget
from system.config import YamlLoader
from system.editions import Edition
from system.errors import BudgetError

MAX_BYTES = 1 << 18  # a real one has about 10 kB
MAX_DEPTH = 20  # levels of nesting; a format has eight at most
RESULTS = "results.development_dataset"
ROUNDING = 0.11  # percent points: class accuracies may be told with one decimal
TWO_DECIMALS = 0.0051  # how far off a number is that is told with so many
LEAST_DIGITS = 3  # significant ones, of a number that is told with fewer decimals
LARGEST = 1 << 63  # no count comes near; Python turns larger ones neither into a float nor, some, into text
MERGE = "tag:yaml.org,2002:merge"
EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


FITS = {
    Kind.TEXT: lambda value: isinstance(value, str) and bool(value.strip()),
    Kind.ABBREVIATION: lambda value: isinstance(value, str) and 1 <= len(value.strip()) <= 10,
    Kind.EMAIL: lambda value: isinstance(value, str) and EMAIL.fullmatch(value) is not None,
    Kind.TRUTH: lambda value: isinstance(value, bool),
    Kind.COUNT: lambda value: isinstance(value, int) and _number(value) and value >= 0,
    Kind.AMOUNT: lambda value: _number(value) and value >= 0,
    Kind.PERCENT: lambda value: _number(value) and 0 <= value <= 100,
    Kind.SHARE: lambda value: _number(value) and 0 <= value <= 1,
}


@dataclass(frozen=True)
class Document:
    """A parsed meta.yaml, and the line of each of its values by dotted path."""

    value: dict[str, Any]
    lines: dict[str, int]


@dataclass
class _Checker:
    file: str
    lines: Mapping[str, int]
    names: Mapping[str, Sequence[str]]
    draft: bool
    faults: list[Fault] = field(default_factory=list)

    def fault(self, path: str, message: str) -> None:
        at = path
        while at and at not in self.lines:
            at = at.rpartition(".")[0]
        self.faults.append(Fault(self.file, self.lines.get(at, 1), f"{path}: {message}"))

    def check(self, schema: Schema, value: Any, path: str) -> None:
        if empty(value) and (getattr(schema, "null", False) or (self.draft and isinstance(schema, Leaf | Many))):
            return
        if isinstance(schema, Leaf):
            if not FITS[schema.kind](value):
                self.fault(path, f"expected {schema.kind.value}, found {short(value)}")
        elif isinstance(schema, Many):
            if not isinstance(value, list) or len(value) < schema.least:
                least = " of at least one entry" if schema.least else ""
                self.fault(path, f"expected a list{least}, found {short(value)}")
            else:
                for index, item in enumerate(value):
                    self.check(schema.item, item, f"{path}.{index}")
        else:
            inner = dict.fromkeys(self.names[schema.of], schema.item) if isinstance(schema, Each) else schema
            if not isinstance(value, dict):
                self.fault(path or "(top level)", f"expected a mapping with {', '.join(inner)}, found {short(value)}")
                return
            prefix = f"{path}." if path else ""
            for key, item in inner.items():
                if key in value:
                    self.check(item, value[key], prefix + key)
                elif not getattr(item, "absent", False):
                    self.fault(prefix + key, "is missing")
            if isinstance(schema, Each):
                for key in value:
                    if key not in inner:
                        self.fault(f"{prefix}{key}", f"expected one of {', '.join(inner)}")


def read_meta(file: str, content: bytes) -> tuple[Document | None, list[Fault]]:
    """Parse a meta.yaml. Aliases, merged and repeated keys are faults: they hide what a reader sees."""
    if len(content) > MAX_BYTES:
        return None, [Fault(file, None, f"is {len(content):,} bytes long, expected at most {MAX_BYTES:,}")]
    try:
        text = content.decode("utf-8-sig")
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            # Before anything is built: aliases multiply, and deep nesting takes PyYAML quadratic time.
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > MAX_DEPTH:
                line = event.start_mark.line + 1 if event.start_mark else None
                expected = "no YAML alias" if depth <= MAX_DEPTH else f"at most {MAX_DEPTH} levels"
                return None, [Fault(file, line, f"expected {expected}")]
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        lines: dict[str, int] = {}
        faults: list[Fault] = []
        _walk(node, "", lines, file, faults)
        value = yaml.load(text, Loader=YamlLoader)
    except UnicodeDecodeError as error:
        return None, [Fault(file, None, f"is not UTF-8: {error}")]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        return None, [Fault(file, line, f"is not valid YAML: {error.problem}")]
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        return None, [Fault(file, None, f"is not valid YAML: {type(error).__name__} {error}")]
    if not isinstance(value, dict):
        return None, [Fault(file, 1, f"expected a mapping of sections, found {short(value)}")]
    return Document(value, lines), faults


def _walk(node: yaml.Node | None, path: str, lines: dict[str, int], file: str, faults: list[Fault]) -> None:
    prefix = f"{path}." if path else ""
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, child in node.value:
            name = str(getattr(key, "value", "?"))
            line = key.start_mark.line + 1
            if key.tag == MERGE:  # its keys would stand where no line of the file has them, compared with no run
                faults.append(Fault(file, line, f"{prefix}{name}: expected each key where it belongs, found a merge"))
            if name in seen:
                faults.append(Fault(file, line, f"{prefix}{name}: was given before, in line {seen[name]}"))
            seen[name] = line
            lines[prefix + name] = line
            _walk(child, prefix + name, lines, file, faults)
    elif isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            lines[f"{prefix}{index}"] = child.start_mark.line + 1
            _walk(child, f"{prefix}{index}", lines, file, faults)


def check_meta(
    file: str,
    document: Document,
    label: str,
    layout: PackageFormat,
    edition: Edition,
    classes: Sequence[str],
    devices: Sequence[str],
    draft: bool,
) -> list[Fault]:
    """Faults of a meta.yaml: keys and types, label, authors, limits, numbers that contradict each other.

    A `draft` may keep its placeholders and leave values empty.
    """
    checker = _Checker(file, document.lines, {"classes": classes, "devices": devices}, draft)
    checker.check(layout.meta, document.value, "")
    submission = _mapping(document.value.get("submission"))
    if submission.get("label") != label:
        checker.fault("submission.label", f"expected {label!r} as in the path, found {short(submission.get('label'))}")
    authors = submission.get("authors")
    if isinstance(authors, list) and authors:
        count = sum(_mapping(author).get("corresponding") is True for author in authors)
        if count != 1:
            checker.fault("submission.authors", f"expected exactly one with corresponding: true, found {count}")
        if not draft:
            for index, author in enumerate(authors):
                if _mapping(author).get("email") == PLACEHOLDER.corresponding().email:
                    checker.fault(f"submission.authors.{index}", "is the placeholder of a draft")
    if not draft and str(submission.get("name", "")).startswith(DRAFT_MARK):
        checker.fault("submission.name", f"begins with {DRAFT_MARK}: a draft is not to be handed in")
    _check_limits(checker, document.value, layout, edition)
    _check_nonzero(checker, document.value, layout)
    blocks = [f"{RESULTS}.{split}" for split in edition.splits] or [RESULTS]
    for block in blocks:
        _check_means(checker, _mapping(value_at(document.value, block)), block)
    return checker.faults


def _check_limits(checker: _Checker, meta: Mapping[str, Any], layout: PackageFormat, edition: Edition) -> None:
    """The edition's limits, or for an own data set the budget told in the file, against the complexity told."""
    text = edition.limits if edition.classes is not None else _mapping(meta.get("task")).get("budget")
    if not isinstance(text, str):
        return
    try:
        budget = Budget.parse(text)
    except BudgetError as error:
        checker.fault("task.budget", str(error))
        return
    for quantity, limit in budget.limits().items():
        source, unit = QUANTITIES[quantity]
        if quantity == "bytes" and not edition.limits_count_zeros:
            source = "bytes_nonzero"
        for path, measure in layout.measured.items():
            value: Any = value_at(meta, path)
            if measure.source == source and FITS[Kind.AMOUNT](value) and (told := value * measure.unit) > limit:
                checker.fault(path, f"{told:,} {unit} of {limit:,} allowed ({told - limit:,} too many)")


def _check_nonzero(checker: _Checker, meta: Mapping[str, Any], layout: PackageFormat) -> None:
    told = {measure.source: (path, value_at(meta, path)) for path, measure in layout.measured.items()}
    path, nonzero = told.get("params_nonzero", ("", None))
    _, every = told.get("params", ("", None))
    if FITS[Kind.COUNT](nonzero) and FITS[Kind.COUNT](every) and nonzero > every:
        checker.fault(path, f"expected at most the {every:,} parameters in all, found {nonzero:,}")


def _check_means(checker: _Checker, results: Mapping[str, Any], path: str) -> None:
    """The overall accuracy is the mean of the class accuracies; the overall loss lies between those of the classes."""
    rows = [_mapping(row) for row in _mapping(results.get("class_wise")).values()]
    overall = _mapping(results.get("overall"))
    accuracies, losses = ([row.get(key) for row in rows] for key in ("accuracy", "logloss"))
    told = overall.get("accuracy")
    if rows and all(map(FITS[Kind.PERCENT], (told, *accuracies))):
        mean = sum(accuracies) / len(rows)  # type: ignore[arg-type]
        if abs(told - mean) > ROUNDING:  # type: ignore[operator]
            checker.fault(
                f"{path}.overall.accuracy", f"expected the mean of the class accuracies, {mean:.2f}, found {told}"
            )
    told = overall.get("logloss")
    if rows and all(map(FITS[Kind.AMOUNT], (told, *losses))):
        low, high = min(losses), max(losses)  # type: ignore[type-var]
        if not low - 0.01 <= told <= high + 0.01:  # type: ignore[operator]
            checker.fault(
                f"{path}.overall.logloss",
                f"expected a loss between those of the classes, {low} to {high}, found {told}",
            )


def check_measured(file: str, document: Document, expected: Mapping[str, Any]) -> list[Fault]:
    """Faults where a number of meta.yaml is not the measured one. `expected`: dotted path -> value.

    A key that is left out is `check_meta`'s fault, or none.
    """
    faults = []
    for path, value in expected.items():
        if path not in document.lines:
            continue
        told = value_at(document.value, path)
        if not _agrees(told, value):
            line = document.lines.get(path, 1)
            faults.append(Fault(file, line, f"{path}: expected {value} as measured, found {short(told)}"))
    return faults


def _agrees(told: Any, measured: float) -> bool:
    """Whole numbers must be equal; others may be rounded, to two decimals or to three significant digits or more."""
    if isinstance(measured, int) or not _number(told):
        return bool(told == measured)
    digits = max(LEAST_DIGITS, len(f"{told:.15e}".partition("e")[0].rstrip("0")) - 1)
    return abs(told - measured) <= TWO_DECIMALS or told == float(f"{measured:.{digits}g}")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def short(value: Any) -> str:
    """A value in a message."""
    try:
        text = "nothing" if value is None else ascii(value)
    except ValueError:  # Python writes no whole number of thousands of digits
        text = "a number of too many digits"
    return text if len(text) <= 60 else text[:57] + "..."
