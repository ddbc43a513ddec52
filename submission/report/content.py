"""What a complexity report says: the graph's own counts, the official views beside them, the limits, and warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from submission.adapt import limited_costs
from submission.run_parts import RunParts, budget_of
from system.budget import QUANTITIES
from system.editions import Edition
from system.models.layers import Form
from system.models.network import complexity


class View(NamedTuple):
    """Who counts, what, and how. `form`: BatchNorm is folded in the deploy form and kept in the merged one."""

    tool: str
    form: Form
    key: str  # of complexity.json
    rule: str


VIEWS = (
    View("exact", "deploy", "macs_exact", "weights x output positions, attention products included"),
    View("torchinfo", "deploy", "macs_torchinfo", "biases at every position, functional operations not at all"),
    View("torchinfo", "merged", "macs_torchinfo", "biases at every position, a BatchNorm's parameters once"),
    View("NeSsi on TFLite", "deploy", "macs_nessi_tflite", "pooling, means and additions counted, biases not"),
)
TYPES = {  # key of complexity.json -> what is stored so
    "weight_bytes": "int8 weights",
    "bias_bytes": "int32 biases",
    "scale_bytes": "float32 scales",
    "zero_point_bytes": "uint8 zero points",
    "other_bytes": "float32 parameters of norms and activations",
}
COMPARED = ("params", "macs")  # quantities that the views may disagree about


def complexity_report(edition: Edition, run: RunParts) -> dict[str, Any]:
    """The submission's complexity.json: that of quant/BACKEND, the views, the limits, and warnings.

    `run`: with the costs as the edition counts them.
    """
    costs = run.complexity
    budget = budget_of(edition, run)
    limits = budget.limits() if budget else {}
    views = official_views(run)
    return {
        **costs,
        "edition": edition.key,
        "backend": run.backend,
        "budget": budget.text if budget else None,
        "limits": limits,
        "within_budget": not budget.excess(limited_costs(edition, costs)) if budget else True,
        "bytes_by_type": {what: costs[key] for key, what in TYPES.items() if key in costs},
        "views": views,
        "energy": dict(run.energy),
        "portable": run.portable,
        "trained_on_everything": run.spec.data.refit is not None,
        "warnings": [
            *(f"unverified rule of edition {edition.key}: {text}" for text in edition.unverified),
            *disagreements(views, limits),
        ],
    }


def official_views(run: RunParts) -> list[dict[str, Any]]:
    """Parameters and MACs of one recording in each of `VIEWS`; with BatchNorm kept they follow from the specification.

    The INT8 graph itself has no BatchNorm: a float module that is handed in may.
    """
    spec, times = run.spec, run.complexity.get("inferences", 1)
    kept = complexity(spec.model, spec.input_shape(), len(run.predictions.classes), "merged").totals()
    of_form = {"deploy": run.complexity, "merged": {**kept, "macs_torchinfo": kept["macs_torchinfo"] * times}}
    return [
        {
            "tool": view.tool,
            "batch_norm": "kept" if view.form == "merged" else "folded",
            "params": int(of_form[view.form]["params"]),
            "macs": int(of_form[view.form][view.key]),
            "rule": view.rule,
        }
        for view in VIEWS
    ]


def disagreements(views: Sequence[Mapping[str, Any]], limits: Mapping[str, int]) -> list[str]:
    """A warning for each limit that some views, or all, see exceeded."""
    warnings = []
    for quantity in COMPARED:
        if (limit := limits.get(quantity)) is None:
            continue
        what = f"the limit of {limit:,} {QUANTITIES[quantity][1]}"
        over = [view for view in views if view[quantity] > limit]
        if len(over) == len(views):
            warnings.append(f"every official view is above {what}")
        elif over:
            told = ", ".join(f"{view['tool']} with BatchNorm {view['batch_norm']} {view[quantity]:,}" for view in views)
            warnings.append(f"the official views disagree about {what}: {told}")
    return warnings
