"""Boxes of the ISO base media file format (ISO 14496-12), as AVIF, HEIC, JPEG XL and JP2 have."""

from __future__ import annotations

import struct
from collections.abc import Iterator


def read_boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """List type and body of the boxes in a box or file; it ends before one that is malformed."""
    at = 0
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        head = 8
        if size == 1 and at + 16 <= len(content):
            (size,) = struct.unpack_from(">Q", content, at + 8)
            head = 16
        end = at + size if size else len(content)
        if end < at + head:
            return
        yield kind, content[at + head : end]
        at = end


def box(kind: bytes, body: bytes) -> bytes:
    """Make a box; raises `struct.error` from 4 GB on."""
    return struct.pack(">I4s", 8 + len(body), kind) + body


def is_cut_short(content: bytes) -> bool:
    """Return whether the last box of a file is longer than the file."""
    at = 0
    while at + 8 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        if size == 1 and at + 16 <= len(content):
            (size,) = struct.unpack_from(">Q", content, at + 8)
        if size == 0:
            return False
        at += max(size, 8)
    return at > len(content)
