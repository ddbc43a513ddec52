"""From quantized runs to a validated package: gather, refuse what is not legal, write, reopen, move into place."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from submission.adapt import unlisted
from submission.archive import holds, write_zip
from submission.evaluation_set import Listed, length_note, listed
from submission.formats import find
from submission.packing.code import code_of
from submission.packing.meta import as_yaml, meta_content
from submission.packing.people import PLACEHOLDER, People, load_people
from submission.packing.predict import Predict, predict_recordings
from submission.packing.rows import tables
from submission.packing.systems import System, SystemRequest, gather, parts_faults
from submission.packing.technical_report import skeleton
from submission.packing.together import together
from submission.report.content import complexity_report
from submission.report.files import write_reports
from submission.schema import DRAFT_MARK, PackageFormat
from submission.validate import package_faults
from system.editions import Edition
from system.errors import ConfigError, FormatError, RunError, TinySceneError

DRAFT_TEXT = b"A draft made by TinyScene: people or rows are placeholders. Not to be handed in.\n"
PDF = b"%PDF-"
SHOWN_FAULTS = 5


@dataclass(frozen=True)
class Request:
    """What to pack; the options of submission/pack.py."""

    edition: str
    systems: Sequence[SystemRequest]
    people: Path | None = None
    eval_root: Path | None = None
    report: Path | None = None
    draft: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Packed:
    """What was written."""

    zip_path: Path
    labels: tuple[str, ...]
    rows: int  # of each table
    draft: bool
    warnings: tuple[str, ...]


def pack(request: Request, predict: Predict = predict_recordings) -> Packed:
    """Write the zip, complexity.json, .md and .html, and technical_report.md. `predict` classifies recordings.

    Raises ConfigError (options, people, labels, label map; all that is missing together), RunError (parts of a run),
    BudgetError (limits), DataError (evaluation set), FormatError (the written package is not valid). Each leaves
    nothing behind.
    """
    rules, layout = find(request.edition)
    people, systems, contents = _gathered(request, rules, layout)
    out = request.out or systems[0].first.run.folder / "submission"
    name = layout.archive if len(systems) == 1 else layout.archive.replace("{label}", "{team}")
    target = out / name.format(label=systems[0].label, team=systems[0].team)
    _keep_finished(target, request.draft)

    evaluation = listed(request.eval_root, rules)
    members = _members(request, rules, layout, systems, contents, evaluation, predict)
    reports = {
        system.label: {part: complexity_report(rules, p.run) for part, p in system.parts.items()} for system in systems
    }
    with together(out) as place:
        write_zip(place / target.name, members)
        faults = package_faults(place / target.name, rules, layout, evaluation, request.draft)
        if faults:
            shown = "; ".join(str(fault) for fault in faults[:SHOWN_FAULTS])
            raise FormatError(f"the package would have {len(faults)} faults: {shown}")
        write_reports(place, reports)
        (place / "technical_report.md").write_text(skeleton(rules, systems, people), encoding="utf-8")
    return Packed(
        target,
        tuple(system.label for system in systems),
        _rows(members, layout, systems[0]),
        request.draft,
        tuple(_warnings(request, rules, layout, systems, reports, evaluation)),
    )


def _members(
    request: Request,
    rules: Edition,
    layout: PackageFormat,
    systems: Sequence[System],
    contents: Sequence[tuple[dict[str, Any], dict[str, bytes]]],
    evaluation: Listed | None,
    predict: Predict,
) -> dict[str, bytes]:
    """Path -> content of every file of the package. `contents`: meta.yaml and code of each system."""
    members: dict[str, bytes] = {}
    for system, (meta, code) in zip(systems, contents, strict=True):
        folder = layout.folder.format(label=system.label)
        members |= code
        members[f"{folder}/{layout.meta_name.format(label=system.label)}"] = as_yaml(meta)
        if layout.outputs:
            for part, content in tables(system, rules, layout, evaluation, predict).items():
                members[f"{folder}/{layout.outputs[part].format(label=system.label)}"] = content
    if request.report is not None:
        members[layout.report.format(team=systems[0].team)] = request.report.read_bytes()
    if request.draft:
        members[DRAFT_MARK] = DRAFT_TEXT
    return members


def _gathered(
    request: Request, rules: Edition, layout: PackageFormat
) -> tuple[People, list[System], list[tuple[dict[str, Any], dict[str, bytes]]]]:
    """People, systems and each one's meta.yaml and code. All that a person must still give is told at once."""
    faults = _option_faults(request, rules)
    people, wrong = load_people(request.people) if request.people else (PLACEHOLDER, [])
    faults += wrong
    contents = []
    try:
        parts = parts_faults(rules, request.systems)
        if parts:
            raise ConfigError(f"edition {rules.key} " + "; ".join(parts))
        systems = gather(rules, layout, request.systems, people)
        for system in systems:
            code, measured = code_of(rules, layout, system)
            meta, missing = meta_content(rules, layout, system, people, measured, request.draft)
            faults += [] if request.draft else _missing(system, missing)
            contents.append((meta, code))
    except TinySceneError as error:
        if not faults:
            raise
        faults.append(str(error))
    if faults:
        raise ConfigError(f"edition {rules.key}: " + "; ".join(dict.fromkeys(faults)))
    return people, systems, contents


