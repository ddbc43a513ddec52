"""Who submits: what no measurement can tell. One YAML file, checked as a whole; the label follows from it."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from submission.schema import LABEL_PART, PackageFormat
from system.config import Spec, load_yaml, parse
from system.errors import ConfigError

SPELLED = str.maketrans(  # letters that are no accented form of another
    {"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L",
     "đ": "d", "Đ": "D", "ð": "d", "Ð": "D", "þ": "th", "Þ": "Th", "ħ": "h", "Ħ": "H", "ŧ": "t", "Ŧ": "T", "ı": "i"}
)  # fmt: skip
Text = Annotated[str, StringConstraints(min_length=1, strip_whitespace=True)]
Amount = Annotated[float, Field(ge=0)]
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
    total_audio_length: Amount  # minutes


class Energy(Spec):
    """kWh, as DCASE 2023 asks for."""

    training: Amount | None = None
    inference: Amount | None = None
    baseline_inference: Amount | None = None


class Embedded(Spec):
    """What BioDCASE-Tiny measures on its board: milliseconds and bytes."""

    time_ms_setup: Amount | None = None
    time_ms_preprocessing: Amount | None = None
    time_ms_model: Amount | None = None
    time_ms_total: Amount | None = None
    ram_usage_bytes: Annotated[int, Field(ge=0)] | None = None


class People(Spec):
    """The content of a --people file. Exactly one author is the corresponding one."""

    authors: Annotated[tuple[Author, ...], Field(min_length=1)]
    name: Text = "TinyScene"
    abbreviation: Annotated[str, StringConstraints(min_length=1, max_length=10)] = "TinyScene"
    source_code: str | None = None
    external_datasets: tuple[ExternalDataset, ...] | None = None
    energy_consumption: Energy = Energy()
    coding_agents_ai_used: bool | None = None
    embedded: Embedded = Embedded()

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


def load_people(path: Path) -> tuple[People, list[str]]:
    """Read a --people file: its content, or the placeholder, and all its faults."""
    people, faults = PLACEHOLDER, []
    try:
        raw = load_yaml(path)
    except ConfigError as error:
        return people, [str(error)]
    try:
        people = parse(People, raw, str(path))
    except ConfigError as error:
        faults.append(str(error))
    authors: Any = raw.get("authors")
    if isinstance(authors, list) and authors:
        count = sum(isinstance(author, dict) and author.get("corresponding") is True for author in authors)
        if count != 1:
            faults.append(f"{path}: authors: exactly one must have corresponding: true, found {count}")
    return (PLACEHOLDER if faults else people), faults


def make_label(layout: PackageFormat, people: People, index: int) -> str:
    """The label of the corresponding author's system number `index`. Raises ConfigError for a name in other letters."""
    author = people.corresponding()
    return layout.label.format(
        lastname=_plain(author.lastname),
        institute=_plain(author.affiliation.abbreviation),
        task=layout.task,
        index=index,
    )


def _plain(text: str) -> str:
    """A name in the letters a label may hold: accents dropped, other signs become hyphens."""
    letters = unicodedata.normalize("NFKD", text.translate(SPELLED))
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    lost = dict.fromkeys(letter for letter in letters if letter.isalnum() and not letter.isascii())
    parts = re.findall(LABEL_PART, letters.replace("-", " "))
    if lost or not parts:
        why = f"ASCII cannot spell {', '.join(lost)}" if lost else "it has no letter or digit"
        raise ConfigError(f"no label can be made of {text!r}: {why}; give one with --label")
    return "-".join(parts)
