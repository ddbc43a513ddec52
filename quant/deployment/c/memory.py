"""Maps that share one piece of memory: where each lies, so that no two that live at once overlap."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ALIGNED = 4  # bytes: what a float's address is a multiple of
DRAWS = 100  # orders that are tried at random


@dataclass
class Buffer:
    """Memory for one map, from the statement that writes it to the last that reads it."""

    bytes: int
    born: int
    last: int


def placed(buffers: Sequence[Buffer]) -> tuple[list[int], int]:
    """The offset of each buffer, and the bytes of all.

    Buffers are placed one by one, each as low as it fits, in the best of some orders: large or early ones first, or
    drawn at random (always the same draws) until the memory is no more than what lives at once.
    """
    if not buffers:
        return [], 0
    statements = range(max(one.last for one in buffers) + 1)
    least = max(sum(aligned(one.bytes) for one in buffers if one.born <= now <= one.last) for now in statements)
    sizes = np.array([one.bytes for one in buffers], dtype=float)
    draws = np.random.default_rng(0).uniform(0.25, 1, (DRAWS, len(buffers)))
    best, fewest = [0] * len(buffers), sys.maxsize
    for first in (sizes, -np.array([one.born for one in buffers]), *(sizes * draws)):
        offsets = lowest(buffers, np.argsort(-first, kind="stable").tolist())
        size = max(offset + aligned(one.bytes) for offset, one in zip(offsets, buffers, strict=True))
        if size < fewest:
            best, fewest = offsets, size
        if fewest <= least:
            break
    return best, fewest


def lowest(buffers: Sequence[Buffer], order: Sequence[int]) -> list[int]:
    """Offsets of buffers that are placed in this order, each as low as it fits."""
    offsets, done = [0] * len(buffers), list[int]()
    for number in order:
        one, offset = buffers[number], 0
        for other in sorted(done, key=offsets.__getitem__):
            beside = buffers[other]
            apart = beside.last < one.born or one.last < beside.born
            if not apart and offset < offsets[other] + beside.bytes and offsets[other] < offset + one.bytes:
                offset = aligned(offsets[other] + beside.bytes)
        offsets[number] = offset
        done.append(number)
    return offsets


def aligned(size: int) -> int:
    return -(-size // ALIGNED) * ALIGNED
