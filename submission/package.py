"""From a quantized run to a validated package: gather, refuse what is not legal, write, reopen, move into place."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from submission.archive import write_zip
from submission.formats import DRAFT_MARK, PackageFormat, find
from submission.meta import meta_content
from submission.people import PLACEHOLDER, load_people, make_label
from submission.predict import Predict, predict_recordings
from submission.report import complexity_report, markdown
from submission.run_parts import RunParts, check_fits, class_map, converted, load_run, unknown_devices, with_classes
from submission.validate import validate
from system.editions import Edition
from system.errors import ConfigError, DataError, FormatError, RunError
from system.evaluation import floored

DRAFT_TEXT = b"A draft made by TinyScene: people or rows are placeholders. Not to be handed in.\n"
SHOWN_FAULTS = 5


@dataclass(frozen=True)
class Request:
    """What to pack; the options of submission/pack.py."""

    edition: str
    runs: Mapping[str, Path]  # part of the edition ("" where it has one) -> run folder
    backend: str = "brevitas"
    people: Path | None = None
    label: str | None = None
    eval_root: Path | None = None
    label_map: Path | None = None
    draft: bool = False
    out: Path | None = None


@dataclass(frozen=True)
class Packed:
    """What was written."""

    zip_path: Path
    rows: int
    draft: bool
    warnings: tuple[str, ...]


def pack(request: Request, predict: Predict = predict_recordings) -> Packed:
    """Write LABEL.zip, complexity.json and complexity.md. `predict` classifies the evaluation recordings.

    Raises ConfigError (options, people, label, label map), RunError (parts of the run), BudgetError (limits),
    DataError (evaluation set), FormatError (the written package is not valid). Each leaves nothing behind.
    """
    rules, layout = _rules(request)
    people = load_people(request.people) if request.people else PLACEHOLDER
    label = make_label(layout, people, request.label)
    run = load_run(request.runs[""], request.backend)
    check_fits(rules, run)
    run_classes = run.predictions.classes
    mapping = class_map(run_classes, rules, request.label_map)
    classes = rules.classes or run_classes
    mapped = with_classes(run, mapping, classes)
    out = request.out or run.folder / "submission"
    _keep_finished(out / f"{label}.zip", request.draft)
    devices = rules.devices or tuple(mapped.scores["device_wise"])
    meta = meta_content(layout, label, people, mapped, classes, devices, request.draft)
    if request.eval_root is not None:
        names, paths = _evaluation_list(request.eval_root, rules)
        keys: list[tuple[str, ...]] = [(name,) for name in names]
        probabilities = converted(predict(paths, run), run_classes, mapping, classes)
    else:
        keys = _test_keys(layout, rules, mapped)
        probabilities = np.asarray(mapped.predictions.probabilities)
    folder = layout.folder.format(label=label)
    members = {
        f"{folder}/{layout.outputs[''].format(label=label)}": output_csv(layout, classes, keys, probabilities),
        f"{folder}/{layout.meta_name.format(label=label)}": _yaml(meta),
    }
    if request.draft:
        members[DRAFT_MARK] = DRAFT_TEXT
    report = complexity_report(rules, run)
    with _together(out) as part:
        zip_part = part / f"{label}.zip"
        write_zip(zip_part, members)
        faults = validate(zip_part, rules.key, request.eval_root, request.draft)
        if faults:
            shown = "; ".join(str(fault) for fault in faults[:SHOWN_FAULTS])
            raise FormatError(f"the package would have {len(faults)} faults: {shown}")
        (part / "complexity.json").write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        (part / "complexity.md").write_text(markdown(report), encoding="utf-8")
    warnings = list(report["warnings"])
    if absent := unknown_devices(devices, mapped):
        warnings.append(f"not tested on the devices {', '.join(absent)}: left empty in meta.yaml")
    return Packed(out / f"{label}.zip", len(keys), request.draft, tuple(warnings))


def _rules(request: Request) -> tuple[Edition, PackageFormat]:
    """The edition and its format. Raises ConfigError for options that do not fit it, all together."""
    rules, layout = find(request.edition)
    faults = []
    wanted, given = list(layout.outputs), list(request.runs)
    if sorted(given) != sorted(wanted):
        form = " ".join(f"--run {part}=R" if part else "--run R" for part in wanted)
        found = " ".join(f"--run {part}={run}" if part else f"--run {run}" for part, run in request.runs.items())
        faults.append(f"takes {form}, found {found}")
    if rules.classes is None and request.eval_root is not None:
        faults.append("takes its rows from the run's test fold; leave --eval-root out")
    if not request.draft:
        if request.people is None:
            faults.append("needs --people FILE.yaml (authors, affiliation), or --draft")
        if rules.classes is not None and request.eval_root is None:
            faults.append("needs --eval-root DIR, the folder of the evaluation set, or --draft")
    if faults:
        raise ConfigError(f"edition {rules.key} " + "; ".join(faults))
    return rules, layout


def _keep_finished(path: Path, draft: bool) -> None:
    """A draft does not replace a package that is ready to be handed in. Raises RunError."""
    if draft and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if DRAFT_MARK not in archive.namelist():
                raise RunError(f"{path} is a finished package; a draft needs another --label or --out")


def _evaluation_list(root: Path, rules: Edition) -> tuple[list[str], list[Path]]:
    """Base names and paths of an evaluation set, in the order of its list. Raises DataError."""
    from system.data.tau import evaluation_list

    rows = evaluation_list(root)
    where = root / "evaluation_setup" / "fold1_test.csv"
    seen: dict[str, str] = {}
    for row in rows:
        name = row.filename.rsplit("/", 1)[-1]
        if rules.evaluation_name and not re.fullmatch(rules.evaluation_name, name):
            raise DataError(f"{where}: expected names such as audio/0.wav (an evaluation set), found {row.filename}")
        if name in seen:
            raise DataError(f"{where}: {row.filename} and {seen[name]} would be one row: the package drops folders")
        seen[name] = row.filename
    return list(seen), [row.path for row in rows]


def _test_keys(layout: PackageFormat, rules: Edition, run: RunParts) -> list[tuple[str, ...]]:
    """The key columns of the run's own test predictions; numbered files where the edition numbers its files."""
    predictions = run.predictions
    if rules.evaluation_name is not None:
        return [(f"{index}.wav",) for index in range(len(predictions))]
    columns = {
        "filename": predictions.filename,
        "segment": [str(number) for number in predictions.segment.tolist()],
        "device": predictions.device,
    }
    return list(zip(*(columns[name] for name in layout.key_columns), strict=True))


def output_csv(
    layout: PackageFormat, classes: Sequence[str], keys: Sequence[tuple[str, ...]], probabilities: np.ndarray
) -> bytes:
    """The table of predictions. No probability is below `PROBABILITY_FLOOR`; the label is the most probable class."""
    values = floored(probabilities)
    labels = values.argmax(axis=1).tolist()
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=layout.delimiter, lineterminator="\n")
    writer.writerow((*layout.key_columns, layout.label_column, *classes))
    writer.writerows(
        (*key, classes[label], *row) for key, label, row in zip(keys, labels, values.tolist(), strict=True)
    )
    return buffer.getvalue().encode("utf-8")


class _Dumper(yaml.SafeDumper):
    """Writes repeated values out: an alias would hide them from a reader."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _yaml(value: object) -> bytes:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode("utf-8")


@contextmanager
def _together(out: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success move its files into `out`, the zip last, else leave no trace."""
    near = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not near.is_dir():
        raise ConfigError(f"{out}: expected a folder, or a place to make one, but {near} is a file")
    part = Path(tempfile.mkdtemp(prefix=".package.", suffix=".part", dir=near))
    try:
        yield part
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(part.iterdir(), key=lambda path: path.suffix == ".zip"):
            os.replace(file, out / file.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
