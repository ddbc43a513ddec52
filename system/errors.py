"""The errors a user can cause, and the way every command reports them. Standard library only."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

USERS_TO_SETTLE = (  # full disks, missing rights, and paths that cannot be what they are asked to be
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS,
    errno.ENOENT,  # what a folder such as /proc says to whoever makes a file in it
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP,
)  # fmt: skip


class TinySceneError(Exception):
    """Base of every error whose message is written for the user: one line, no traceback."""


class ConfigError(TinySceneError):
    """A YAML file, an override or a command line option that does not fit the specification."""


class MissingPackage(ConfigError):
    """A named network whose definition is another package's, which is not installed."""


class DataError(TinySceneError):
    """A data set, list or recording that is missing, damaged or contradicts itself."""


class BudgetError(TinySceneError):
    """A budget that cannot be read, cannot be met, or is exceeded."""


class RunError(TinySceneError):
    """A run folder that is missing a part, or belongs to another experiment."""


class TrainingError(TinySceneError):
    """A training that cannot go on, such as one whose loss is no longer a number."""


class FormatError(TinySceneError):
    """A submission file or package that cannot be read at all."""


def guarded(main: Callable[[list[str]], int | None]) -> int:
    """Run a command and turn every foreseeable failure into one line on standard error.

    Returns the exit code: 0 for success, 2 for a user's error (`error: ...`), 130 after Ctrl-C.
    A bug in TinyScene itself still shows its traceback.
    """
    try:
        return main(sys.argv[1:]) or 0
    except TinySceneError as error:
        return fail(str(error))
    except ModuleNotFoundError as error:
        return fail(f"the Python package {error.name!r} is not installed here: run make setup and use .venv/bin/python")
    except KeyboardInterrupt:
        print("\ninterrupted: what was finished is kept; the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno in USERS_TO_SETTLE:
            return fail(f"{error.filename or 'writing'}: {error.strerror}")
        raise


def fail(message: str) -> int:
    """Print `error: message` as one line and return the exit code of a user's error."""
    print("error: " + " ".join(message.split("\n")).strip(), file=sys.stderr)
    return 2
