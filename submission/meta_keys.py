"""The keys of a meta.yaml: what editions share, from which submission/formats.py puts each one's together.

Sources: as there. A value is null where it may be left empty; `Measure` says of what a number is measured.
"""

from __future__ import annotations

from submission.schema import Each, Kind, Leaf, Many, Measure, Schema

TEXT, MAYBE_TEXT = Leaf(Kind.TEXT), Leaf(Kind.TEXT, null=True)
COUNT, AMOUNT, PERCENT = Leaf(Kind.COUNT), Leaf(Kind.AMOUNT), Leaf(Kind.PERCENT)
MAYBE_COUNT, MAYBE_AMOUNT, MAYBE_SHARE = (Leaf(kind, null=True) for kind in (Kind.COUNT, Kind.AMOUNT, Kind.SHARE))

AUTHOR: Schema = {
    "lastname": TEXT,
    "firstname": TEXT,
    "email": Leaf(Kind.EMAIL),
    "corresponding": Leaf(Kind.TRUTH),
    "affiliation": {"abbreviation": TEXT, "institute": TEXT, "department": MAYBE_TEXT, "location": TEXT},
}
SUBMISSION: dict[str, Schema] = {
    "label": TEXT,
    "name": TEXT,
    "abbreviation": Leaf(Kind.ABBREVIATION),
    "authors": Many(AUTHOR),
}
DESCRIPTION_2020: dict[str, Schema] = {
    "input_sampling_rate": TEXT,
    "acoustic_features": TEXT,
    "embeddings": MAYBE_TEXT,
    "data_augmentation": MAYBE_TEXT,
    "machine_learning_method": TEXT,
    "ensemble_method_subsystem_count": MAYBE_COUNT,
    "decision_making": MAYBE_TEXT,
    "external_data_usage": MAYBE_TEXT,
    "complexity_management": TEXT,
}
DESCRIPTION_2021 = {**DESCRIPTION_2020, "complexity_management": Leaf(Kind.TEXT, null=True, absent=True)}
DESCRIPTION_2022: dict[str, Schema] = {**DESCRIPTION_2020, "pipeline": TEXT, "framework": TEXT}
DESCRIPTION_2024: dict[str, Schema] = {
    **{key: DESCRIPTION_2022[key] for key in (
        "input_sampling_rate", "acoustic_features", "data_augmentation", "machine_learning_method",
        "external_data_usage", "complexity_management", "pipeline", "framework",
    )},
    "split_adaptations": MAYBE_TEXT,
    "system_adaptations": MAYBE_TEXT,
}  # fmt: skip
EXTERNAL_DATASET: Schema = {"name": TEXT, "url": TEXT, "total_audio_length": AMOUNT}  # length in minutes
EXTERNAL_DATASETS = Many(EXTERNAL_DATASET, null=True, least=0)
RESULT: Schema = {"accuracy": PERCENT, "logloss": AMOUNT}
MAYBE_RESULT: Schema = {"accuracy": Leaf(Kind.PERCENT, null=True), "logloss": MAYBE_AMOUNT}
CLASS_RESULTS: dict[str, Schema] = {"overall": RESULT, "class_wise": Each("classes", RESULT)}
RESULTS: dict[str, Schema] = {  # null for a device that the run was not tested on
    **CLASS_RESULTS,
    "device_wise": Each("devices", MAYBE_RESULT),
}

TIMED_RESULT: Schema = {"f1": MAYBE_SHARE, "error_rate": MAYBE_AMOUNT}  # null where tags have no time
EVENT_RESULTS: dict[str, Schema] = {
    "overall": {
        "mAP": MAYBE_SHARE,
        "AUC": MAYBE_SHARE,
        "logloss": AMOUNT,
        "segment_based": TIMED_RESULT,
        "event_based": TIMED_RESULT,
    },
    "class_wise": Each(
        "classes",
        dict.fromkeys(("average_precision", "auc", "segment_f1", "event_f1"), MAYBE_SHARE),
    ),
    "device_wise": Each("devices", {"logloss": AMOUNT}),
}

SIZES_2020 = {
    "total_parameters": Measure("params"),
    "total_parameters_non_zero": Measure("params_nonzero"),
    "model_size": Measure("bytes_nonzero", unit=1024),  # KB of the parameters that are not zero
}
SIZES_2021 = {  # what stands in the template of 2021 alone may be left out: its validator asks for the first only
    "total_parameters": Measure("params"),
    "total_parameters_non_zero": Measure("params_nonzero", absent=True),
    "model_size": Measure("bytes_nonzero", unit=1024, absent=True),
}
SIZES_2022 = {
    "total_parameters": Measure("params"),
    "total_parameters_non_zero": Measure("params_nonzero"),
    "memory_use": Measure("total_bytes"),
    "macs": Measure("macs"),
}
SIZES_2024 = {
    "total_model_size": Measure("total_bytes"),
    "total_parameters": Measure("params"),
    "macs": Measure("macs"),
}


def meta(
    description: dict[str, Schema],
    sizes: dict[str, Measure],
    results: Schema,
    system: dict[str, Schema] | None = None,
    **more: Schema,
) -> dict[str, Schema]:
    """The keys of a DCASE meta.yaml. `system` and `more`: keys of one edition."""
    counts: dict[str, Schema] = {
        key: Leaf(Kind.COUNT if measure.unit == 1 else Kind.AMOUNT, null=measure.absent, absent=measure.absent)
        for key, measure in sizes.items()
    }
    return {
        "submission": SUBMISSION,
        **more,
        "system": {
            "description": description,
            "complexity": counts,
            "external_datasets": EXTERNAL_DATASETS,
            "source_code": MAYBE_TEXT,
            **(system or {}),
        },
        "results": {"development_dataset": results},
    }


def measured(sizes: dict[str, Measure]) -> dict[str, Measure]:
    return {f"system.complexity.{key}": measure for key, measure in sizes.items()}
