"""The header of an OpenEXR file: attributes of a name, a type and bytes (OpenEXR File Layout)."""

from __future__ import annotations

import struct

import numpy as np

from amsnet_cli.photos.photo import Attribute

_LAYOUT = frozenset(
    {
        *("channels", "chunkCount", "chromaticities", "compression", "dataWindow", "displayWindow"),
        *("dwaCompressionLevel", "lineOrder", "maxSamplesPerPixel", "tiles"),
        *("type", "version", "xDensity"),
    }
)
"""Attributes of how pixels are stored, and of what a `Photo` holds elsewhere."""
OF_OTHER_PICTURES = ("preview", "multiView", "idManifest", "deepImageState")
"""Attributes of a thumbnail, and of channels that are left out."""
_DEFAULTS = {
    "screenWindowCenter": bytes(8),
    **dict.fromkeys(("screenWindowWidth", "pixelAspectRatio"), struct.pack("<f", 1)),
}
"""Attributes that every file has."""
_HEAD = 8
"""Bytes of the signature and the version."""
_LONG_NAMES = 0x400
"""Bit of the version: names have more than 31 bytes."""


def texts_and_others(content: bytes) -> tuple[tuple[tuple[str, str], ...], tuple[Attribute, ...]]:
    """Return the attributes of the first part that say something of the picture.

    Args:
        content: the file.

    Returns:
        Names and values of the texts; name, type and bytes of the others.

    Raises:
        ValueError: the header is malformed.
    """
    texts, others = [], []
    for name, kind, value in _attributes(content)[0]:
        if name in _LAYOUT or value == _DEFAULTS.get(name):
            continue
        try:
            if kind != "string":
                raise UnicodeError
            texts.append((name, value.decode()))
        except UnicodeError:
            others.append((name, kind, value))
    return tuple(texts), tuple(others)


def with_attributes(content: bytes, attributes: tuple[Attribute, ...]) -> bytes:
    """Put attributes into the header of a file of one part, in place of those of the same names.

    Args:
        content: a file whose pixels lie behind the table of their places, in its order.
        attributes: name, type and bytes.
    """
    found, end = _attributes(content)
    merged = {name: (name, kind, value) for name, kind, value in (*found, *attributes)}
    header = b"".join(
        b"%s\0%s\0%s%s" % (name.encode(), kind.encode(), struct.pack("<I", len(value)), value)
        for name, kind, value in merged.values()
    )
    (version,) = struct.unpack_from("<I", content, 4)
    if any(len(text.encode()) > 31 for attribute in attributes for text in attribute[:2]):
        version |= _LONG_NAMES
    (first,) = struct.unpack_from("<Q", content, end)
    places = np.frombuffer(content[end:first], "<u8") + np.uint64(_HEAD + len(header) + 1 - end)
    head = content[:4] + struct.pack("<I", version)
    return b"".join([head, header, b"\0", places.astype("<u8").tobytes(), content[first:]])


def _attributes(content: bytes) -> tuple[list[Attribute], int]:
    """Return the attributes of the first header, and where it ends."""
    found, at = [], _HEAD
    try:
        while content[at]:
            name_end = content.index(b"\0", at)
            kind_end = content.index(b"\0", name_end + 1)
            name, kind = content[at:name_end].decode(), content[name_end + 1 : kind_end].decode()
            (size,) = struct.unpack_from("<I", content, kind_end + 1)
            at = kind_end + 5 + size
            found.append((name, kind, bytes(content[kind_end + 5 : at])))
    except (IndexError, struct.error) as error:
        raise ValueError("its header is cut short") from error
    return found, at + 1
