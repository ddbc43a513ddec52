"""The files of a system beyond tables and meta.yaml, where its edition wants code."""

from __future__ import annotations

from typing import Any

from submission.packing.systems import System
from submission.schema import PackageFormat
from system.editions import Edition


def code_of(rules: Edition, layout: PackageFormat, system: System) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Path -> content, and what was measured for it; nothing in an edition without code. Raises RunError."""
    if layout.code is None:
        return {}, {}
    from submission.inference.code import CODE  # PyTorch, which most editions can do without

    return CODE[layout.code](rules, layout, system)
