"""What AVIF and HEIC share: the boxes of HEIF (ISO 23008-12, ISO 14496-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from amsnet_cli.photos.boxes import read_boxes
from amsnet_cli.photos.colour import profile_of_code_points, unsupported_colours
from amsnet_cli.photos.photo import Photo, with_usable_profile

_TRANSPARENCY = (
    *(b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"),
    b"urn:mpeg:avc:2015:auxid:1",
)
"""Types of auxiliary pictures (ISO 23008-12, ISO 14496-15)."""
_HDR = {16: "PQ", 18: "HLG"}
"""Transfer characteristics of H.273 that no ICC profile describes."""


def brands_of(head: bytes) -> set[bytes]:
    """Return the brands that the file type box at the beginning of a file names."""
    if head[4:8] != b"ftyp" or len(head) < 16:
        return set()
    size = min(struct.unpack_from(">I", head)[0], len(head))
    return {head[8:12], *(head[i : i + 4] for i in range(16, size, 4))}


def with_profile(path: Path, content: bytes, photo: Photo) -> Photo:
    """Drop an unusable colour profile; without any, make one from the code points.

    Colours that the file has multiplied by their transparency are marked as such.

    Notes say that the file holds a sequence or further pictures as well, if it does.

    Raises:
        PhotoError: the code points are those of HDR, also beside a profile, or unknown.
    """
    photo = with_usable_profile(photo)
    if any(kind == b"moov" for kind, _ in read_boxes(content)):
        note = "the sequence in the file is left out, its main picture is kept"
        photo = replace(photo, notes=(*photo.notes, note))
    if photo.alpha is not None and is_premultiplied(content):
        photo = replace(photo, fourth_channel="associated")
    if has_further_pictures(content):
        note = "further pictures in the file, such as a depth or gain map, are left out"
        photo = replace(photo, notes=(*photo.notes, note))
    code_points = code_points_of(content)
    if code_points is None:
        return photo
    try:
        if code_points[1] in _HDR:
            raise ValueError(_HDR[code_points[1]])
        if photo.icc is not None:
            return photo
        return replace(photo, icc=profile_of_code_points(*code_points, photo.pixels.shape[2]))
    except ValueError as error:
        raise unsupported_colours(path, error) from error


def code_points_of(content: bytes) -> tuple[int, int] | None:
    """Return the primaries and the transfer of the primary picture; None where it has none.

    Other pictures in the file, such as gain maps and HDR renditions, have their own.
    """
    try:
        meta = next(_children(content, b"meta"))
        primary = _primary(next(_children(meta[4:], b"pitm")))
        properties = next(_children(meta[4:], b"iprp"))
        boxes = list(read_boxes(next(_children(properties, b"ipco"))))
        for association in _children(properties, b"ipma"):
            for index in _properties(association, primary):
                kind, body = boxes[index - 1]
                if kind == b"colr" and body[:4] == b"nclx":
                    primaries, transfer = struct.unpack_from(">HH", body, 4)
                    return primaries, transfer
    except (StopIteration, struct.error, IndexError):
        return None
    return None


def is_premultiplied(content: bytes) -> bool:
    """Return whether colours are multiplied by the transparency; decoders leave them so."""
    meta = next(_children(content, b"meta"), b"")[4:]
    references = next(_children(meta, b"iref"), b"")[4:]
    return next(_children(references, b"prem"), None) is not None


def has_further_pictures(content: bytes) -> bool:
    """Return whether there are auxiliary pictures but transparency, or a gain map (ISO 21496-1)."""
    try:
        meta = next(_children(content, b"meta"))[4:]
        items = next(_children(meta, b"iinf"))
        properties = next(_children(next(_children(meta, b"iprp")), b"ipco"))
    except StopIteration:
        return False
    kinds = [body[4:].split(b"\0")[0] for body in _children(properties, b"auxC")]
    return b"tmap" in items or any(kind not in _TRANSPARENCY for kind in kinds)


def _children(content: bytes, name: bytes) -> Iterator[bytes]:
    return (body for kind, body in read_boxes(content) if kind == name)


def _primary(pitm: bytes) -> int:
    wide = pitm[:1] > b"\0"
    return int(struct.unpack_from(">I" if wide else ">H", pitm, 4)[0])


def _properties(ipma: bytes, item: int) -> list[int]:
    """Return the numbers, from 1, of the properties of an item."""
    wide_items, wide_numbers = ipma[:1] > b"\0", bool(ipma[3] & 1)
    (count,) = struct.unpack_from(">I", ipma, 4)
    at = 8
    for _ in range(count):
        (found,) = struct.unpack_from(">I" if wide_items else ">H", ipma, at)
        at += 4 if wide_items else 2
        length = ipma[at]
        form = f">{length}H" if wide_numbers else f">{length}B"
        numbers = struct.unpack_from(form, ipma, at + 1)
        at += 1 + struct.calcsize(form)
        if found == item:
            return [number & (0x7FFF if wide_numbers else 0x7F) for number in numbers]
    return []
