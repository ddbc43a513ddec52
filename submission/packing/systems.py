"""Which systems a package holds: the options of each, and its runs as the edition sees them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from submission.adapt import check_fits, class_map, counted, with_classes
from submission.packing.people import People, make_label
from submission.run_parts import COMPLEXITY_KEYS, RunParts, load_run
from submission.schema import MAX_INDEX, PackageFormat, team_of
from system.editions import Edition
from system.errors import ConfigError, RunError
from system.scoring.predictions import Predictions
from system.scoring.scenes import score


@dataclass(frozen=True)
class SystemRequest:
    """The options of one system."""

    runs: Mapping[str, Path]  # part of the edition ("" where it has one) -> run folder
    backend: str = "brevitas"
    label: str | None = None
    label_map: Path | None = None


@dataclass(frozen=True)
class Part:
    """One run of a system."""

    run: RunParts  # as it was trained, with classes of its own; costs as the edition counts them
    mapping: Mapping[str, str]  # class of the run -> class of the edition
    scored: RunParts  # as the edition sees it


@dataclass(frozen=True)
class System:
    """One entry of a package: a label, and a run for each part of the edition."""

    label: str
    classes: tuple[str, ...]
    devices: tuple[str, ...]
    parts: Mapping[str, Part]
    costs: Mapping[str, Any] = field(default_factory=dict)  # the largest over the parts
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # part of the results -> scores.json

    @property
    def team(self) -> str:
        return team_of(self.label)

    @property
    def first(self) -> Part:
        return next(iter(self.parts.values()))


def gather(rules: Edition, layout: PackageFormat, requests: Sequence[SystemRequest], people: People) -> list[System]:
    """Read every run. Raises ConfigError, RunError (parts of a run), BudgetError (limits)."""
    labels = _labels(layout, requests, people)
    return [_system(rules, request, label) for request, label in zip(requests, labels, strict=True)]


def parts_faults(rules: Edition, requests: Sequence[SystemRequest]) -> list[str]:
    """What is wrong with the `--run` options of each system."""
    needed, optional = list(rules.splits or ("",)), rules.complexity_devices
    faults = []
    for request in requests:
        given = list(request.runs)
        if set(needed) - set(given) or set(given) - {*needed, *optional}:
            found = " ".join(_option(part, run) for part, run in request.runs.items())
            more = f", and may take one for each device of {', '.join(optional)}" if optional else ""
            faults.append(f"takes {' '.join(_option(part, 'R') for part in needed)}{more}, found {found}")
    if len(requests) > MAX_INDEX:
        faults.append(f"takes at most {MAX_INDEX} systems, found {len(requests)}")
    return faults


def _option(part: str, run: object) -> str:
    return f"--run {part}={run}" if part else f"--run {run}"


def _labels(layout: PackageFormat, requests: Sequence[SystemRequest], people: People) -> list[str]:
    """The label of each system: the given one, or that of the corresponding author with the next free index."""
    given = {request.label for request in requests}
    free = (text for n in range(1, MAX_INDEX + 1) if (text := make_label(layout, people, n)) not in given)
    labels = [request.label or next(free) for request in requests]
    for label in labels:
        if not re.fullmatch(layout.label_pattern, label):
            raise ConfigError(
                f"label {label!r}: expected {layout.label_example[:-1]}N, N from 1 to {MAX_INDEX}, with letters, "
                f"digits and hyphens only and no hyphen first, such as {layout.label_example}"
            )
    if len(set(labels)) < len(labels) or len({team_of(label) for label in labels}) > 1:
        raise ConfigError(f"labels {', '.join(labels)}: expected one team and a different last number for each system")
    return labels


def _system(rules: Edition, request: SystemRequest, label: str) -> System:
    parts = {}
    for name, folder in request.runs.items():
        run = counted(rules, load_run(folder, request.backend))
        check_fits(rules, run, name)
        mapping = class_map(run.predictions.classes, rules, request.label_map)
        parts[name] = Part(run, mapping, with_classes(run, mapping, rules.classes or run.predictions.classes))
    classes = rules.classes or next(iter(parts.values())).run.predictions.classes
    scores = {split: parts[split].scored.scores for split in rules.splits} or {"": _scores(parts)}
    devices = rules.devices if rules.devices is not None else tuple(scores[""]["device_wise"])
    costs = {
        key: max(part.run.complexity[key] for part in parts.values()) for key in (*COMPLEXITY_KEYS, "bytes_nonzero")
    }
    return System(label, tuple(classes), tuple(devices), parts, costs, scores)


def _scores(parts: Mapping[str, Part]) -> Mapping[str, Any]:
    """The scores of one run; or of the runs for single devices on these, and of the general one on all others."""
    general = parts[""].scored
    if len(parts) == 1:
        return general.scores
    predictions = combined({name: part.scored.scenes for name, part in parts.items()})
    return score(predictions, str(general.scores.get("split", "test")), {}, general.spec.seed)


def combined(predictions: Mapping[str, Predictions]) -> Predictions:
    """The general predictions (part ""), with the rows of each device that has a part of its own replaced.

    Raises RunError if a device's run was not tested on a row of its device.
    """
    general = predictions[""]
    values = np.array(general.probabilities, dtype=np.float64)
    for device, own in predictions.items():
        if not device:
            continue
        row_of = {key: row for row, key in enumerate(zip(own.filename, own.segment.tolist(), strict=True))
                  if own.device[row] == device}  # fmt: skip
        for row, key in enumerate(zip(general.filename, general.segment.tolist(), strict=True)):
            if general.device[row] == device:
                if key not in row_of:
                    raise RunError(f"the run for device {device} was not tested on {key[0]}, segment {key[1]}")
                values[row] = own.probabilities[row_of[key]]
    return replace(general, probabilities=values)
