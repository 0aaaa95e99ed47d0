"""EXIF's tags of bytes that hold numbers in the byte order of their block (EXIF 2.32, 4.6.5)."""

from __future__ import annotations

import struct

import numpy as np

from amsnet_cli.photos import ifd
from amsnet_cli.photos.ifd import Directory, Entry

_CFA_PATTERN, _DEVICE_SETTINGS = 0xA302, 0xA40B
_TABLES = (0x8828, 0xA20C)
"""OECF and SpatialFrequencyResponse: names of the columns, then fractions."""


def reordered(tags: Directory, before: str, after: str) -> Directory:
    """Change the byte order inside the tags of the EXIF directory that `ifd.reordered` leaves.

    Values that do not fit `before`, as some cameras write them, stay as they are.

    Args:
        tags: a directory with the EXIF directory below it.
        before: "<" or ">".
        after: the same.
    """
    below = tags.get(ifd.EXIF_IFD)
    if before == after or not isinstance(below, dict):
        return tags
    changed = {
        tag: Entry(type=item.type, count=item.count, value=_turned(tag, item.value, before))
        for tag, item in below.items()
        if tag in (_CFA_PATTERN, _DEVICE_SETTINGS, *_TABLES) and isinstance(item, Entry)
    }
    return {**tags, ifd.EXIF_IFD: {**below, **changed}}


def _turned(tag: int, value: bytes, order: str) -> bytes:
    if len(value) < 4:
        return value
    columns, rows = struct.unpack_from(f"{order}HH", value)
    head, body = value[:4], value[4:]
    if tag == _CFA_PATTERN:
        return _swapped(head, 2) + body if columns * rows == len(body) else value
    if tag == _DEVICE_SETTINGS:  # UTF-16
        return value if len(value) % 2 else _swapped(value, 2)
    names = body.split(b"\0", columns)
    if len(names) != columns + 1 or len(names[-1]) != 8 * columns * rows:
        return value
    return _swapped(head, 2) + body[: len(body) - len(names[-1])] + _swapped(names[-1], 4)


def _swapped(numbers: bytes, size: int) -> bytes:
    return np.frombuffer(numbers, f"u{size}").byteswap().tobytes()
