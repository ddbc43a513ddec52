"""What the catalogue holds: a published network, how it is built, and what was published about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from system.complexity import Shape
from system.registry import Registry
from system.spec import ModelSpec


@dataclass(frozen=True)
class Entry:
    """One named network. Said as a `spec` where the language of ModelSpec can say it, else built by `module`.

    Only networks with a spec can be searched, re-parameterized, trained by a configuration and quantized with
    training; a `module` is counted, exported and quantized after training.
    """

    source: str  # paper, report or README, with its section or table
    shape: Shape = (1, 80, 51)  # (channels, mel bands, frames) that the counts are for
    classes: int = 10
    spec: ModelSpec | None = None
    module: Callable[[int], nn.Module] | None = None  # classes -> (B, 1, mel bands, frames) to (B, classes)
    merge: Callable[[nn.Module], nn.Module] | None = None  # a module's own re-parameterization: a copy, merged
    # form ("train", "merged", "deploy") -> count -> the published number; empty where none was published. One that was
    # printed with few digits ends in zeros: see `agrees`
    published: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    remark: str = ""  # known errata of the published numbers

    def __post_init__(self) -> None:
        if (self.spec is None) == (self.module is None):
            raise ValueError("an entry has either a spec or a module")


CATALOG: Registry[Entry] = Registry("model")


def agrees(found: int, published: int) -> bool:
    """Whether a count is the published one, rounded or cut off to the digits that were printed.

    >>> agrees(11_834_869, 11_830_000), agrees(11_824_869, 11_830_000), agrees(61_149, 61_148)
    (True, False, False)
    """
    digits = str(published)
    unit = 10 ** (len(digits) - len(digits.rstrip("0")))
    return -unit / 2 <= found - published < unit


def model_spec(name: str) -> ModelSpec:
    """The specification of a named network. Raises ConfigError if there is none of that name, or it has no spec."""
    from system.errors import ConfigError

    if (spec := CATALOG[name].spec) is None:
        raise ConfigError(f"model {name!r} is a foreign module: it has no specification to train or search")
    return spec
