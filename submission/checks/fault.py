"""What is wrong with a package, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class Fault:
    """One fault of a package."""

    file: str  # path inside the package; "" for the package itself
    line: int | None  # counted from 1; None where it concerns the whole file
    message: str

    def __str__(self) -> str:
        where = self.file or "package"
        text = f"{where}: {self.message}" if self.line is None else f"{where}, line {self.line}: {self.message}"
        text = _CONTROL.sub("?", text)  # a foreign package must not control the terminal
        return text.encode("utf-8", "backslashreplace").decode()  # nor hold what no terminal can be sent
