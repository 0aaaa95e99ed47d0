"""Blocks of Photoshop's image resources, in JPEG and TIFF: IPTC-IIM records, clipping paths."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_IPTC_RESOURCE = 0x0404
_CLIPPING_PATHS = range(2000, 2999)


def iptc_in_resources(resources: bytes) -> bytes | None:
    """Return the IPTC-IIM record in a block of image resources."""
    return next((data for number, data in _resources(resources) if number == _IPTC_RESOURCE), None)


def has_clipping_paths(resources: bytes) -> bool:
    """Return whether a block of image resources holds clipping paths."""
    return any(number in _CLIPPING_PATHS for number, _ in _resources(resources))


def resource_of_iptc(iptc: bytes) -> bytes:
    """Make the image resource that holds an IPTC-IIM record."""
    header = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc))
    return header + iptc + b"\0" * (len(iptc) % 2)


def _resources(resources: bytes) -> Iterator[tuple[int, bytes | None]]:
    """List number and data of the resources before the first damage; None for no data."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        size_at = at + 6 + (resources[at + 6] // 2 + 1) * 2
        if size_at + 4 > len(resources):
            return
        (size,) = struct.unpack_from(">I", resources, size_at)
        yield number, resources[size_at + 4 : size_at + 4 + size] or None
        at = size_at + 4 + size + size % 2
