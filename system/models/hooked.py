"""What any module costs: its operators, seen while it runs on the meta device, where no number is computed.

The arithmetic of `counting.py` needs a specification; this needs only a module. Both give the same four views
(system/complexity.py), which tests hold on every network that has a specification. Operators are seen as they are
called, so that functions without a module of their own are counted too; the torchinfo view charges modules without
children by their parameters, as the official tool does, and is blind where it is blind.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from system import complexity
from system.complexity import Complexity, LayerCost, Map, Shape
from system.models.layers import ACTIVATIONS

Arguments = dict[str | int, Any]


def count(module: nn.Module, shape: Shape) -> Complexity:
    """The cost of one segment of `shape` (channels, mel bands, frames), in evaluation mode. `module` stays as it is.

    Raises ValueError for an operator without a rule: nothing is left out silently.
    """
    module = copy.deepcopy(module).to("meta", torch.float32).eval()
    recorder = Recorder(module)
    with torch.no_grad(), recorder.watching(module), recorder:
        module(torch.empty(1, *shape, device="meta"))
    if unseen := recorder.params:
        raise ValueError(f"parameters that no operator used: {', '.join(sorted(unseen.values()))}")
    return Complexity.of(recorder.rows)


class Recorder(TorchFunctionMode):
    """One LayerCost per operator called, in the order of running."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.rows: list[LayerCost] = []
        self.params = {buffer(p): name for name, p in module.named_parameters()}  # not yet counted
        self._own = set(self.params) | {buffer(b) for b in module.buffers()}  # no maps
        self._maps: dict[int, Map] = {}  # one per buffer, shared by its views
        self._products: set[int] = set()
        self._alive: list[Tensor] = []  # so that no buffer's number is given twice
        self._names: list[str] = [""]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor):
            self._record(func.__name__, {**dict(enumerate(args)), **(kwargs or {})}, out)
        return out

    def _record(self, name: str, given: Arguments, out: Tensor) -> None:
        self._alive.append(out)
        read = [t for value in given.values() for t in tensors(value)]
        name = name.rstrip("_") if name in IN_PLACE else name
        if name in VIEWS or not read:
            return
        if name not in RULES and name not in FREE:
            raise ValueError(f"{self._names[-1] or 'module'}: no rule says what the operator {name!r} costs")
        row = RULES.get(name, free)(name, given, out)
        if name == "sum" and buffer(read[0]) in self._products:  # the multiply-adds of attention
            row = row._replace(kind="weighted_sum", macs_exact=read[0].numel())
        if name == "mul":
            self._products.add(buffer(out))
        inputs = tuple(self._map(t) for t in read if buffer(t) not in self._own)
        in_place = RULES.get(name) is activation and row.output is row.inputs[0]
        output = self._maps.setdefault(buffer(out), inputs[0] if in_place else row.output)
        if RULES.get(name) is activation:
            inputs += row.inputs[1:]  # a gate, kept beside the map that it multiplies
        row = row._replace(name=self._names[-1], inputs=inputs, output=output, macs_torchinfo=0)
        weights, biases, other = self._new_params(name, given, read)
        self.rows.append(row._replace(weights=weights, biases=biases, other_params=other))

    def _map(self, t: Tensor) -> Map:
        return self._maps.setdefault(buffer(t), map_of(t))

    def _new_params(self, name: str, given: Arguments, read: list[Tensor]) -> tuple[int, int, int]:
        """Weights, biases and other parameters among the arguments, each counted where it is first used."""
        used = {buffer(t): t.numel() for t in read if self.params.pop(buffer(t), None) is not None}
        if name not in WEIGHTED:
            return 0, 0, sum(used.values())
        bias = argument(given, 2, "bias")
        biases = used.pop(buffer(bias), 0) if bias is not None else 0
        return sum(used.values()), biases, 0

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Names the rows after the modules that ran them, and charges each module as torchinfo does."""
        with ExitStack() as stack:
            for name, part in module.named_modules():
                handle = part.register_forward_pre_hook(lambda _, __, name=name: self._names.append(name))
                stack.callback(handle.remove)
                started: list[int] = []
                handle = part.register_forward_pre_hook(lambda _, __, started=started: started.append(len(self.rows)))
                stack.callback(handle.remove)
                handle = part.register_forward_hook(lambda m, _, y, started=started: self._left(m, y, started.pop()))
                stack.callback(handle.remove)
            yield

    def _left(self, module: nn.Module, out: Any, first: int) -> None:
        name = self._names.pop()
        charged = torchinfo_macs(module, out)
        if charged and len(self.rows) == first:  # a module that only hands its parameters on
            self.rows.append(LayerCost(type(module).__name__, (), self._map(out), name=name))
        if charged:
            self.rows[-1] = self.rows[-1]._replace(macs_torchinfo=self.rows[-1].macs_torchinfo + charged)


def torchinfo_macs(module: nn.Module, out: Any) -> int:
    """torchinfo 1.8: only modules without children; weight and bias of a convolution at each position, others once."""
    if any(True for _ in module.children()) or not isinstance(out, Tensor):
        return 0
    macs = 0
    for name, p in module.named_parameters():
        if name in ("weight", "bias"):
            macs += p.numel() * (prod(out.shape[2:]) if "Conv" in type(module).__name__ else 1)
        elif "weight" in name or "bias" in name:
            macs += p.numel() * prod(out.shape[1:2])
    return macs


def buffer(t: Tensor) -> int:
    """The same number for a tensor and all views of it."""
    return t.untyped_storage()._cdata


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in tensors(item)] if isinstance(value, list | tuple) else []


def argument(given: Arguments, index: int, name: str) -> Any:
    return given.get(index, given.get(name))


def map_of(t: Tensor) -> Map:
    """(1, C, F, T) -> (C, F, T); of any other tensor the last axis is time, and frequency what is left over."""
    if t.dim() == 4:
        return Map(*t.shape[1:])
    size = t.numel()
    channels = t.shape[1] if t.dim() > 1 and t.shape[0] == 1 else 1
    return Map(channels, 1, size // channels) if channels and size else Map(size, 1, 1)


# -- one rule per operator: (its name, its arguments, its result) -> its cost, without parameters and torchinfo


def free(name: str, given: Arguments, out: Tensor) -> LayerCost:
    """Known to cost nothing in any view."""
    return LayerCost(name, (), map_of(out), quantizers=1)


def convolution(name: str, given: Arguments, out: Tensor) -> LayerCost:
    x, weight, bias = argument(given, 0, "input"), argument(given, 1, "weight"), argument(given, 2, "bias")
    kernel = (prod(weight.shape[2:-1]), weight.shape[-1])
    return complexity.convolution(map_of(x), map_of(out), kernel, x.shape[1] // weight.shape[1], bias is not None)


def linear(name: str, given: Arguments, out: Tensor) -> LayerCost:
    x, bias = argument(given, 0, "input"), argument(given, 2, "bias")
    positions = out.numel() // out.shape[-1]
    y = Map(out.shape[-1], 1, positions)
    return complexity.linear(Map(x.shape[-1], 1, positions), y, bias is not None)


def matmul(name: str, given: Arguments, out: Tensor) -> LayerCost:
    """A product of two maps, as in attention: nobody's modules, so torchinfo is blind; no operator of NeSsi's."""
    macs = out.numel() * argument(given, 0, "input").shape[-1]
    return LayerCost("matmul", (), map_of(out), quantizers=1, macs_exact=macs, macs_fvcore=macs)


def batch_norm(name: str, given: Arguments, out: Tensor) -> LayerCost:
    affine = argument(given, 3, "weight") is not None
    return complexity.batch_norm(map_of(out))._replace(macs_fvcore=out.numel() * (2 if affine else 1))


def layer_norm(name: str, given: Arguments, out: Tensor) -> LayerCost:
    channels = prod(argument(given, 1, "normalized_shape"))
    affine = argument(given, 2, "weight") is not None
    return complexity.layer_norm(Map(channels, 1, out.numel() // channels), 2 * channels if affine else 0)


def pooling(name: str, given: Arguments, out: Tensor) -> LayerCost:
    size = argument(given, 1, "kernel_size")
    kernel = (size, size) if isinstance(size, int) else tuple(size)
    return complexity.pooling(map_of(argument(given, 0, "input")), map_of(out), kernel)


def adaptive_pooling(name: str, given: Arguments, out: Tensor) -> LayerCost:
    """To one value a channel: TFLite's mean, and the only pooling that fvcore counts."""
    x = argument(given, 0, "input")
    return complexity.mean(map_of(x), map_of(out))._replace(macs_fvcore=x.numel())


