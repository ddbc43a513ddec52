"""Do the numbers of a meta.yaml agree with the other files of its package?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from submission.archive import Members
from submission.checks.contents import json_of
from submission.checks.fault import Fault
from submission.checks.meta import Document, short
from submission.schema import PackageFormat, team_of, value_at


def check_agreement(
    file: str, document: Document, label: str, members: Members, layout: PackageFormat
) -> Iterator[Fault]:
    """Faults where it tells less than the costs of the devices, or another size than that of the model's file."""

    def fault(path: str, expected: str) -> Fault:
        line = document.lines.get(path, 1)
        return Fault(file, line, f"{path}: expected {expected}, found {short(value_at(document.value, path))}")

    if layout.device_costs and (name := layout.device_costs.format(label=label)) in members:
        costs = json_of(name, members, []) or {}
        for path, key in layout.at_least.items():
            told, least = value_at(document.value, path), costs.get(key)
            if _count(told) and _count(least) and told < least:
                yield fault(path, f"at least the {key} of {name}, {least:,}")
    for path, pattern in layout.sized.items():
        wanted = pattern.format(label=re.escape(label), team=re.escape(team_of(label)))
        for name in (name for name in members if re.fullmatch(wanted, name)):
            content = members.read(name)
            told = value_at(document.value, path)
            if content is not None and _count(told) and told != len(content):
                yield fault(path, f"the {len(content):,} bytes of {name}")


def _count(value: Any) -> bool:
    """Other values are faults of the file that tells them."""
    return isinstance(value, int) and not isinstance(value, bool)
