"""The technical report as a Markdown skeleton: every number is filled in, every sentence of judgement is left open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from submission.packing.describe import describe
from submission.packing.people import People
from submission.packing.systems import System
from submission.schema import value_at
from system.editions import Edition
from system.models.network import complexity

OPEN = "*(to be written:"
EVENT_ROWS = (  # what is told of sound events, and its dotted path in scores.json
    ("mean average precision", "mAP"),
    ("F1 in segments", "segment_based.f1"),
    ("error rate in segments", "segment_based.error_rate"),
    ("F1 of events", "event_based.f1"),
    ("error rate of events", "event_based.error_rate"),
    ("log loss", "log_loss"),
)


def skeleton(rules: Edition, systems: Sequence[System], people: People) -> str:
    """Title, authors, abstract, system, training, complexity, results, references."""
    return "\n".join(_lines(rules, systems, people)).rstrip() + "\n"


def _lines(rules: Edition, systems: Sequence[System], people: People) -> Iterator[str]:
    first = systems[0]
    told = describe(first, people)
    yield f"# {people.name}: technical report, {rules.title}"
    yield ""
    yield "*" + ", ".join(f"{author.firstname} {author.lastname}" for author in people.authors) + "*  "
    places = dict.fromkeys(f"{a.affiliation.institute}, {a.affiliation.location}" for a in people.authors)
    yield "; ".join(places) + f" ({people.corresponding().email})"
    yield ""
    yield "## Abstract"
    yield ""
    yield (
        f"{len(systems)} system{'s' if len(systems) > 1 else ''} for {rules.title}: {told['machine_learning_method']}, "
        f"{first.costs['params']:,} parameters, {first.costs['macs']:,} MACs and {first.costs['total_bytes']:,} bytes "
        f"({told['complexity_management']}). On the development set's test fold the best reaches "
        f"{_best(rules, systems)}. {OPEN} what is new)*"
    )
    yield ""
    yield "## 1. Introduction"
    yield ""
    yield f"{OPEN} the task, its limits, what was tried)*"
    yield ""
    yield "## 2. System"
    yield ""
    yield f"Input: {told['input_sampling_rate']}, {told['acoustic_features']}."
    yield ""
    yield from _network(first)
    yield ""
    yield "## 3. Training"
    yield ""
    run = first.first.run
    train, quant = run.spec.train, run.spec.quant
    tuning = f"{quant.epochs} epochs at {quant.learning_rate:g} " if run.tuned else ""
    yield (
        f"{train.epochs} epochs of {train.optimizer} at a batch of {train.batch_size} and a learning rate of "
        f"{train.learning_rate:g}; augmentation: {told['data_augmentation'] or 'none'}; external data: "
        f"{told['external_data_usage'] or 'none'}. Compression: {told['complexity_management']} "
        f"({tuning}by {run.backend}). Pipeline: {told['pipeline']}. Software: {told['framework']}."
    )
    yield ""
    yield f"{OPEN} why so)*"
    yield ""
    yield "## 4. Complexity"
    yield ""
    yield f"Limits of the edition: {rules.limits or 'none'}{'; ' + rules.limits_note if rules.limits_note else ''}."
    yield ""
    yield "| system | parameters | not zero | MACs | bytes | peak activations, bytes |"
    yield "|---|---:|---:|---:|---:|---:|"
    keys = ("params", "params_nonzero", "macs", "total_bytes", "peak_activation_bytes")
    for system in systems:
        yield f"| {system.label} | " + " | ".join(f"{system.costs[key]:,}" for key in keys) + " |"
    yield ""
    yield "## 5. Results on the development set"
    yield ""
    yield from _results(rules, systems)
    yield ""
    yield f"{OPEN} what the numbers say)*"
    yield ""
    yield "## 6. Conclusion"
    yield ""
    yield f"{OPEN} what was learnt)*"
    yield ""
    yield "## References"
    yield ""
    yield f"1. {rules.title}, rules and data. {OPEN} the task description and what else is cited)*"


def _network(system: System) -> Iterator[str]:
    spec = system.first.run.spec
    classes = len(system.first.run.predictions.classes)
    yield f"Network ({system.label}), deployed form; maps are channels x frequency x time:"
    yield ""
    yield "| layer | output | parameters | MACs |"
    yield "|---|---|---:|---:|"
    for layer in complexity(spec.model, spec.input_shape(), classes).layers:
        if layer.params:
            size = " x ".join(map(str, layer.output))
            yield f"| {layer.kind} | {size} | {layer.params:,} | {layer.macs_exact:,} |"


def _best(rules: Edition, systems: Sequence[System]) -> str:
    found = [scores for system in systems for scores in system.scores.values()]
    if rules.events:
        known = [scores["mAP"] for scores in found if scores["mAP"] is not None]
        return f"a mean average precision of {max(known):.3f}" if known else "no mean average precision"
    return f"a macro accuracy of {100 * max(scores['accuracy'] for scores in found):.1f} %"


def _results(rules: Edition, systems: Sequence[System]) -> Iterator[str]:
    columns = [(system.label, split, scores) for system in systems for split, scores in system.scores.items()]
    yield "| | " + " | ".join(f"{label} {split}".strip() for label, split, _ in columns) + " |"
    yield "|---|" + "---:|" * len(columns)
    if rules.events:
        for name, path in EVENT_ROWS:
            yield _row(name, [_decimals(value_at(scores, path)) for _, _, scores in columns])
        for name in systems[0].classes:
            found = [scores["class_wise"][name]["average_precision"] for _, _, scores in columns]
            yield _row(f"{name}, average precision", [_decimals(value) for value in found])
        return
    yield _row("macro accuracy, %", [_percent(scores) for _, _, scores in columns])
    yield _row("log loss", [f"{scores['log_loss']:.3f}" for _, _, scores in columns])
    for key, names in (("class_wise", systems[0].classes), ("device_wise", systems[0].devices)):
        for name in names:
            yield _row(f"{name}, %", [_percent(scores[key].get(name)) for _, _, scores in columns])


def _decimals(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(scores: Mapping[str, Any] | None) -> str:
    return "-" if scores is None else f"{100 * scores['accuracy']:.1f}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | " + " | ".join(cells) + " |"
