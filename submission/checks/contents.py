"""The content of a package's text files, read with suspicion: size, encoding, form."""

from __future__ import annotations

import json
from typing import Any

from submission.archive import Members
from submission.checks.fault import Fault

MAX_BYTES = 1 << 20  # of a Python, JSON or YAML file


def bytes_of(name: str, members: Members, faults: list[Fault]) -> bytes | None:
    content = members.read(name)
    if content is not None and len(content) > MAX_BYTES:
        faults.append(Fault(name, None, f"is {len(content):,} bytes long, expected at most {MAX_BYTES:,}"))
        return None
    return content


def text_of(name: str, members: Members, faults: list[Fault]) -> str | None:
    content = bytes_of(name, members, faults)
    if content is None:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        faults.append(Fault(name, content[: error.start].count(b"\n") + 1, f"is not UTF-8: {error.reason}"))
        return None


def json_of(name: str, members: Members, faults: list[Fault]) -> Any:
    text = text_of(name, members, faults)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        faults.append(Fault(name, getattr(error, "lineno", None), f"is not valid JSON: {error}"))
        return None
    if not isinstance(value, dict):
        faults.append(Fault(name, 1, f"expected a JSON object, found {type(value).__name__}"))
        return None
    return value


def line_of(name: str, members: Members, text: str) -> int:
    """The first line that holds `text`."""
    content = (members.read(name) or b"").decode("utf-8", "replace").splitlines()
    return next((number for number, line in enumerate(content, 1) if text in line), 1)
