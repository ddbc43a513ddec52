"""The files of a package as data: paths, columns and keys. One entry per edition; no code knows an edition's name.

Sources: the public submission validators of DCASE 2020 to 2024 (toni-heittola), which decide what is accepted, the
inference template of 2025 (CPJKU), and the repository of BioDCASE-Tiny 2026. Where they check less than the rules
ask (limits, the label being the most probable class), TinyScene checks more.
"""

from __future__ import annotations

from submission.meta_keys import (
    AMOUNT,
    CLASS_RESULTS,
    COUNT,
    DESCRIPTION_2020,
    DESCRIPTION_2021,
    DESCRIPTION_2022,
    DESCRIPTION_2024,
    EVENT_RESULTS,
    EXTERNAL_DATASET,
    EXTERNAL_DATASETS,
    MAYBE_AMOUNT,
    MAYBE_COUNT,
    MAYBE_SHARE,
    MAYBE_TEXT,
    RESULTS,
    SIZES_2020,
    SIZES_2021,
    SIZES_2022,
    SIZES_2024,
    SUBMISSION,
    TEXT,
    measured,
    meta,
)
from submission.schema import EVENT_LIST, Each, Kind, Leaf, Many, Measure, PackageFormat, Schema
from system.editions import EDITIONS, Edition
from system.registry import Registry

FORMATS: Registry[PackageFormat] = Registry("edition with a package format")
REPORT = "task1/{team}.technical_report.pdf"

