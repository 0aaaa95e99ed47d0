"""GIF: the first frame; it is only read, as it holds 256 colours."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import GifImagePlugin

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow
from amsnet_cli.photos.formats.format import Format, notes_of_other_data
from amsnet_cli.photos.photo import COMMENT, Photo, with_usable_profile

_EXTENSION, _FRAME = 0x21, 0x2C
_CONTROL, _COMMENT, _APPLICATION = 0xF9, 0xFE, 0xFF
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
_OF_ANIMATIONS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_BEHIND_XMP = b"\x01\xff\xfe\xfd"
"""Beginning of what leads readers of blocks past XMP (XMP specification, part 3, 1.1.2)."""


def read(path: Path, content: bytes) -> Photo:
    """Decode the first frame, with comments, XMP and colour profile.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `pillow.decode`; or the frame lies beside the picture.
    """
    photo = pillow.decode(path, content, GifImagePlugin.GifImageFile)
    width, height = struct.unpack_from("<HH", content, 6)
    with GifImagePlugin.GifImageFile(io.BytesIO(content)) as image:
        left, top = (image.tile[0].extents or (0, 0))[:2] if image.tile else (0, 0)
    if 0 < width <= left or 0 < height <= top:
        raise PhotoError(
            f"{path}: damaged, its frame lies beside the picture", "copy it again from its source"
        )
    texts, applications, others = [], {}, []
    for label, blocks in _extensions(content):
        data = _joined(blocks)
        if label == _COMMENT:
            texts.append((COMMENT, data.decode("utf-8", "replace")))
        elif label == _APPLICATION:
            applications[data[:11]] = blocks[12:] if data[:11] == _XMP else data[11:]
        elif label != _CONTROL:
            others.append("text to be drawn")
    packet = applications.get(_XMP, b"").partition(_BEHIND_XMP)[0]
    known = (_XMP, _ICC, *_OF_ANIMATIONS)
    others += [name.decode("ascii", "replace") for name in applications if name not in known]
    return with_usable_profile(
        replace(
            photo,
            icc=applications.get(_ICC) or None,
            xmp=packet or None,
            texts=tuple(texts),
            notes=(*photo.notes, *notes_of_other_data(others)),
        )
    )


FORMAT = Format(
    name="GIF",
    suffixes=(".gif",),
    matches=lambda head: head[:6] in (b"GIF87a", b"GIF89a"),
    read=read,
)


def _extensions(content: bytes) -> Iterator[tuple[int, bytes]]:
    """List label and blocks of the extensions before the end or the first damage."""
    at = 13 + _length_of_palette(content[10:11])
    while at < len(content) and content[at] in (_EXTENSION, _FRAME):
        if content[at] == _FRAME:
            at += 11 + _length_of_palette(content[at + 9 : at + 10])
            at += len(_blocks(content, at))
        elif at + 1 < len(content):
            blocks = _blocks(content, at + 2)
            yield content[at + 1], blocks
            at += 2 + len(blocks)


def _length_of_palette(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _blocks(content: bytes, start: int) -> bytes:
    """Return the blocks from a place on, each behind its length, with the empty one at the end."""
    at = start
    while at < len(content) and content[at]:
        at += 1 + content[at]
    return content[start : at + 1]


def _joined(blocks: bytes) -> bytes:
    at, parts = 0, []
    while at < len(blocks) and blocks[at]:
        parts.append(blocks[at + 1 : at + 1 + blocks[at]])
        at += 1 + blocks[at]
    return b"".join(parts)
