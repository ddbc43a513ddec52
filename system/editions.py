"""The editions of the challenges as data: classes, lists, limits, ranking. One row each.

Limits and labels of a challenge stand here and nowhere else; the files of a package stand in
submission/formats.py. Sources: the rules pages and validators of DCASE Task 1, 2020 to 2025. What no primary
source confirms is named in `unverified` and printed as such.
"""

from __future__ import annotations

from dataclasses import dataclass

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
TAU_DEVICES = ("a", "b", "c", "s1", "s2", "s3", "s4", "s5", "s6")
ANY_NUMBER = r"\d+\.wav"  # base names of every TAU evaluation list: 0.wav, 1.wav, ...


@dataclass(frozen=True)
class Edition:
    """The rules of one edition. None means: not fixed by the edition, or not known for certain."""

    key: str
    title: str
    classes: tuple[str, ...] | None  # in the order of the columns; None: the run's own
    devices: tuple[str, ...] | None  # of the development set's test part; None: the run's own
    limits: str | None  # a budget, see system/budget.py; None: no limit
    segment_seconds: float | None
    development_rows: int | None  # recordings of the whole development set
    test_rows: int | None  # recordings of its test part
    evaluation_rows: int | None  # recordings of the evaluation list, numbered 0 to n - 1
    evaluation_name: str | None  # regular expression of a base name in the evaluation list
    ranking: str  # the score that orders the systems
    ranking_higher_is_better: bool
    limits_note: str = ""
    unverified: tuple[str, ...] = ()

    @property
    def budget_name(self) -> str:
        """The name by which a budget may be given on the command line, such as dcase2022."""
        return f"dcase{self.key.lower()}"


EDITIONS: Registry[Edition] = Registry("edition")

_ROWS = (
    Edition(
        key="2020B",
        title="DCASE 2020 Task 1B, Low-Complexity Acoustic Scene Classification",
        classes=("indoor", "outdoor", "transportation"),
        devices=None,
        limits="500KiB",
        segment_seconds=10.0,
        development_rows=None,
        test_rows=None,
        evaluation_rows=8_640,
        evaluation_name=ANY_NUMBER,
        ranking="accuracy",
        ranking_higher_is_better=True,
        limits_note="the rule counts non-zero parameters only; TinyScene counts all",
    ),
    Edition(
        key="2021A",
        title="DCASE 2021 Task 1A, Low-Complexity Acoustic Scene Classification with Multiple Devices",
        classes=SCENES,
        devices=TAU_DEVICES,
        limits="128KiB",
        segment_seconds=10.0,
        development_rows=23_035,
        test_rows=2_968,
        evaluation_rows=7_920,
        evaluation_name=ANY_NUMBER,
        ranking="log_loss",
        ranking_higher_is_better=False,
        limits_note="the rule counts non-zero parameters only; TinyScene counts all",
        unverified=("whether the ranking log loss is averaged over classes",),
    ),
    Edition(
        key="2022",
        title="DCASE 2022 Task 1, Low-Complexity Acoustic Scene Classification",
        classes=SCENES,
        devices=TAU_DEVICES,
        limits="128k_params_30M_macs",
        segment_seconds=1.0,
        development_rows=230_350,
        test_rows=29_680,
        evaluation_rows=118_800,
        evaluation_name=ANY_NUMBER,
        ranking="log_loss",
        ranking_higher_is_better=False,
        limits_note="parameters include zeros and are stored as INT8; MACs are of one segment of one second",
        unverified=("whether the ranking log loss is averaged over classes", "the unit of memory_use (bytes here)"),
    ),
    Edition(
        key="2023",
        title="DCASE 2023 Task 1, Low-Complexity Acoustic Scene Classification",
        classes=SCENES,
        devices=TAU_DEVICES,
        limits="128kB_30M_macs",
        segment_seconds=1.0,
        development_rows=230_350,
        test_rows=29_680,
        evaluation_rows=118_800,
        evaluation_name=ANY_NUMBER,
        ranking="weighted_rank",
        ranking_higher_is_better=False,
        unverified=("the weights of the ranks of accuracy, memory and MACs", "whether a KB is 1000 or 1024 bytes"),
    ),
    Edition(
        key="2024",
        title="DCASE 2024 Task 1, Data-Efficient Low-Complexity Acoustic Scene Classification",
        classes=SCENES,
        devices=TAU_DEVICES,
        limits="128kB_30M_macs",
        segment_seconds=1.0,
        development_rows=230_350,
        test_rows=29_680,
        evaluation_rows=135_730,
        evaluation_name=ANY_NUMBER,
        ranking="accuracy",
        ranking_higher_is_better=True,
        limits_note="one system for each of five training subsets",
        unverified=("how the accuracies of the five subsets are combined",),
    ),
    Edition(
        key="2025",
        title="DCASE 2025 Task 1, Low-Complexity Acoustic Scene Classification with Device Information",
        classes=SCENES,
        devices=TAU_DEVICES,
        limits="128kB_30M_macs",
        segment_seconds=1.0,
        development_rows=230_350,
        test_rows=29_680,
        evaluation_rows=178_930,
        evaluation_name=ANY_NUMBER,
        ranking="accuracy",
        ranking_higher_is_better=True,
        limits_note="for each device's model, not their sum",
    ),
    Edition(
        key="own",
        title="Own data set",
        classes=None,
        devices=None,
        limits=None,
        segment_seconds=None,
        development_rows=None,
        test_rows=None,
        evaluation_rows=None,
        evaluation_name=None,
        ranking="accuracy",
        ranking_higher_is_better=True,
        limits_note="the run's own budget",
    ),
)
for _row in _ROWS:
    EDITIONS.add(_row.key)(_row)

BUDGET_NAMES: dict[str, str] = {row.budget_name: row.limits for row in _ROWS if row.limits is not None}
"""Budget name of an edition, such as dcase2022 -> its limits in the grammar of system/budget.py."""
