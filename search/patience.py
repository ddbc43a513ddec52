"""A storage that goes away for a while: every call waits for it to come back."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import Any

from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage

from system.errors import RunError

PATIENCE = 120.0  # seconds that a storage may be away
FIRST_WAIT = 0.5  # seconds, doubled each time
LONGEST_WAIT = 15.0
AWAY = (StorageInternalError, OSError)


class Patient:
    """Optuna's storage `inner`, whose calls are repeated while it is away, with growing pauses.

    A call whose answer was lost is so made twice. That does no harm: each write says what is to be, not what is to
    change, and of a trial that was made twice the first is seen to have no worker (search/claims.py).
    Raises RunError once the storage was away for `PATIENCE` seconds.
    """

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        return partial(patiently, found) if callable(found) else found


def patiently(call: Any, *args: Any, **kwargs: Any) -> Any:
    """`call(*args, **kwargs)`, again and again while the storage is away."""
    started, wait = time.monotonic(), FIRST_WAIT
    while True:
        try:
            return call(*args, **kwargs)
        except AWAY as error:
            away = time.monotonic() - started
            reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
        if away > PATIENCE:
            raise RunError(
                f"the study's storage has been away for {away:.0f} s ({reason}); what was finished is kept: the same "
                "command continues"
            )
        print(f"the study's storage is away ({reason}); again in {wait:.1f} s", file=sys.stderr, flush=True)
        time.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
