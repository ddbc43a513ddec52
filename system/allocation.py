"""How this process gets its memory: large buffers of tensors are kept and used again.

A training step frees what it needs again in the next one. By default glibc gives buffers of more than 32 MiB back to
the system at once, and each page that comes again is cleared and mapped on its first use: that took half of the time
of a training with batches of 256 on two CPU cores (benchmarks/training_step.py).
"""

from __future__ import annotations

import ctypes
import os
import platform

__all__ = ["keep_buffers"]

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
LARGEST = 2**31 - 1  # of an int, as mallopt takes it
PAD = 64 * 2**20  # bytes asked of the system at a time


def keep_buffers() -> bool:
    """Let malloc keep what is freed; whether it could: glibc is needed. TINYSCENE_ALLOCATOR=system leaves it as it is.

    PyTorch's own THP_MEM_ALLOC_ENABLE=1 (huge pages) beside it was 6 to 16 % slower in four of five networks.
    """
    if os.environ.get("TINYSCENE_ALLOCATOR") == "system" or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(name, value) for name, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST), (M_TOP_PAD, PAD)))
