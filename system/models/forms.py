"""The three forms of a named network, whether a specification or a module builds it.

A specification's forms are declared (`layers.py`) and mapped onto each other (`reparam.py`). A module, also one that
a specification names (`model.module`), is a graph to be rewritten: its own `merge` first, if it has one, then every
BatchNorm that stands next to a convolution folded.
"""

from __future__ import annotations

import copy
from collections import Counter

from torch import fx, nn

from system.complexity import Map
from system.models.entry import CATALOG, Entry
from system.models.layers import Form, NormConv
from system.models.network import Network, build
from system.models.reparam import deploy, fold, fold_before


def fresh(entry: Entry, form: Form = "train") -> nn.Module:
    """A named network with fresh weights. Raises ConfigError where a package is missing that defines it."""
    if entry.spec is None:
        assert entry.module is not None
        return converted(entry, entry.module(entry.classes), form)
    if entry.spec.module is None:
        return build(entry.spec, entry.shape, entry.classes, form)
    return converted(entry, build(entry.spec, entry.shape, entry.classes), form)


def converted(entry: Entry, network: nn.Module, form: Form) -> nn.Module:
    """What the train form `network` computes when evaluated, in another form. `network` stays as it is."""
    if form == "train":
        return network
    if entry.spec is not None and entry.spec.module is None:
        assert isinstance(network, Network)
        return deploy(network, entry.spec, entry.shape, entry.classes, form)
    merge = entry.merge if entry.spec is None else CATALOG[str(entry.spec.module)].merge
    merged = network if merge is None else merge(network)
    return fold_norms(merged) if form == "deploy" else merged


class Leaves(fx.Tracer):
    """Sees each module without children as one step, whoever defined it."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(True for _ in m.children()) or super().is_leaf_module(m, module_qualified_name)


def fold_norms(module: nn.Module) -> fx.GraphModule:
    """A copy in evaluation mode, without each BatchNorm that follows a convolution or precedes an unpadded one.

    Only where nothing else reads the map between the two, so that the result is exact. Others stay.
    """
    module = copy.deepcopy(module).eval()
    traced = fx.GraphModule(module, Leaves().trace(module))
    parts = dict(traced.named_modules())
    called = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")

    def part(node: object, kind: type[nn.Module]) -> nn.Module | None:
        """The module of that kind that a node calls, if no other node calls it."""
        if not isinstance(node, fx.Node) or node.op != "call_module" or called[node.target] > 1:
            return None
        found = parts[str(node.target)]
        return found if isinstance(found, kind) else None

    for node in list(traced.graph.nodes):
        norm = part(node, nn.BatchNorm2d)
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        before, after = node.args[0], next(iter(node.users))
        conv, next_conv = part(before, nn.Conv2d), part(after, nn.Conv2d)
        if isinstance(conv, nn.Conv2d) and len(before.users) == 1:
            weight, bias = fold(conv.weight, conv.bias, norm)
        elif isinstance(next_conv, nn.Conv2d) and len(node.users) == 1 and foldable_before(next_conv):
            conv = with_bias(next_conv)
            weight, bias = fold_before(NormConv(Map(0, 0, 0), norm, conv))
        else:
            continue
        conv.weight, conv.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
        node.replace_all_uses_with(before)
        traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def foldable_before(conv: nn.Conv2d) -> bool:
    return conv.groups == 1 and conv.padding == (0, 0)


def with_bias(conv: nn.Conv2d) -> nn.Conv2d:
    if conv.bias is None:
        conv.bias = nn.Parameter(conv.weight.new_zeros(conv.out_channels))
    return conv
