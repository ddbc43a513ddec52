"""The editions of the challenges as data: classes, lists, limits, ranking. One entry each; no code knows a name.

Limits and labels of a challenge stand here and nowhere else; the files of a package stand in
submission/formats.py. Sources: the rules pages, baselines and validators of DCASE Task 1, 2020 to 2025, and the
repository of BioDCASE-Tiny 2026. What no primary source confirms is named in `unverified` and printed as such.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from system.registry import Registry

SCENES = (
    "airport",
    "bus",
    "metro",
    "metro_station",
    "park",
    "public_square",
    "shopping_mall",
    "street_pedestrian",
    "street_traffic",
    "tram",
)
BIRDS = (
    "Background",
    "Common Chaffinch",
    "Common Chiffchaff",
    "Eurasian Blackbird",
    "Eurasian Blackcap",
    "Eurasian Blue Tit",
    "Great Spotted Woodpecker",
    "Great Tit",
    "Mallard",
    "Song Thrush",
    "Tawny Owl",
)
TAU_DEVICES = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
DEVICES_2025 = (*TAU_DEVICES, "s7", "s8", "s9", "s10")  # whose models the complexity of 2025 is told for
EVALUATED_2025 = ("a", "b", "c", "s1", "s2", "s3", "unknown")  # what the list of 2025 tells of a recording
NUMBERED = "{index}.wav"  # base names of every TAU evaluation list: 0.wav, 1.wav, ...
FOLD1 = "evaluation_setup/fold1_test.csv"


@dataclass(frozen=True)
class RankTerm:
    """One summand of an edition's ranking.

    `score` is a key of scores.json, complexity.json or, for BioDCASE, of meta.yaml's results. In a ranking by
    weighted rank the term is weight x place. In a formula it is weight x (value - zero) / (one - zero), and
    not below 0 where `floored`.
    """

    score: str
    weight: float = 1.0
    higher_is_better: bool = True
    zero: float = 0.0
    one: float = 1.0
    floored: bool = False


@dataclass(frozen=True)
class Edition:
    """The rules of one edition. None means: not fixed by the edition, or not known for certain."""

    key: str
    title: str
    classes: tuple[str, ...] | None = None  # in the order of the columns; None: the run's own
    devices: tuple[str, ...] | None = ()  # of the development set's test part; None: the run's own
    limits: str | None = None  # a budget, see system/budget.py; None: no limit
    limits_count_zeros: bool = True  # False: bytes are those of the parameters that are not zero
    limits_note: str = ""
    segment_seconds: float | None = None  # what is classified, and what a MAC limit is for
    sample_rate: int | None = None  # of the recordings, where the organisers' code insists on it
    splits: tuple[str, ...] = ()  # training subsets: one run, one output and one result each
    training_subset: str = ""  # the only one that may be trained on, named as in `splits`; "": the whole training part
    may_refit: bool = True  # whether what is handed in may be trained on the test part too (system/refit.py)
    evaluation_list: str | None = None  # of the evaluation set, inside its folder; None: it has none
    evaluation_rows: int | None = None  # recordings of that list, numbered 0 to n - 1 where `evaluation_from_0`
    evaluation_from_0: bool = True  # False: no source tells the number of the first recording
    evaluation_name: str | None = None  # the base name of number {index} in that list
    evaluation_devices: tuple[str, ...] | None = None  # values of its device_id column; None: no such column
    events: bool = False  # several sounds at once, or none, each in time; else one class for a recording
    complexity_devices: tuple[str, ...] = ()  # devices that may have a model, and limits, of their own
    ranking: str = "accuracy"  # a score, or weighted_rank, or formula: then the terms say of what
    ranking_terms: tuple[RankTerm, ...] = ()
    unverified: tuple[str, ...] = ()

    @property
    def budget_name(self) -> str:
        """The name by which a budget may be given on the command line, such as dcase2022."""
        return f"dcase{self.key.lower()}" if self.key[0].isdigit() else self.key

    @property
    def evaluation_pattern(self) -> str | None:
        """Regular expression of a base name in the evaluation list; None where it has none."""
        if self.evaluation_name is None:
            return None
        before, _, rest = self.evaluation_name.partition("{")
        return re.escape(before) + r"\d+" + re.escape(rest.partition("}")[2])

    def evaluation_names(self, count: int) -> list[str]:
        """The base names of recordings 0 to count - 1."""
        assert self.evaluation_name is not None
        return [self.evaluation_name.format(index=index) for index in range(count)]


EDITIONS: Registry[Edition] = Registry("edition")

TAU_2022: dict[str, Any] = {  # what the editions of 2022 to 2025 share
    "classes": SCENES,
    "devices": TAU_DEVICES,
    "segment_seconds": 1.0,
    "evaluation_list": FOLD1,
    "evaluation_name": NUMBERED,
}

for _edition in (
    Edition(
        key="2020B",
        title="DCASE 2020 Task 1B, Low-Complexity Acoustic Scene Classification",
        classes=("indoor", "outdoor", "transportation"),
        limits="500KiB",
        limits_count_zeros=False,
        limits_note="512,000 bytes of the parameters that are not zero",
        segment_seconds=10.0,
        evaluation_list=FOLD1,
        evaluation_rows=8_640,
        evaluation_name=NUMBERED,
    ),
    Edition(
        key="2021A",
        title="DCASE 2021 Task 1A, Low-Complexity Acoustic Scene Classification with Multiple Devices",
        classes=SCENES,
        devices=TAU_DEVICES,
        limits="128KiB",
        limits_count_zeros=False,
        limits_note="131,072 bytes of the parameters that are not zero; the front end is not counted",
        segment_seconds=10.0,
        evaluation_list=FOLD1,
        evaluation_rows=7_920,
        evaluation_name=NUMBERED,
        ranking="log_loss_macro",
        unverified=("whether the ranking log loss is averaged over classes (so here)",),
    ),
    Edition(
        key="2022",
        title="DCASE 2022 Task 1, Low-Complexity Acoustic Scene Classification",
        limits="128k_params_30M_macs",
        limits_note="parameters include zeros and are stored as INT8; MACs are of one segment of one second",
        evaluation_rows=118_800,
        ranking="log_loss_macro",
        unverified=(
            "whether the ranking log loss is averaged over classes (so here)",
            "the unit of memory_use (bytes here)",
        ),
        **TAU_2022,
    ),
    Edition(
        key="2023",
        title="DCASE 2023 Task 1, Low-Complexity Acoustic Scene Classification",
        limits="128kB_30M_macs",
        limits_note="bytes of the parameters at their stored type",
        evaluation_rows=118_800,
        ranking="weighted_rank",
        ranking_terms=(
            RankTerm("accuracy", 0.5),
            RankTerm("total_bytes", 0.25, higher_is_better=False),
            RankTerm("macs", 0.25, higher_is_better=False),
        ),
        unverified=(
            "the weights 0.5, 0.25 and 0.25 of the ranks of accuracy, memory and MACs",
            "whether a KB is 1000 or 1024 bytes (1000 here)",
            "the unit of total_model_size and memory_use (bytes here)",
        ),
        **TAU_2022,
    ),
    Edition(
        key="2024",
        title="DCASE 2024 Task 1, Data-Efficient Low-Complexity Acoustic Scene Classification",
        limits="128kB_30M_macs",
        limits_note="128,000 bytes of the parameters at their stored type, for each of the five systems",
        splits=("split_5", "split_10", "split_25", "split_50", "split_100"),
        may_refit=False,
        evaluation_rows=135_730,
        unverified=(
            "how the accuracies of the five subsets are combined (their mean here)",
            "the unit of total_model_size (bytes here)",
        ),
        **TAU_2022,
    ),
    Edition(
        key="2025",
        title="DCASE 2025 Task 1, Low-Complexity Acoustic Scene Classification with Device Information",
        limits="128kB_30M_macs",
        limits_note="128,000 bytes and 30,000,000 MACs for the model of each device, not for their sum",
        training_subset="split_25",
        may_refit=False,
        evaluation_rows=178_930,
        evaluation_from_0=False,  # the one row that is known is audio/1.wav
        evaluation_devices=EVALUATED_2025,
        complexity_devices=DEVICES_2025,
        unverified=(
            "the keys of meta.yaml, for no validator is public (those of 2024 without splits here)",
            "the number of the evaluation list's first recording (any here)",
            "the unit of total_model_size (bytes here)",
        ),
        **TAU_2022,
    ),
    Edition(
        key="biodcase2026",
        title="BioDCASE-Tiny 2026 Task 3, bird calls on a microcontroller",
        classes=BIRDS,
        limits_note="no limit; size, memory, MACs and time on the board enter the ranking",
        segment_seconds=3.0,
        sample_rate=24_000,
        ranking="formula",
        ranking_terms=(
            RankTerm("accuracy_inference", 1.0, zero=0.56, one=1.0),
            RankTerm("accuracy_tflite", 2.0, zero=0.56, one=1.0),
            RankTerm("roc_auc_inference", 0.5, zero=0.89, one=0.97),
            RankTerm("roc_auc_tflite", 0.5, zero=0.89, one=0.97),
            RankTerm("model_size_tflite_bytes", 0.5, False, zero=4_755_032, one=42_232),
            RankTerm("macs_inference", 0.3, False, zero=267_313_754, one=23_326_923, floored=True),
            RankTerm("macs_tflite", 0.5, False, zero=567_313_754, one=3_911_888, floored=True),
            RankTerm("embedded_time_ms_preprocessing", 0.3, False, zero=477.46, one=241.12, floored=True),
            RankTerm("embedded_time_ms_model", 0.4, False, zero=2000.0, one=287.53, floored=True),
            RankTerm("embedded_time_ms_total", 0.5, False, zero=2000.0, one=287.53, floored=True),
            RankTerm("embedded_ram_usage_bytes", 0.5, False, zero=1_000_000, one=95_900, floored=True),
        ),
        unverified=("whether a package without a TFLite model is ranked",),
    ),
    Edition(key="own", title="Own data set", devices=None, limits_note="the run's own budget"),
    Edition(
        key="own_events",
        title="Own data set, sound events",
        devices=None,
        limits_note="the run's own budget",
        events=True,
    ),
):
    EDITIONS.add(_edition.key)(_edition)
