"""What is wrong with a package, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST = 2000  # letters told of one fault: a foreign file may hold megabytes where a number is expected
_CONTROL = re.compile(  # what moves the cursor, breaks the line, or makes a terminal show letters in another order
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


@dataclass(frozen=True)
class Fault:
    """One fault of a package."""

    file: str  # path inside the package; "" for the package itself
    line: int | None  # counted from 1; None where it concerns the whole file
    message: str

    def __str__(self) -> str:
        where = self.file or "package"
        text = f"{where}: {self.message}" if self.line is None else f"{where}, line {self.line}: {self.message}"
        text = text if len(text) <= LONGEST else f"{text[:LONGEST]}... ({len(text):,} letters)"
        text = _CONTROL.sub("?", text)  # a foreign package must not control the terminal
        return text.encode("utf-8", "backslashreplace").decode()  # nor hold what no terminal can be sent
