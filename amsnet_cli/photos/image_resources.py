"""Photoshop's image resources, in JPEG, TIFF, PSD and PNG: IPTC-IIM, copyright, address, ...

Adobe Photoshop File Formats Specification, 2019.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_IPTC_RESOURCE = 0x0404
_CLIPPING_PATHS = range(2000, 2999)
_NOT_KEPT = frozenset(
    {
        *(0x03ED, _IPTC_RESOURCE, 0x040F, 0x0422, 0x0423, 0x0424),
        *(0x0409, 0x040C, 0x0406, 0x0421, 0x0408, 0x041A),
        *(0x03EE, 0x03EF, 0x0415, 0x041D, 0x042B, 0x0435),
        *(0x0400, 0x0402, 0x042D, 0x0430, 0x0429),
        *_CLIPPING_PATHS, 0x0BB7,
    }
)  # fmt: skip
"""What a photo holds elsewhere: resolution, IPTC, profile, EXIF, XMP; what is of the file before:
thumbnails, JPEG quality, version, guides, slices; what belongs to further channels, to layers, and
to clipping paths."""


def iptc_in_resources(resources: bytes) -> bytes | None:
    """Return the IPTC-IIM record in a block of image resources."""
    found = (data for number, data, _ in _resources(resources) if number == _IPTC_RESOURCE)
    return next(found, None) or None


def has_clipping_paths(resources: bytes) -> bool:
    """Return whether a block of image resources holds clipping paths."""
    return any(number in _CLIPPING_PATHS for number, _, _ in _resources(resources))


def kept_resources(resources: bytes) -> bytes | None:
    """Return the resources that stay true of a denoised photo, and that it holds nowhere else."""
    kept = [whole for number, data, whole in _resources(resources) if number not in _NOT_KEPT]
    return b"".join(kept) or None


def resource_of_iptc(iptc: bytes) -> bytes:
    """Make the image resource that holds an IPTC-IIM record."""
    header = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc))
    return header + iptc + b"\0" * (len(iptc) % 2)


def _resources(resources: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """List number, data, and all bytes of the resources before the first damage; empty if cut."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        size_at = at + 6 + (resources[at + 6] // 2 + 1) * 2
        if size_at + 4 > len(resources):
            return
        (size,) = struct.unpack_from(">I", resources, size_at)
        data = resources[size_at + 4 : size_at + 4 + size]
        end = size_at + 4 + size
        yield number, data, resources[at:end] + b"\0" * (size % 2) if len(data) == size else b""
        at = end + size % 2
