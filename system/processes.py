"""Several processes that train one network together, as torchrun or Lightning start them."""

from __future__ import annotations

import os


def is_first() -> bool:
    """Whether this process is the one that writes and speaks; alone it is."""
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))
