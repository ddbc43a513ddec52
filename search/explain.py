"""A network in words: how the winner of a search differs from the network that KT submitted (paper 002, Figure 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from search.fit_width import fit_width
from search.known_designs import known_designs
from search.space import DEFAULT, spec_of
from system.budget import Budget
from system.checkpoint import load_checkpoint
from system.complexity import Complexity
from system.files import read_json
from system.models.blocks import BLOCKS
from system.models.catalog import model_spec
from system.models.network import BYTES, complexity
from system.models.receptive_field import receptive_field
from system.spec import ExperimentSpec, ModelSpec

REFERENCE = "kt_final"
STEMS = {"conv": "one convolution", "double_conv": "two convolutions", "conv_pool": "a convolution and max pooling"}
BLOCK_NAMES = {
    "inverted": "inverted bottlenecks", "cp_mobile": "CP-Mobile's bottlenecks", "resnext": "ResNeXt blocks",
    "convnext": "ConvNeXt blocks", "basic": "basic residual blocks", "broadcast": "broadcasted residual blocks",
    "rep_inception": "AudioRepInceptionNeXt blocks", "inception": "AudioInceptionNeXt blocks",
}  # fmt: skip
OF_ONE_WIDTH = ("resnext", "basic", "broadcast", "plain", "rep_inception_flat")  # blocks that widen nothing inside
ACTIVATION_NAMES = {"silu": "Swish", "gelu": "GELU", "relu": "ReLU", "prelu": "PReLU", "hardswish": "hard-swish"}
NORM_NAMES = {
    "batch": "BatchNorm alone, which costs nothing once deployed", "resnorm": "ResNorm", "layer": "LayerNorm",
    "freq_in": "frequency-wise instance normalization", "grn": "global response normalization",
}  # fmt: skip
POOLING_NAMES = {
    "average": "a global average", "time_average": "an average over time of each band", "mean_max": "mean plus maximum",
    "attentive": "self-attentive pooling, grouped", "attentive_full": "self-attentive pooling, not grouped",
}  # fmt: skip
DOWNSAMPLING_NAMES = {
    "pool": "max pooling", "strided": "the stride of a block", "separate": "a norm and a convolution of their own",
}  # fmt: skip


class Aspect(NamedTuple):
    """A property of a network, and how it is said."""

    subject: str
    said: Callable[[ModelSpec], str]


def named(names: Mapping[str, str], key: str) -> str:
    return names.get(key, key.replace("_", " "))


def kernels(spec: ModelSpec) -> str:
    if "inception" in spec.block:
        return "/".join(map(str, spec.branches)) + " along each axis"
    size = "x".join(map(str, spec.kernel_size))
    smaller = {number: stage.second_kernel for number, stage in enumerate(spec.stages, start=1) if stage.second_kernel}
    if not smaller:
        return size
    second = " or ".join(sorted({"x".join(map(str, kernel)) for kernel in smaller.values()}))
    return f"{size}, a block's second one {second} in stage {' and '.join(map(str, smaller))}"


def kept(spec: ModelSpec) -> str:
    slots = BLOCKS[spec.block].slots  # type: ignore[attr-defined]
    left = slots if spec.activations_kept is None else spec.activations_kept
    if tuple(left) == tuple(slots):
        return "wherever they can stand in a block"
    return "only at " + " and ".join(slot.replace("_", " ") for slot in left) if left else "nowhere in a block"


def places(spec: ModelSpec) -> str:
    if spec.norm == "batch":
        return "in every convolution"
    if BLOCKS[spec.block].normalizes:  # type: ignore[attr-defined]
        return "in each block"
    return "after " + " and ".join(
        {"stem": "the stem", "block": "each block", "stage": "each stage"}[p] for p in spec.norm_after
    )


def strides(spec: ModelSpec) -> str:
    return ", ".join("x".join(map(str, stage.stride)) for stage in spec.stages[1:]) or "none"


def expansion(spec: ModelSpec) -> str:
    return "not at all" if spec.block in OF_ONE_WIDTH else f"{spec.expansion:g} times"


ASPECTS = (
    Aspect("The stem is", lambda s: f"{named(STEMS, s.stem)} of {'x'.join(map(str, s.stem_kernel))} with stride "
           f"{'x'.join(map(str, s.stem_stride))} (frequency x time)"),
    Aspect("It is made of", lambda s: named(BLOCK_NAMES, s.block)),
    Aspect("Its kernels are", kernels),
    Aspect("Blocks widen inside", expansion),
    Aspect("Blocks per stage are", lambda s: "-".join(str(stage.depth) for stage in s.stages)),
    Aspect("Stages are entered with strides of", strides),
    Aspect("Maps shrink by", lambda s: named(DOWNSAMPLING_NAMES, s.downsampling)),
    Aspect("The activation is", lambda s: named(ACTIVATION_NAMES, s.activation)),
    Aspect("Activations stand", kept),
    Aspect("The normalization is", lambda s: named(NORM_NAMES, s.norm)),
    Aspect("It stands", places),
    Aspect("Time and frequency are pooled by", lambda s: named(POOLING_NAMES, s.pooling)),
    Aspect("Shortcuts where the shape changes are",
           lambda s: {"project": "1x1 convolutions", "identity": "left out"}[s.shortcut]),
    Aspect("Its stages have", lambda s: "-".join(map(str, s.widths())) + " channels"),
)  # fmt: skip


def explanation(experiment: ExperimentSpec, classes: int, budget: Budget | None = None) -> list[str]:
    """Sentences: what differs, what does not, and what both cost. KT's network fills the budget, if given."""
    spec, shape = experiment.model, experiment.input_shape()
    theirs = model_spec(REFERENCE)
    if budget is not None and (fitted := fit_width(theirs, budget, shape, classes)).spec is not None:
        theirs = fitted.spec
    said, alike = [], []
    for aspect in ASPECTS:
        mine, its = aspect.said(spec), aspect.said(theirs)
        if mine == its:
            alike.append(f"{aspect.subject.lower()} {mine}")
        else:
            said.append(f"{aspect.subject} {mine}; in KT final: {its}.")
    if alike:
        said.append(f"As in KT final: {'; '.join(alike)}.")
    if (bits := experiment.quant).weight_bits == 4 or 4 in bits.layer_bits.values():
        some = ", ".join(f"{pattern} {n}" for pattern, n in bits.layer_bits.items())
        said.append(f"Its weights have {bits.weight_bits} bits" + (f", but for {some}." if some else "."))
    mine_cost, its_cost = (complexity(s, shape, classes, quant=q) for s, q in ((spec, bits), (theirs, BYTES)))
    said.append(cost_in_words(mine_cost, its_cost, budget))
    fields = [receptive_field(experiment.changed(model=s.plain()), classes) for s in (spec, theirs)]
    said.append("One value of the last map sees {}; in KT final: {}.".format(*map(seen, fields)))
    return said


