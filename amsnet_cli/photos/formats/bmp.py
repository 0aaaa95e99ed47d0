"""Windows bitmaps."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from PIL import BmpImagePlugin

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.photo import Photo

_RUN_LENGTHS = (1, 2)


def read(path: Path, content: bytes) -> Photo:
    """Decode a bitmap.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `pillow.decode`; or it is compressed by run lengths, which hide damage.
    """
    if len(content) >= 34 and struct.unpack_from("<I", content, 30)[0] in _RUN_LENGTHS:
        raise PhotoError(f"{path}: a bitmap compressed by run lengths", "save it as PNG")
    return pillow.decode(path, content, BmpImagePlugin.BmpImageFile)


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
