"""Windows bitmaps."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import BmpImagePlugin

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow
from amsnet_cli.photos.colour import NoColoursError, matrix_profile
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.photo import Photo, with_usable_profile

_RUN_LENGTHS = (1, 2)
_HEADER, _V4, _V5 = 14, 108, 124
"""Where the header begins, and its lengths (BITMAPV4HEADER, BITMAPV5HEADER)."""
_SPACE, _ENDPOINTS, _PROFILE = 70, 74, 126
_CALIBRATED, _EMBEDDED, _LINKED = bytes(4), b"DEBM", b"KNIL"
"""Kinds of colour space, as bytes in the file."""


def read(path: Path, content: bytes) -> Photo:
    """Decode a bitmap.

    Args:
        path: for messages.
        content: the file.

    Returns:
        8 bits a channel, with the profile that is embedded or stated by primaries and gamma.

    Raises:
        PhotoError: see `pillow.decode`; or it is compressed by run lengths, which hide damage.
    """
    if len(content) >= 34 and struct.unpack_from("<I", content, 30)[0] in _RUN_LENGTHS:
        raise PhotoError(f"{path}: a bitmap compressed by run lengths", "save it as PNG")
    try:
        photo = pillow.decode(path, content, BmpImagePlugin.BmpImageFile)
    except PhotoError as error:
        if "Unsupported BMP" not in error.what:
            raise
        raise PhotoError(f"{path}: a bitmap of a rare layout", "save it as PNG") from error
    icc = _profile(content) if photo.pixels.shape[2] == 3 else None
    if content[_SPACE : _SPACE + 4] == _LINKED and _header_length(content) >= _V5:
        note = "its colour profile is in another file: left out"
        photo = replace(photo, notes=(*photo.notes, note))
    return with_usable_profile(replace(photo, icc=icc))


def write(photo: Photo) -> bytes:
    """Encode a photo; pixels are exact."""
    options: dict[str, Any] = {"dpi": photo.dpi} if photo.dpi else {}
    return pillow.encode(photo.samples, "BMP", **options)


FORMAT = Format(
    name="BMP",
    suffixes=(".bmp", ".dib"),
    matches=lambda head: head[:2] == b"BM" and head[6:10] == bytes(4),
    read=read,
    write=write,
    fourth_channels=(),
    upright=True,
    blocks=(),
)


def _header_length(content: bytes) -> int:
    return int(struct.unpack_from("<I", content, _HEADER)[0])


def _profile(content: bytes) -> bytes | None:
    """Return the colour profile of a bitmap of RGB, None for sRGB and where it does not say."""
    length, space = _header_length(content), content[_SPACE : _SPACE + 4]
    if length >= _V5 and space == _EMBEDDED:
        place, size = struct.unpack_from("<II", content, _PROFILE)
        return content[_HEADER + place : _HEADER + place + size]
    if length < _V4 or space != _CALIBRATED:
        return None
    numbers = struct.unpack_from("<9i3I", content, _ENDPOINTS)
    xyz = np.array(numbers[:9]).reshape(3, 3) / 2**30  # of red, green and blue
    gamma = numbers[10] / 2**16  # of green
    xyz = np.concatenate([xyz.sum(0, keepdims=True), xyz])
    if not (xyz.sum(1) > 0).all() or not (xyz[:, 1] > 0).all() or not 0.1 < gamma < 10:
        return None
    values = (xyz[:, :2] / xyz.sum(1, keepdims=True)).round(5).ravel().tolist()
    x0, y0, x1, y1, x2, y2, x3, y3 = values
    try:
        return matrix_profile("BMP", (x0, y0, x1, y1, x2, y2, x3, y3), (gamma,))
    except NoColoursError:
        return None
