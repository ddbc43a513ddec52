"""One network layer by layer, and why the counters disagree about it."""

from __future__ import annotations

from collections import defaultdict

from system.complexity import Complexity, LayerCost
from system.models.report import VIEWS

CONVOLUTIONS = ("conv", "depthwise", "grouped")
BLIND = "counted in no module of its own, so not seen"

# view -> kind of layer -> why it is not what `exact` says
REASONS: dict[str, dict[str, str]] = {
    "macs_torchinfo": {
        **dict.fromkeys(CONVOLUTIONS, "its biases, at every position"),
        "linear": "weights and biases once, at however many positions",
        "weighted_sum": BLIND,
        "matmul": BLIND,
    },
    "macs_nessi_tflite": {
        "pool": "the kernel's area for each output",
        "mean": "one for each input",
        "add": "one for each output",
        "layer_norm": "two means and two additions",
        "weighted_sum": "not among its operators",
        "matmul": "not among its operators",
    },
    "macs_fvcore": {
        "batch_norm": "2 for each value",
        "layer_norm": "5 for each value",
        "mean": "one for each input of a pooling to one value",
        "weighted_sum": "elementwise, which it ignores",
    },
}
OTHERWISE = {
    "macs_torchinfo": "its parameters, once",
    "macs_nessi_tflite": "its means, sums and additions",
    "macs_fvcore": "by its own rule",
}


def differences(cost: Complexity, view: str) -> dict[str, int]:
    """Kind of layer -> how much more than `exact` the view counts for all layers of that kind."""
    by_kind: dict[str, int] = defaultdict(int)
    for layer in cost.layers:
        by_kind[layer.kind] += getattr(layer, view) - layer.macs_exact
    return {kind: difference for kind, difference in by_kind.items() if difference}


def undercounted(cost: Complexity) -> list[LayerCost]:
    """Linear layers that run at many positions, which the official tool charges once."""
    return [layer for layer in cost.layers if layer.kind == "linear" and layer.output.positions > 1]


def print_layers(cost: Complexity) -> None:
    """One line per layer that has parameters or costs anything, in any view."""
    line = "{:<44} {:<13} {:>14} {:>11} {:>14} {:>14} {:>14} {:>14}"
    print(line.format("layer", "kind", "output", "params", *VIEWS.values()))
    for layer in cost.layers:
        numbers = [layer.params, *(getattr(layer, view) for view in VIEWS)]
        if any(numbers):
            output = "x".join(map(str, layer.output))
            print(line.format(layer.name[-44:], layer.kind, output, *(f"{number:,}" for number in numbers)))


def print_differences(cost: Complexity) -> None:
    """Each view's total, and what sets it apart from the exact count."""
    print(f"{VIEWS['macs_exact']:<13} {cost.macs_exact:>15,}  multiply-adds of convolutions, matrices and attention")
    for view, title in VIEWS.items():
        if view == "macs_exact":
            continue
        print(f"{title:<13} {getattr(cost, view):>15,}")
        for kind, difference in differences(cost, view).items():
            print(f"{'':<13} {difference:>+15,}  {kind}: {REASONS[view].get(kind, OTHERWISE[view])}")
    if layers := undercounted(cost):
        times = cost.macs_exact / cost.macs_torchinfo
        print(
            f"warning: {len(layers)} linear layers run at up to {max(layer.output.positions for layer in layers):,} "
            f"positions, and torchinfo, the official tool, charges them once: the network costs {times:.1f} times what "
            "it says. Write them as 1x1 convolutions."
        )
