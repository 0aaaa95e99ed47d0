"""ImageJ's private TIFF tags, whose bytes are in the file's byte order (ij.io.TiffDecoder)."""

from __future__ import annotations

import struct

import numpy as np

from amsnet_cli.photos.ifd import Directory, Entry

BYTE_COUNTS, METADATA = 50838, 50839
TAGS = (BYTE_COUNTS, METADATA)
_MAGIC = int.from_bytes(b"IJIJ", "big")
_UNITS = {b"info": 2, b"labl": 2, b"prop": 2, b"rang": 8}
"""Bytes of a number in each kind of metadata: UTF-16 text and doubles; others hold bytes."""


def reordered(tags: Directory, before: str, after: str) -> Directory:
    """Change the byte order inside ImageJ's metadata; remove it where it is malformed.

    Args:
        tags: a directory whose values are in the order `before`.
        before: "<" or ">".
        after: the same.
    """
    counts, metadata = (tags.get(tag) for tag in TAGS)
    others = {tag: item for tag, item in tags.items() if tag not in TAGS}
    if before == after or not (isinstance(counts, Entry) and isinstance(metadata, Entry)):
        return tags if before == after else others
    try:
        value = _reordered(counts, metadata.value, before)
    except (ValueError, struct.error):
        return others
    changed = Entry(type=metadata.type, count=metadata.count, value=value)
    return {**others, BYTE_COUNTS: counts, METADATA: changed}


def _reordered(counts: Entry, metadata: bytes, order: str) -> bytes:
    sizes = [int(size) for size in np.frombuffer(counts.value, f"{order}u4")]
    header, *parts = np.split(np.frombuffer(metadata, np.uint8), np.cumsum(sizes))[:-1]
    magic, *kinds = struct.unpack(f"{order}{len(header) // 4}I", header.tobytes())
    if magic != _MAGIC or sum(kinds[1::2]) != len(parts) or sum(sizes) != len(metadata):
        raise ValueError("no ImageJ metadata")
    names = [
        kind.to_bytes(4, "big")
        for kind, count in zip(kinds[::2], kinds[1::2], strict=True)
        for _ in range(count)
    ]
    turned = [header.view(np.uint32).byteswap().tobytes()]
    for name, part in zip(names, parts, strict=True):
        unit = np.dtype(f"u{_UNITS.get(name, 1)}")
        turned.append(part.view(unit).byteswap().tobytes())
    return b"".join(turned)
