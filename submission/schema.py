"""What a package format says: names of files, and the tree of mappings, lists and values of a meta.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Union


class Kind(Enum):
    """What a value of meta.yaml must be; the text is used in messages."""

    TEXT = "a text that is not empty"
    ABBREVIATION = "a text of 1 to 10 characters"
    EMAIL = "an e-mail address"
    TRUTH = "true or false"
    COUNT = "a whole number, 0 or more"
    AMOUNT = "a finite number, 0 or more"
    PERCENT = "a number from 0 to 100"
    SHARE = "a number from 0 to 1"


@dataclass(frozen=True)
class Leaf:
    """One value; `null` says whether it may be left empty, `absent` whether its key may."""

    kind: Kind
    null: bool = False
    absent: bool = False


@dataclass(frozen=True)
class Each:
    """A mapping with one entry per class, or per device."""

    of: Literal["classes", "devices"]
    item: Schema


@dataclass(frozen=True)
class Many:
    """A list of `least` entries or more."""

    item: Schema
    null: bool = False
    least: int = 1


Schema = Union[Leaf, Each, Many, dict[str, "Schema"]]  # noqa: UP007 (evaluated at import)

EVENT_LIST = "event_list"  # the part of a package's tables that lists sound events in time
LABEL_PART = r"[A-Za-z0-9][A-Za-z0-9-]*"  # no underscore: it separates the parts
DRAFT_MARK = "DRAFT"  # the file at the top of a draft, and the first word of its name in meta.yaml
MAX_INDEX = 4  # systems of one team, and the largest last part of a label


@dataclass(frozen=True)
class Measure:
    """A value of meta.yaml that is measured: `source` is a key of the package's complexity.json."""

    source: str
    unit: int = 1  # how many of the source's units one of this value is
    absent: bool = False  # whether meta.yaml may be without it


@dataclass(frozen=True)
class PackageFormat:
    """Names of the files of a package and what they hold.

    `{label}` stands for the submission label, `{team}` for the label without its index; `folder` also for any
    other names of the folders above the label, where the edition leaves them free (`*`).
    """

    task: str  # a part of the label
    folder: str  # of one system
    report: str  # the place of the technical report
    meta: dict[str, Schema]
    measured: dict[str, Measure]  # dotted path in meta.yaml -> what it must equal
    outputs: dict[str, str] = field(default_factory=lambda: {"": "{label}.output.csv"})  # part -> table; {}: none
    meta_name: str = "{label}.meta.yaml"
    label: str = "{lastname}_{institute}_{task}_{index}"
    archive: str = "{label}.zip"  # {team}.zip where it holds several systems
    also_in: str | None = None  # regular expression of further folders a label may stand in
    key_columns: tuple[str, ...] = ("filename",)  # together unique in the table
    label_column: str = "scene_label"  # then one probability column per class
    event_columns: tuple[str, ...] = ()  # of the table `EVENT_LIST`; the last is one class
    listed_names: bool = False  # True: file names as the list has them; False: without their folder
    delimiter: str = "\t"
    code: str | None = None  # who writes the further files: a key of CODE in submission/inference/code.py
    needed: tuple[str, ...] = ()  # further files that every system has
    single: tuple[str, ...] = ()  # regular expressions that match exactly one file each
    allowed: tuple[str, ...] = ()  # regular expressions of further files, {team} and {label} filled in
    functions: dict[str, tuple[str, ...]] = field(default_factory=dict)  # Python file -> what it must define
    device_costs: str | None = None  # JSON file of MACs and bytes per device
    at_least: dict[str, str] = field(default_factory=dict)  # dotted path in meta.yaml -> key of `device_costs`
    sized: dict[str, str] = field(default_factory=dict)  # dotted path -> regular expression of the file it tells of
    accuracy: str | None = None  # JSON file of the test accuracy
    class_numbers: str | None = None  # YAML file of the classes and their positions

    @property
    def events(self) -> bool:
        """Whether a row may name several classes or none, and sounds are listed in time."""
        return EVENT_LIST in self.outputs

    @property
    def label_pattern(self) -> str:
        """Regular expression of a label."""
        return self.label.format(
            lastname=f"(?P<lastname>{LABEL_PART})",
            institute=f"(?P<institute>{LABEL_PART})",
            task=re.escape(self.task),
            index=f"(?P<index>[1-{MAX_INDEX}])",
        )

    @property
    def label_example(self) -> str:
        return self.label.format(lastname="Lastname", institute="Institute", task=self.task, index=1)


def team_of(label: str) -> str:
    """A label without its index."""
    return label.rpartition("_")[0]


NOT_AVAILABLE = "N/A"  # how BioDCASE writes an empty value


def empty(value: Any) -> bool:
    return value is None or value == NOT_AVAILABLE


def value_at(document: Any, path: str) -> Any:
    """The value at a dotted path of nested mappings; None where there is none."""
    for key in path.split("."):
        document = document.get(key) if isinstance(document, dict) else None
    return document
