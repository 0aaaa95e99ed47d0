"""EXIF of RAW files: camera, exposure, place and author."""

from __future__ import annotations

import struct

from amsnet_cli.photos import exif, ifd
from amsnet_cli.photos.formats import jpeg_segments
from amsnet_cli.photos.ifd import Directory, MalformedError

_CR3_HEAD = 1 << 20
"""Bytes at the beginning of a CR3 file that hold its metadata."""
_DESCRIPTIVE = frozenset(
    {
        *(0x010E, exif.MAKE, exif.MODEL, exif.ORIENTATION, exif.SOFTWARE, 0x0132, 0x013B, 0x8298),
        *(0x010D, 0x013C, 0x4746, 0x4749, *range(0x9C9B, 0x9CA0), 0x9003, 0xC62F, 0xC630, 0xC68B),
        *(ifd.EXIF_IFD, ifd.GPS_IFD),
    }
)
"""Tags that describe the picture; the others are of the sensor or of a thumbnail.

Among them are titles, ratings and keywords, and DNG's serial number, lens and former name.
"""


def exif_of(content: bytes) -> bytes | None:
    """Make an EXIF block of camera, exposure, place and author.

    Most RAW files are TIFF files. Fujifilm's RAF holds a JPEG with the EXIF, whose place is in its
    header; Canon's CR3 holds the directories as TIFF files of their own, in boxes of ISO 14496-12.

    Returns:
        The block, or None where there is nothing to keep.
    """
    if content.startswith(b"FUJIFILMCCD-RAW ") and len(content) > 92:
        place, length = struct.unpack_from(">II", content, 84)
        return jpeg_segments.exif_of(content[place : place + length])
    if content[4:12] == b"ftypcrx ":
        return _exif_of_boxes(content[:_CR3_HEAD])
    try:
        tree = ifd.read_tree(content)
    except MalformedError:
        return None
    return exif.make_block(_descriptive(tree), ifd.byte_order(content))


def _exif_of_boxes(content: bytes) -> bytes | None:
    parts: list[Directory] = []
    for name in (b"CMT1", b"CMT2", b"CMT4"):  # the first directory, EXIF, GPS
        at = content.find(name)
        size = struct.unpack_from(">I", content, at - 4)[0] if at >= 4 else 8
        block = content[at + 4 : at - 4 + size]
        try:
            parts.append(ifd.reordered(ifd.read_tree(block), ifd.byte_order(block), "<"))
        except MalformedError:
            parts.append({})
    first, exposure, place = parts
    tree = _descriptive(first)
    tree |= {tag: part for tag, part in ((ifd.EXIF_IFD, exposure), (ifd.GPS_IFD, place)) if part}
    return exif.make_block(tree, "<")


def _descriptive(tree: Directory) -> Directory:
    return {tag: item for tag, item in tree.items() if tag in _DESCRIPTIVE}
