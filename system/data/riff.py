"""The size that a wav file announces for its samples, against the bytes that are there."""

from __future__ import annotations

import struct

UNKNOWN_SIZES = (0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000)
"""What programs that write to a pipe put where the size is not known yet."""


def announced_and_found(content: bytes, file_bytes: int | None = None) -> tuple[int, int] | None:
    """(bytes announced, bytes found) of the data chunk of a RIFF WAVE file; None for any other content.

    `content` may be the beginning of a file of `file_bytes`, as long as the chunk's header is in it. A size that the
    writer did not know counts as what is found.
    """
    end = len(content) if file_bytes is None else file_bytes
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        return None
    start = 12
    while start + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, start)
        start += 8
        if name == b"data":
            found = min(size, end - start)
            return (found if size in UNKNOWN_SIZES else size), found
        start += size + size % 2  # chunks begin on even positions
    return None
