"""meta.yaml: every value that can be measured is measured, in the keys that an edition's format asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from submission.formats import DRAFT_MARK, Each, Leaf, Many, PackageFormat, Schema
from submission.people import People
from submission.run_parts import RunParts
from system.errors import RunError

NOT_MEASURED = {"accuracy": None, "logloss": None}


def meta_content(
    layout: PackageFormat,
    label: str,
    people: People,
    run: RunParts,
    classes: Sequence[str],
    devices: Sequence[str],
    draft: bool,
) -> dict[str, Any]:
    """The content of meta.yaml, with the keys of the edition in its order.

    Raises RunError naming every value the edition asks for and nothing provides.
    """
    spec, scores = run.spec, run.scores
    name = people.name if not draft or people.name.startswith(DRAFT_MARK) else f"{DRAFT_MARK} {people.name}"
    plain = people.plain()
    available = {
        "submission": {
            "label": label,
            "name": name,
            "abbreviation": people.abbreviation,
            "authors": plain["authors"],
        },
        "task": {
            "dataset": spec.data.dataset,
            "classes": list(classes),
            "devices": list(devices),
            "budget": spec.budget,
        },
        "system": {
            "description": describe(run, people),
            "complexity": {key: run.complexity.get(source) for key, source in layout.complexity.items()},
            "external_datasets": plain["external_datasets"],
            "source_code": people.source_code,
        },
        "results": {
            "development_dataset": {
                "overall": _result(scores),
                "class_wise": {key: _result(row) for key, row in scores["class_wise"].items()},
                "device_wise": dict.fromkeys(devices, NOT_MEASURED)
                | {key: _result(row) for key, row in scores["device_wise"].items()},
            }
        },
    }
    missing: list[str] = []
    filled = _fill(layout.meta, available, "", {"classes": classes, "devices": devices}, missing)
    if missing:
        raise RunError("the package needs values that this run does not provide: " + ", ".join(missing))
    return filled


def _result(scores: Mapping[str, Any]) -> dict[str, float]:
    """Accuracy in percent and log loss in nats."""
    return {"accuracy": round(100 * scores["accuracy"], 4), "logloss": round(scores["log_loss"], 6)}


def _fill(schema: Schema, value: Any, path: str, names: Mapping[str, Sequence[str]], missing: list[str]) -> Any:
    """The part of `value` that `schema` names, in its order; what is absent is added to `missing`."""
    if isinstance(schema, Leaf) or value is None:
        null = getattr(schema, "null", False)
        if value is None and not null:
            missing.append(path)
        return value
    if isinstance(schema, Many):
        return [_fill(schema.item, item, f"{path}[{i}]", names, missing) for i, item in enumerate(value)]
    inner = dict.fromkeys(names[schema.of], schema.item) if isinstance(schema, Each) else schema
    prefix = f"{path}." if path else ""
    return {key: _fill(item, value.get(key), prefix + key, names, missing) for key, item in inner.items()}


def describe(run: RunParts, people: People) -> dict[str, Any]:
    """`system.description`, told by the run alone."""
    spec = run.spec
    features, augment, model = spec.features, spec.augment, spec.model
    augmentations = []
    if augment.time_masks * augment.time_mask_frames or augment.frequency_masks * augment.frequency_mask_bands:
        augmentations.append("SpecAugment")
    if spec.data.device_irs:
        augmentations.append("device impulse responses")
    versions = (spec.provenance or {}).get("packages")
    used = versions if isinstance(versions, dict) else {}
    frameworks = [f"{name} {used[name]}" if used.get(name) else name for name in ("torch", run.backend, "onnxruntime")]
    external = people.external_datasets
    return {
        "input_sampling_rate": f"{features.sample_rate / 1000:g}kHz",
        "acoustic_features": f"log-mel energies, {features.n_mels} bands, "
        f"{1000 * features.win_length / features.sample_rate:.4g} ms windows, "
        f"{1000 * features.hop_length / features.sample_rate:.4g} ms hop",
        "embeddings": None,
        "data_augmentation": ", ".join(augmentations) or None,
        "machine_learning_method": f"CNN: {model.block} blocks, {model.activation} activations, {model.norm}, "
        f"{model.pooling} pooling",
        "ensemble_method_subsystem_count": None,
        "decision_making": None,
        "external_data_usage": ", ".join(row.name for row in external) if external else None,
        "complexity_management": "re-parameterization, BatchNorm folding, INT8 "
        + ("quantization-aware training" if run.tuned else "post-training quantization"),
        "pipeline": "log-mel, training, re-parameterization, "
        + ("calibration, quantization-aware training, " if run.tuned else "calibration, ")
        + "integer inference",
        "framework": ", ".join(dict.fromkeys(frameworks)),
    }