def mean(name: str, given: Arguments, out: Tensor) -> LayerCost:
    return complexity.mean(map_of(argument(given, 0, "input")), map_of(out))


def addition(name: str, given: Arguments, out: Tensor) -> LayerCost:
    return complexity.addition(map_of(out), map_of(out))


def activation(name: str, given: Arguments, out: Tensor) -> LayerCost:
    return complexity.activation(map_of(out), name, 0)


RULES: dict[str, Callable[[str, Arguments, Tensor], LayerCost]] = {
    **dict.fromkeys(("conv1d", "conv2d"), convolution),
    "linear": linear,
    **dict.fromkeys(("matmul", "bmm", "mm"), matmul),
    "batch_norm": batch_norm,
    "layer_norm": layer_norm,
    **dict.fromkeys(("max_pool2d", "avg_pool2d"), pooling),
    "adaptive_avg_pool2d": adaptive_pooling,
    "mean": mean,
    **dict.fromkeys(("add", "__radd__"), addition),
    **dict.fromkeys((*ACTIVATIONS, "sigmoid", "relu6"), activation),
}  # fmt: skip
WEIGHTED = {"conv1d", "conv2d", "linear"}  # whose parameters are weights and biases, stored as integers
IN_PLACE = {"relu_", "add_", "mul_", "sub_", "div_", "clamp_"}
FREE = {
    "mul", "sub", "div", "__rsub__", "__rmul__", "__rdiv__", "pow", "sqrt", "rsqrt", "exp", "log", "neg", "abs",
    "clamp", "norm", "vector_norm", "linalg_vector_norm", "square", "var", "softmax", "log_softmax", "sum", "amax",
    "max", "maximum", "cat", "stack", "pad", "roll", "contiguous", "clone", "to", "type", "float", "interpolate",
}  # fmt: skip
VIEWS = {
    "__get__", "__getitem__", "view", "reshape", "permute", "transpose", "flatten", "unflatten", "unsqueeze",
    "squeeze", "view_as", "expand", "expand_as", "movedim", "swapaxes", "dropout", "dropout2d", "detach", "chunk",
    "split", "narrow", "select", "empty",
}  # fmt: skip
