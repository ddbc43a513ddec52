"""meta.yaml: every value that can be measured is measured, under the keys that an edition's format asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from submission.packing.describe import describe
from submission.packing.people import PLACEHOLDER, People
from submission.packing.systems import System
from submission.schema import DRAFT_MARK, Each, Leaf, Many, PackageFormat, Schema, value_at
from system.editions import Edition

NOT_MEASURED = {"accuracy": None, "logloss": None}
JOULES_PER_KWH = 3.6e6


def meta_content(
    rules: Edition, layout: PackageFormat, system: System, people: People, extra: Mapping[str, Any], draft: bool
) -> tuple[dict[str, Any], list[str]]:
    """The content of a system's meta.yaml, and the dotted path of every value that nothing provides.

    `extra`: measured by whoever wrote the package's code, under the keys of complexity.json.
    """
    missing: list[str] = []
    names = {"classes": system.classes, "devices": system.devices}
    filled = _fill(layout.meta, _available(rules, system, people, extra, draft), "", names, missing)
    costs = {**system.costs, **extra}
    for path, measure in layout.measured.items():
        value = costs.get(measure.source)
        _put(filled, path, value if value is None or measure.unit == 1 else round(value / measure.unit, 3))
        if value is not None and path in missing:
            missing.remove(path)
    return filled, missing


def measured_values(rules: Edition, layout: PackageFormat, system: System, extra: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted path -> number, of all that a run measures: costs, and results of the test fold. `extra`: as above."""
    content, _ = meta_content(rules, layout, system, PLACEHOLDER, extra, True)
    found: dict[str, Any] = {}
    _numbers(content.get("results"), "results", found)
    return {path: value for path, value in found.items() if value is not None} | {
        path: value for path in layout.measured if (value := value_at(content, path)) is not None
    }


def _numbers(value: Any, path: str, found: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _numbers(item, f"{path}.{key}", found)
    elif isinstance(value, int | float):
        found[path] = value


def _available(rules: Edition, system: System, people: People, extra: Mapping[str, Any], draft: bool) -> dict[str, Any]:
    """What some edition asks for, under its own key; each edition takes what its format names."""
    spec = system.first.run.spec
    plain = people.plain()
    name = people.name if not draft or people.name.startswith(DRAFT_MARK) else f"{DRAFT_MARK} {people.name}"
    told = _event_results if rules.events else _results
    results = {split: told(scores, system.devices) for split, scores in system.scores.items()}
    return {
        "submission": {
            "label": system.label,
            "name": name,
            "abbreviation": people.abbreviation,
            "authors": plain["authors"],
            "coding_agents_ai_used": people.coding_agents_ai_used,
        },
        "task": {
            "dataset": spec.data.dataset,
            "classes": list(system.classes),
            "devices": list(system.devices),
            "budget": spec.budget,
            "segment_seconds": spec.data.segment_seconds,
            **{key: system.first.run.scores.get(key) for key in ("median_window", "thresholds")},
        },
        "system": {
            "description": describe(system, people),
            "complexity": {},
            "energy_consumption": _energy(system, plain["energy_consumption"]),
            "external_datasets": plain["external_datasets"],
            "source_code": people.source_code,
        },
        "results": {
            "development_dataset": results if rules.splits else results[""],
            **{key: extra.get(key) for key in ("accuracy_inference", "roc_auc_inference")},
            **{f"embedded_{key}": value for key, value in plain["embedded"].items()},
        },
    }


def _energy(system: System, told: Mapping[str, Any]) -> dict[str, Any]:
    """kWh. Inference over the test fold is measured where the machine has a counter, unless a person tells it."""
    run = system.first.run
    joules = run.energy.get("joules")
    measured = None if joules is None else joules * len(run.predictions) / JOULES_PER_KWH
    return {**told, "inference": measured if told["inference"] is None else told["inference"]}


def _results(scores: Mapping[str, Any], devices: Sequence[str]) -> dict[str, Any]:
    return {
        "overall": _result(scores),
        "class_wise": {key: _result(row) for key, row in scores["class_wise"].items()},
        "device_wise": dict.fromkeys(devices, NOT_MEASURED)
        | {key: _result(row) for key, row in scores["device_wise"].items()},
    }


def _event_results(scores: Mapping[str, Any], devices: Sequence[str]) -> dict[str, Any]:
    """Of sound events. Shares from 0 to 1, error rates, and log loss in nats; None for what is not defined."""
    timed = {
        kind: {key: _rounded(scores.get(kind, {}).get(key)) for key in ("f1", "error_rate")}
        for kind in ("segment_based", "event_based")
    }
    return {
        "overall": {key: _rounded(scores[key]) for key in ("mAP", "AUC")}
        | {"logloss": _rounded(scores["log_loss"])}
        | timed,
        "class_wise": {
            name: {key: _rounded(row.get(key)) for key in ("average_precision", "auc", "segment_f1", "event_f1")}
            for name, row in scores["class_wise"].items()
        },
        "device_wise": {name: {"logloss": _rounded(scores["device_wise"][name]["log_loss"])} for name in devices},
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _result(scores: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy in percent and log loss in nats."""
    return {"accuracy": round(100 * scores["accuracy"], 4), "logloss": round(scores["log_loss"], 6)}


def _fill(schema: Schema, value: Any, path: str, names: Mapping[str, Sequence[str]], missing: list[str]) -> Any:
    """The part of `value` that `schema` names, in its order; what is absent is added to `missing`."""
    if isinstance(schema, Leaf) or (value is None and not isinstance(schema, dict)):
        if value is None and not getattr(schema, "null", False):
            missing.append(path)
        return value
    if isinstance(schema, Many):
        return [_fill(schema.item, item, f"{path}[{i}]", names, missing) for i, item in enumerate(value)]
    inner = dict.fromkeys(names[schema.of], schema.item) if isinstance(schema, Each) else schema
    prefix = f"{path}." if path else ""
    return {key: _fill(item, (value or {}).get(key), prefix + key, names, missing) for key, item in inner.items()}


def _put(document: dict[str, Any], path: str, value: Any) -> None:
    *sections, last = path.split(".")
    for section in sections:
        document = document[section]
    document[last] = value


class _Dumper(yaml.SafeDumper):
    """Writes repeated values out: an alias would hide them from a reader."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def as_yaml(value: object) -> bytes:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text.encode("utf-8")
