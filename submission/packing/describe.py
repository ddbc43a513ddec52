"""`system.description` of meta.yaml, in the words of every edition: told by the run's own settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from submission.event_rows import EventRows
from submission.packing.people import People
from submission.packing.systems import Part, System
from submission.run_parts import RunParts
from system.augment.table import names_of
from system.runs import differences
from system.scoring.predictions import PROBABILITY_FLOOR
from system.spec import ExperimentSpec

EVERYTHING = " on the whole development set (results are those of the same training without the test part)"


OF_NETWORK = ("features", "model")  # sections of an experiment
OF_TRAINING = ("train", "init", "distill", "augment", "quant", "seed")
GENERAL = ""  # the part of a system that hears all devices without a model of their own


def describe(system: System, people: People) -> dict[str, Any]:
    """Every key that some edition asks for. Where runs differ, the first speaks and the others are told apart."""
    run = system.first.run
    spec = run.spec
    features, model = spec.features, spec.model
    external = people.external_datasets
    method = f"CNN: {model.block} blocks, {model.activation} activations, {model.norm} norm, {model.pooling} pooling"
    compression = f"re-parameterization, BatchNorm folding, INT8 {_quantization(system.parts)}"
    events = isinstance(run.predictions, EventRows)
    decision = _events(run) if events else _softmax(system.parts)
    return {
        "input_sampling_rate": f"{features.sample_rate / 1000:g}kHz",
        "acoustic_features": f"log-mel energies, {features.n_mels} bands, "
        f"{1000 * features.win_length / features.sample_rate:.4g} ms windows, "
        f"{1000 * features.hop_length / features.sample_rate:.4g} ms hop",
        "embeddings": None,
        "data_augmentation": _augmentations(run),
        "machine_learning_method": method,
        "model_architecture": method,
        "machine_learning_framework": "pytorch",
        "training_objective": _objective(spec, events),
        "ensemble_method_subsystem_count": None,
        "decision_making": decision
        + ("; mean of the log probabilities of a recording's segments" if run.complexity["inferences"] > 1 else ""),
        "external_data_usage": ", ".join(row.name for row in external) if external else None,
        "complexity_management": compression,
        "model_compression": compression,
        "pipeline": _pipeline(run, decision),
        "framework": ", ".join(_frameworks(run)),
        "split_adaptations": _adaptations(system.parts, OF_TRAINING),
        "system_adaptations": _device_models(system.parts) or _adaptations(system.parts, OF_NETWORK),
    }


def _pipeline(run: RunParts, decision: str) -> str:
    steps = ["log-mel"]
    if run.spec.init.run:
        steps.append("pretraining")
    steps += [f"training{EVERYTHING if run.spec.data.refit else ''}", "re-parameterization", "calibration"]
    if run.tuned:
        steps.append("quantization-aware training")
    return ", ".join([*steps, "integer inference", decision])


def _objective(spec: ExperimentSpec, events: bool = False) -> str:
    loss = "binary cross entropy" if events else "cross entropy"
    if not (count := len(spec.distill.teachers)):
        return loss
    return f"{loss}, and knowledge distillation from {count} teacher{'s' if count > 1 else ''}"


def _augmentations(run: RunParts) -> str | None:
    used = names_of(run.spec.augment)
    if run.spec.data.device_irs:
        used.append("simulated devices")
    return ", ".join(used) or None


def _events(run: RunParts) -> str:
    window = run.scores.get("median_window", 1)
    over = f"the median probability of {window} segments" if window > 1 else "the probability of a segment"
    return f"sigmoid, {over} against a threshold of each class (chosen on validation data)"


def _softmax(parts: Mapping[str, Part]) -> str:
    """How logits become probabilities; the temperature of each part where they differ."""
    told = _of_each({name: f"{part.run.temperature:g}" for name, part in parts.items()})
    used = [part.run for part in parts.values() if part.run.temperature != 1]
    fitted = any(run.temperature == run.scores["temperature"].get("fitted") for run in used)
    return (
        f"softmax at temperature {told}{' (fitted on validation data)' if fitted else ''}, "
        f"probabilities of at least {PROBABILITY_FLOOR:g}"
    )


def _quantization(parts: Mapping[str, Part]) -> str:
    ways = {True: "quantization-aware training", False: "post-training quantization"}
    return _of_each({name: ways[part.run.tuned] for name, part in parts.items()})


def _of_each(values: Mapping[str, str]) -> str:
    """A value that all parts share; or each value, with the parts that it is of."""
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    names = {value: [name or "all others" for name in values if values[name] == value] for value in values.values()}
    return ", ".join(f"{value} ({', '.join(of)})" for value, of in names.items())


def _frameworks(run: RunParts) -> Iterable[str]:
    versions = (run.spec.provenance or {}).get("packages")
    known = versions if isinstance(versions, dict) else {}
    names = dict.fromkeys(("torch", run.backend, "onnxruntime"))
    return (f"{name} {known[name]}" if known.get(name) else name for name in names)


def _adaptations(parts: Mapping[str, Part], sections: Iterable[str]) -> str | None:
    """In which settings the runs of a system differ from the first; None where they do not."""
    first, *others = ({key: part.run.spec.plain()[key] for key in sections} for part in parts.values())
    changed = dict.fromkeys(line.split(":")[0] for other in others for line in differences(first, other))
    return "other values of " + ", ".join(changed) if changed else None


def _device_models(parts: Mapping[str, Part]) -> str | None:
    """Which devices have a model of their own, and in which settings it differs; None in a system without."""
    devices = [name for name in parts if name != GENERAL]
    if GENERAL not in parts or not devices:
        return None
    changed = _adaptations(parts, (*OF_NETWORK, *OF_TRAINING))
    return f"a model of its own for each device of {', '.join(devices)}" + (f", with {changed}" if changed else "")