def _missing(system: System, paths: Sequence[str]) -> list[str]:
    """Who must still provide what."""
    scored = [path for path in paths if path.startswith("results.")]
    asked = [path for path in paths if path not in scored]
    faults = [f"--people must provide {', '.join(asked)}"] if asked else []
    if scored:
        folders = ", ".join(dict.fromkeys(str(part.run.folder) for part in system.parts.values()))
        faults.append(f"the test fold of {folders} provides no {', '.join(scored)}")
    return faults


def _option_faults(request: Request, rules: Edition) -> list[str]:
    faults = []
    if rules.evaluation_list is None and request.eval_root is not None:
        faults.append("has no evaluation list; leave --eval-root out")
    if not request.draft:
        if request.people is None:
            faults.append("needs --people FILE.yaml (authors, affiliation), or --draft")
        if rules.evaluation_list is not None and request.eval_root is None:
            faults.append("needs --eval-root DIR, the folder of the evaluation set, or --draft")
    if request.report is not None and not request.report.is_file():
        faults.append(f"--report {request.report}: expected a PDF file, found none")
    elif request.report is not None and not request.report.read_bytes().startswith(PDF):
        faults.append(f"--report {request.report}: expected a PDF file, found something else")
    return faults


def _keep_finished(path: Path, draft: bool) -> None:
    """A draft does not replace a package that is ready to be handed in. Raises RunError."""
    if draft and zipfile.is_zipfile(path) and not holds(path, DRAFT_MARK):
        raise RunError(f"{path} is a finished package; a draft needs another --label or --out")


def _rows(members: dict[str, bytes], layout: PackageFormat, system: System) -> int:
    for name in layout.outputs.values():
        table = members[f"{layout.folder.format(label=system.label)}/{name.format(label=system.label)}"]
        lines = io.TextIOWrapper(io.BytesIO(table), encoding="utf-8", newline="")
        return sum(1 for _ in csv.reader(lines, delimiter=layout.delimiter)) - 1  # a file name may hold a line end
    return 0


def _warnings(
    request: Request,
    rules: Edition,
    layout: PackageFormat,
    systems: Sequence[System],
    reports: dict[str, Any],
    evaluation: Listed | None,
) -> Iterator[str]:
    if not request.draft and (note := length_note(evaluation, rules)):
        yield note
    yield from dict.fromkeys(
        text for parts in reports.values() for report in parts.values() for text in report["warnings"]
    )
    for system in systems:
        tested = {device for scores in system.scores.values() for device in scores["device_wise"]}
        for name, part in system.parts.items():
            if note := unlisted(rules, part.run, name):
                yield note
        if absent := [name for name in system.devices if name not in tested]:
            yield f"{system.label} was not tested on the devices {', '.join(absent)}: left empty in meta.yaml"
    if request.report is None:
        place = layout.report.format(team=systems[0].team)
        yield f"no technical report yet: write it from technical_report.md, then --report FILE.pdf puts it at {place}"
