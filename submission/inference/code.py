"""Who writes the code of a package: `PackageFormat.code` names an entry here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from submission.inference import biodcase2026, dcase2025
from submission.packing.systems import System
from submission.schema import PackageFormat
from system.editions import Edition
from system.registry import Registry

Members = Callable[[Edition, PackageFormat, System], tuple[dict[str, bytes], dict[str, Any]]]
"""(path -> content, measured values under the keys of complexity.json) of one system"""

CODE: Registry[Members] = Registry("writer of packaged code")
CODE.add("dcase2025")(dcase2025.members)
CODE.add("biodcase2026")(biodcase2026.members)