FORMATS.add("2020B")(
    PackageFormat(
        task="task1b",
        folder="submission/task1/{label}",
        also_in=r"[^/]+/[^/]+",  # only the third part of a path counts
        report="submission/task1/{team}.technical_report.pdf",
        meta=meta(  # its validator walks through the external data sets, and null stops it
            DESCRIPTION_2020, SIZES_2020, CLASS_RESULTS, {"external_datasets": Many(EXTERNAL_DATASET, least=0)}
        ),
        measured=measured(SIZES_2020),
    )
)
FORMATS.add("2021A")(
    PackageFormat(
        task="task1a",
        folder="submission/task1/{label}",
        also_in=r"[^/]+/[^/]+",
        report="submission/task1/{team}.technical_report.pdf",
        meta=meta(DESCRIPTION_2021, SIZES_2021, RESULTS),
        measured=measured(SIZES_2021),
    )
)
FORMATS.add("2022")(
    PackageFormat(
        task="task1",
        folder="task1/{label}",
        report=REPORT,
        meta=meta(DESCRIPTION_2022, SIZES_2022, RESULTS),
        measured=measured(SIZES_2022),
    )
)
SIZES_2023 = {"total_model_size": Measure("total_bytes"), **SIZES_2022}
ENERGY: dict[str, Schema] = {"training": AMOUNT, "inference": AMOUNT, "baseline_inference": AMOUNT}  # kWh
FORMATS.add("2023")(
    PackageFormat(
        task="task1",
        folder="task1/{label}",
        report=REPORT,
        meta=meta(DESCRIPTION_2022, SIZES_2023, RESULTS, {"energy_consumption": ENERGY}),
        measured=measured(SIZES_2023),
    )
)
SPLITS = EDITIONS["2024"].splits
FORMATS.add("2024")(
    PackageFormat(
        task="task1",
        folder="task1/{label}",
        outputs={split: f"{{label}}.output.{split}.csv" for split in SPLITS},
        report=REPORT,
        meta=meta(DESCRIPTION_2024, SIZES_2024, dict.fromkeys(SPLITS, RESULTS)),
        measured=measured(SIZES_2024),
    )
)
FORMATS.add("2025")(
    PackageFormat(  # the folder that the organisers clone, install and run
        task="task1",
        folder="predictions/{label}",
        outputs={"": "output.csv"},
        listed_names=True,
        report="{team}.technical_report.pdf",
        meta=meta(
            {key: kind for key, kind in DESCRIPTION_2024.items() if key != "split_adaptations"}, SIZES_2024, RESULTS
        ),
        measured=measured(SIZES_2024),
        code="dcase2025",
        needed=(
            "complexity.py",
            "test_complexity.py",
            "evaluate_submission.py",
            "requirements.txt",
            "setup.py",
            "{team}/{label}.py",
            "{team}/resources/dummy.wav",
            "{team}/resources/test.csv",
            "predictions/{label}/model_state_dict.pt",
            "predictions/{label}/complexity.json",
            "predictions/{label}/test_accuracy.json",
        ),
        allowed=(r"{team}/.*", r"tests/[^/]+\.py", r"README\.md", r"LICENSE(\.txt)?", r"\.gitignore"),
        functions={"{team}/{label}.py": ("predict", "load_model", "load_inputs", "get_model_for_device")},
        device_costs="predictions/{label}/complexity.json",
        at_least={"system.complexity.macs": "max_MACs", "system.complexity.total_model_size": "max_Params"},
        accuracy="predictions/{label}/test_accuracy.json",
    )
)
BIODCASE_SCORES: dict[str, Schema] = {
    "accuracy_inference": Leaf(Kind.SHARE),
    "accuracy_tflite": MAYBE_SHARE,
    "roc_auc_inference": Leaf(Kind.SHARE),
    "roc_auc_tflite": MAYBE_SHARE,
    "model_size_inference_bytes": COUNT,
    "model_size_tflite_bytes": MAYBE_COUNT,
    "macs_inference": COUNT,
    "macs_tflite": MAYBE_COUNT,
    "num_params_inference": COUNT,
    "num_params_tflite": MAYBE_COUNT,
    "embedded_time_ms_setup": MAYBE_AMOUNT,
    "embedded_time_ms_preprocessing": MAYBE_AMOUNT,
    "embedded_time_ms_model": MAYBE_AMOUNT,
    "embedded_time_ms_total": MAYBE_AMOUNT,
    "embedded_ram_usage_bytes": MAYBE_COUNT,
}
BIODCASE_MODEL = r"{label}/your_submission_model/[^/]+\.(pth|keras)"
FORMATS.add("biodcase2026")(
    PackageFormat(  # no table: the test set is hidden, and the organisers run the code
        task="task3",
        label="{lastname}_{task}_{index}",
        folder="{label}",
        outputs={},
        archive="biodcase_2026_task3_submission_package.zip",
        report="{team}.technical_report.pdf",
        meta={
            "submission": {**SUBMISSION, "coding_agents_ai_used": Leaf(Kind.TRUTH)},
            "system": {
                "description": {
                    "machine_learning_framework": TEXT,
                    "acoustic_features": TEXT,
                    "data_augmentation": MAYBE_TEXT,
                    "embeddings": MAYBE_TEXT,
                    "model_architecture": TEXT,
                    "training_objective": TEXT,
                    "model_compression": MAYBE_TEXT,
                    "external_data_usage": MAYBE_TEXT,
                },
                "source_code": MAYBE_TEXT,
                "external_datasets": EXTERNAL_DATASETS,
            },
            "results": BIODCASE_SCORES,
        },
        measured={
            "results.model_size_inference_bytes": Measure("file_bytes"),
            "results.macs_inference": Measure("macs"),
            "results.num_params_inference": Measure("params"),
        },
        code="biodcase2026",
        needed=("{label}/config_submission.yaml", "{label}/your_submission_model/label_dict.yaml"),
        single=(BIODCASE_MODEL,),
        sized={"results.model_size_inference_bytes": BIODCASE_MODEL},
        class_numbers="{label}/your_submission_model/label_dict.yaml",
        allowed=(
            r"{label}/your_submission_model/[^/]+\.(pth|keras|tflite)",
            r"{label}/your_generated_code/.*",
            r"{label}/[^/]+\.(py|yaml|txt|md)",
        ),
    )
)
SIZES_OWN = {**SIZES_2022, "peak_activation": Measure("peak_activation_bytes")}
TASK_OWN: dict[str, Schema] = {
    "dataset": TEXT, "classes": Many(TEXT), "devices": Many(TEXT), "budget": MAYBE_TEXT,
}  # fmt: skip
FORMATS.add("own")(
    PackageFormat(
        task="own",
        folder="own/{label}",
        report="own/{team}.technical_report.pdf",
        key_columns=("filename", "segment", "device"),
        meta=meta(DESCRIPTION_2022, SIZES_OWN, RESULTS, task=TASK_OWN),
        measured=measured(SIZES_OWN),
    )
)
FORMATS.add("own_events")(
    PackageFormat(
        task="events",
        folder="own/{label}",
        outputs={"": "{label}.output.csv", EVENT_LIST: "{label}.events.csv"},
        report="own/{team}.technical_report.pdf",
        key_columns=("filename", "segment", "device"),
        label_column="event_labels",
        event_columns=("filename", "device", "onset", "offset", "event_label"),
        meta=meta(
            DESCRIPTION_2022, SIZES_OWN, EVENT_RESULTS,
            task={
                **TASK_OWN, "segment_seconds": AMOUNT, "median_window": COUNT,
                "thresholds": Each("classes", Leaf(Kind.SHARE)),
            },
        ),
        measured=measured(SIZES_OWN),
    )
)  # fmt: skip


def find(name: str) -> tuple[Edition, PackageFormat]:
    """An edition by its key (2022) or budget name (dcase2022), and its format.

    Raises ConfigError for an unknown edition, and for one that has no format here.
    """
    by_budget = {edition.budget_name: key for key, edition in EDITIONS.items()}
    edition = EDITIONS[by_budget.get(name, name)]
    return edition, FORMATS[edition.key]
