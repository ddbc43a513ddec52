"""The files of a package as data: paths, columns and keys, one entry per edition that can be packed.

Sources: the public submission validators of DCASE 2020 to 2024 (toni-heittola), which decide what is accepted.
Where they check less than the rules ask (limits, the label being the most probable class), TinyScene checks more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal, Union

from system.editions import EDITIONS, Edition
from system.errors import ConfigError
from system.registry import Registry


class Kind(Enum):
    """What a value of meta.yaml must be; the text is used in messages."""

    TEXT = "a text that is not empty"
    ABBREVIATION = "a text of 1 to 10 characters"
    EMAIL = "an e-mail address"
    TRUTH = "true or false"
    COUNT = "a whole number, 0 or more"
    AMOUNT = "a finite number, 0 or more"
    PERCENT = "a number from 0 to 100"


@dataclass(frozen=True)
class Leaf:
    """One value; `null` says whether it may be left empty."""

    kind: Kind
    null: bool = False


@dataclass(frozen=True)
class Each:
    """A mapping with one entry per class, or per device."""

    of: Literal["classes", "devices"]
    item: Schema


@dataclass(frozen=True)
class Many:
    """A list of at least one entry."""

    item: Schema
    null: bool = False


Schema = Union[Leaf, Each, Many, dict[str, "Schema"]]  # noqa: UP007 (evaluated at import)

TEXT, MAYBE_TEXT = Leaf(Kind.TEXT), Leaf(Kind.TEXT, null=True)
COUNT, AMOUNT, PERCENT = Leaf(Kind.COUNT), Leaf(Kind.AMOUNT), Leaf(Kind.PERCENT)

AUTHOR: Schema = {
    "lastname": TEXT,
    "firstname": TEXT,
    "email": Leaf(Kind.EMAIL),
    "corresponding": Leaf(Kind.TRUTH),
    "affiliation": {"abbreviation": TEXT, "institute": TEXT, "department": MAYBE_TEXT, "location": TEXT},
}
SUBMISSION: Schema = {
    "label": TEXT,
    "name": TEXT,
    "abbreviation": Leaf(Kind.ABBREVIATION),
    "authors": Many(AUTHOR),
}
DESCRIPTION: dict[str, Schema] = {
    "input_sampling_rate": TEXT,
    "acoustic_features": TEXT,
    "embeddings": MAYBE_TEXT,
    "data_augmentation": MAYBE_TEXT,
    "machine_learning_method": TEXT,
    "ensemble_method_subsystem_count": Leaf(Kind.COUNT, null=True),
    "decision_making": MAYBE_TEXT,
    "external_data_usage": MAYBE_TEXT,
    "complexity_management": TEXT,
    "pipeline": TEXT,
    "framework": TEXT,
}
COMPLEXITY: dict[str, Schema] = {
    "total_parameters": COUNT,
    "total_parameters_non_zero": COUNT,
    "memory_use": COUNT,
    "macs": COUNT,
}
EXTERNAL_DATASETS = Many({"name": TEXT, "url": TEXT, "total_audio_length": AMOUNT}, null=True)  # length in minutes
RESULT: Schema = {"accuracy": PERCENT, "logloss": AMOUNT}
MAYBE_RESULT: Schema = {"accuracy": Leaf(Kind.PERCENT, null=True), "logloss": Leaf(Kind.AMOUNT, null=True)}
RESULTS: Schema = {
    "development_dataset": {
        "overall": RESULT,
        "class_wise": Each("classes", RESULT),
        "device_wise": Each("devices", MAYBE_RESULT),  # null for a device that the run was not tested on
    }
}

LABEL_PART = r"[A-Za-z0-9-]+"  # no underscore: it separates the parts
DRAFT_MARK = "DRAFT"  # the file at the top of a draft, and the first word of its name in meta.yaml


@dataclass(frozen=True)
class PackageFormat:
    """Names of the files of a package and what they hold. `{label}` stands for the submission label."""

    task: str  # third part of a label
    folder: str
    outputs: dict[str, str]  # run's part ("" where there is one run) -> file name
    meta_name: str
    documents: str  # regular expression of further paths that are let through unread, such as the report
    key_columns: tuple[str, ...]  # together unique in output.csv
    label_column: str  # then one probability column per class
    meta: dict[str, Schema]
    complexity: dict[str, str]  # key of system.complexity in meta.yaml -> key of complexity.json
    delimiter: str = "\t"
    max_index: int = 4  # systems of one team, and the largest last part of a label

    @property
    def label_pattern(self) -> str:
        return rf"({LABEL_PART})_({LABEL_PART})_{self.task}_([1-{self.max_index}])"

    @property
    def label_example(self) -> str:
        return f"Lastname_Institute_{self.task}_1"


FORMATS: Registry[PackageFormat] = Registry("edition with a package format")

FORMATS.add("2022")(
    PackageFormat(
        task="task1",
        folder="task1/{label}",
        outputs={"": "{label}.output.csv"},
        meta_name="{label}.meta.yaml",
        documents=r"task1/([^/]+/)?[^/]+\.technical_report\.pdf",
        key_columns=("filename",),
        label_column="scene_label",
        meta={
            "submission": SUBMISSION,
            "system": {
                "description": DESCRIPTION,
                "complexity": COMPLEXITY,
                "external_datasets": EXTERNAL_DATASETS,
                "source_code": MAYBE_TEXT,
            },
            "results": RESULTS,
        },
        complexity={
            "total_parameters": "params",
            "total_parameters_non_zero": "params_nonzero",
            "memory_use": "total_bytes",
            "macs": "macs",
        },
    )
)

FORMATS.add("own")(
    PackageFormat(
        task="own",
        folder="own/{label}",
        outputs={"": "{label}.output.csv"},
        meta_name="{label}.meta.yaml",
        documents=r"own/([^/]+/)?[^/]+\.technical_report\.pdf",
        key_columns=("filename", "segment", "device"),
        label_column="scene_label",
        meta={
            "submission": SUBMISSION,
            "task": {
                "dataset": TEXT,
                "classes": Many(TEXT),
                "devices": Many(TEXT),
                "budget": MAYBE_TEXT,
            },
            "system": {
                "description": DESCRIPTION,
                "complexity": {**COMPLEXITY, "peak_activation": COUNT},
                "external_datasets": EXTERNAL_DATASETS,
                "source_code": MAYBE_TEXT,
            },
            "results": RESULTS,
        },
        complexity={
            "total_parameters": "params",
            "total_parameters_non_zero": "params_nonzero",
            "memory_use": "total_bytes",
            "macs": "macs",
            "peak_activation": "peak_activation_bytes",
        },
    )
)


def find(name: str) -> tuple[Edition, PackageFormat]:
    """An edition by its key (2022) or budget name (dcase2022), and its format.

    Raises ConfigError for an unknown edition, and for a known one whose packages have no format here yet.
    """
    by_budget = {edition.budget_name: key for key, edition in EDITIONS.items()}
    edition = EDITIONS[by_budget.get(name, name)]
    if edition.key not in FORMATS:
        packable = ", ".join(sorted(FORMATS))
        raise ConfigError(f"edition {edition.key} ({edition.title}) cannot be packed yet; packable: {packable}")
    return edition, FORMATS[edition.key]
