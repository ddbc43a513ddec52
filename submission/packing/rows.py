"""The rows of a package's tables: which recordings, in which order, with which probabilities."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from submission.adapt import converted
from submission.evaluation_set import Listed
from submission.event_rows import EventRows
from submission.packing.predict import Predict
from submission.packing.systems import Part, System, combined
from submission.schema import EVENT_LIST, PackageFormat
from system.editions import Edition
from system.scoring.predictions import Predictions, floored

Keys = list[tuple[str, ...]]


def tables(
    system: System, rules: Edition, layout: PackageFormat, evaluation: Listed | None, predict: Predict
) -> dict[str, bytes]:
    """Part of the edition -> table: of the evaluation list, or else of the run's own test recordings."""
    answers = system.first.scored.predictions
    if isinstance(answers, EventRows):
        return event_tables(layout, answers)
    if evaluation is None:
        own = {name: part.scored.scenes for name, part in system.parts.items()}
        own = own if rules.splits else {"": combined(own)}
        rows = {name: (_test_keys(layout, rules, table), table.probabilities) for name, table in own.items()}
    else:
        keys: Keys = [(name,) for name in (evaluation.filenames if layout.listed_names else evaluation.names)]
        values = _by_split(system, evaluation, predict) if rules.splits else _by_device(system, evaluation, predict)
        rows = {name: (keys, table) for name, table in values.items()}
    return {name: output_csv(layout, system.classes, *rows[name]) for name in layout.outputs}


def event_tables(layout: PackageFormat, answers: EventRows) -> dict[str, bytes]:
    """What was decided in each segment, with probabilities that do not sum to 1; and the sounds that follow from it."""
    keys = zip(answers.filename, answers.segment.tolist(), answers.device, answers.decided, strict=True)
    rows = ((*key, *values) for key, values in zip(keys, answers.probabilities.tolist(), strict=True))
    columns = (*layout.key_columns, layout.label_column, *answers.classes)
    return {"": _as_table(layout, columns, rows), EVENT_LIST: _as_table(layout, layout.event_columns, answers.events)}


def _by_split(system: System, evaluation: Listed, predict: Predict) -> dict[str, np.ndarray]:
    """Each run hears the whole list."""
    return {name: _predicted(system, part, evaluation.paths, predict) for name, part in system.parts.items()}


def _by_device(system: System, evaluation: Listed, predict: Predict) -> dict[str, np.ndarray]:
    """The run for a device hears its recordings, the general one all others."""
    heard = np.array(evaluation.devices or [""] * len(evaluation.paths))
    others = ~np.isin(heard, [name for name in system.parts if name])
    values = np.zeros((len(heard), len(system.classes)))
    for name, part in system.parts.items():
        rows = np.flatnonzero(heard == name if name else others)
        if len(rows):
            values[rows] = _predicted(system, part, [evaluation.paths[row] for row in rows.tolist()], predict)
    return {"": values}


def _predicted(system: System, part: Part, paths: Sequence[Path], predict: Predict) -> np.ndarray:
    return converted(predict(paths, part.run), part.run.predictions.classes, part.mapping, system.classes)


def _test_keys(layout: PackageFormat, rules: Edition, predictions: Predictions) -> Keys:
    """The key columns of the run's own test predictions; numbered files where the edition numbers its files."""
    if rules.evaluation_name is not None:
        return [(name,) for name in rules.evaluation_names(len(predictions))]
    columns = {
        "filename": predictions.filename,
        "segment": [str(number) for number in predictions.segment.tolist()],
        "device": predictions.device,
    }
    return list(zip(*(columns[name] for name in layout.key_columns), strict=True))


def output_csv(
    layout: PackageFormat, classes: Sequence[str], keys: Sequence[tuple[str, ...]], probabilities: np.ndarray
) -> bytes:
    """A table of predictions. No probability is below `PROBABILITY_FLOOR`; the label is the most probable class."""
    values = floored(probabilities)
    labels = values.argmax(axis=1).tolist()
    rows = ((*key, classes[label], *row) for key, label, row in zip(keys, labels, values.tolist(), strict=True))
    return _as_table(layout, (*layout.key_columns, layout.label_column, *classes), rows)


def _as_table(layout: PackageFormat, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=layout.delimiter, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return buffer.getvalue().encode("utf-8")
