"""Who submits: what no measurement can tell. One YAML file, checked as a whole; the label follows from it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from submission.formats import LABEL_PART, PackageFormat
from system.config import Spec, load_yaml, parse
from system.errors import ConfigError

Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Email = Annotated[str, StringConstraints(pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]


class Affiliation(Spec):
    abbreviation: Text
    institute: Text
    department: str | None = None
    location: Text


class Author(Spec):
    lastname: Text
    firstname: Text
    email: Email
    corresponding: bool = False
    affiliation: Affiliation


class ExternalDataset(Spec):
    name: Text
    url: Text
    total_audio_length: Annotated[float, Field(ge=0)]  # minutes


class People(Spec):
    """The content of a --people file. Exactly one author is the corresponding one."""

    authors: Annotated[tuple[Author, ...], Field(min_length=1)]
    name: Text = "TinyScene"
    abbreviation: Annotated[str, StringConstraints(min_length=1, max_length=10)] = "TinyScene"
    source_code: str | None = None
    external_datasets: tuple[ExternalDataset, ...] | None = None

    def corresponding(self) -> Author:
        return next(author for author in self.authors if author.corresponding)


PLACEHOLDER = People(
    name="DRAFT",
    abbreviation="DRAFT",
    authors=(
        Author(
            lastname="Lastname",
            firstname="Firstname",
            email="name@example.org",
            corresponding=True,
            affiliation=Affiliation(
                abbreviation="INST", institute="(institute)", department="(department)", location="(city, country)"
            ),
        ),
    ),
)
"""Stands in for the people of a draft; the validator refuses it in a package to be handed in."""


def load_people(path: Path) -> People:
    """Read a --people file. Raises ConfigError naming all its faults together."""
    raw = load_yaml(path)
    faults = []
    people = None
    try:
        people = parse(People, raw, str(path))
    except ConfigError as error:
        faults.append(str(error))
    authors: Any = raw.get("authors")
    if isinstance(authors, list) and authors:
        count = sum(isinstance(author, dict) and author.get("corresponding") is True for author in authors)
        if count != 1:
            faults.append(f"authors: exactly one must have corresponding: true, found {count}")
    if faults or people is None:
        raise ConfigError("; ".join(faults))
    return people


def make_label(layout: PackageFormat, people: People, given: str | None) -> str:
    """The submission label: the given one, or Lastname_Institute_task_1 of the corresponding author.

    Raises ConfigError for one that does not fit the pattern.
    """
    author = people.corresponding()
    label = given or f"{_plain(author.lastname)}_{_plain(author.affiliation.abbreviation)}_{layout.task}_1"
    if not re.fullmatch(layout.label_pattern, label):
        hint = "" if given else "; give one with --label"
        raise ConfigError(
            f"label {label!r}: expected Lastname_Institute_{layout.task}_N, N from 1 to {layout.max_index}, with "
            f"letters, digits and hyphens only, such as {layout.label_example}{hint}"
        )
    return label


def _plain(text: str) -> str:
    """A name in the letters a label may hold: accents dropped, other signs become hyphens."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return "-".join(re.findall(LABEL_PART, ascii_text.replace("-", " "))) or "-"