def seen(field: Mapping[str, Any] | None) -> str:
    assert field is not None  # both networks have a specification
    bands = min(field["bands"], field["of_bands"])
    return f"{bands} of {field['of_bands']} bands and {field['milliseconds']:g} ms"


def cost_in_words(mine: Complexity, its: Complexity, budget: Budget | None) -> str:
    parts = [
        f"{a:,} {unit} ({compared(a, b)})"
        for a, b, unit in (
            (mine.params, its.params, "parameters"), (mine.macs, its.macs, "MACs"),
            (mine.total_bytes, its.total_bytes, "bytes"),
            (mine.peak_activation_bytes(), its.peak_activation_bytes(), "bytes of activations at once"),
        )
    ]  # fmt: skip
    beside = "" if budget is None else f" at the width that fills {budget.text},"
    return f"It costs {', '.join(parts)} than KT final{beside} with {its.params:,} parameters and {its.macs:,} MACs."


def compared(a: float, b: float) -> str:
    return f"{abs(a / b - 1):.0%} {'more' if a >= b else 'fewer'}"


def explain(run: Path) -> str:
    """The network of a run in words, beside KT's. Raises RunError for a run that has none yet."""
    checkpoint = load_checkpoint(run / "best" / "model.safetensors")
    experiment, classes = checkpoint.spec, len(checkpoint.classes)
    budget = Budget.parse(experiment.budget, experiment.view) if experiment.budget else None
    lines = [f"The network of {run} beside that of KT's report for DCASE 2022:"]
    lines += [f"- {sentence}" for sentence in explanation(experiment, classes, budget)]
    if (run / "search.json").is_file():
        found = read_json(run / "search.json", "python search/run.py")
        lines += [f"- {said}" for said in against_kt(found, experiment)]
    return "\n".join(lines)


def against_kt(found: Mapping[str, Any], trained: ExperimentSpec) -> list[str]:
    """What the search itself measured of KT's design and of the trained network, on its validation part."""
    design = design_of(spec_of(known_designs(DEFAULT)[0]).plain())
    theirs = [t for t in found["trials"] if t["spec"] and t["log_loss"] is not None and design_of(t["spec"]) == design]
    its = [t for t in found["trials"] if t["state"] == "COMPLETE" and t["spec"] == trained.model.plain()]
    if not theirs or not its:
        return []
    winner = min(its, key=lambda trial: trial["log_loss"])  # not always the search's best: finalists are judged anew
    if theirs[0]["number"] == winner["number"]:
        return ["It is KT's own design, where the search started; nothing else that was tried was better."]
    what = "stopped early at" if theirs[0]["state"] == "PRUNED" else "scored"
    return [
        f"KT's design at its own width was trial {theirs[0]['number']}: it {what} a validation log loss of "
        f"{theirs[0]['log_loss']:.4f}, the winner, trial {winner['number']}, {winner['log_loss']:.4f}."
    ]


def design_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A specification without what the budget solves for."""
    return {key: value for key, value in spec.items() if key != "width"}
