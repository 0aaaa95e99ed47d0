"""GIF: the first frame; it is only read, as it holds 256 colours."""

from __future__ import annotations

import io
import struct
from pathlib import Path

from PIL import GifImagePlugin

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.photo import Photo


def read(path: Path, content: bytes) -> Photo:
    """Decode the first frame.

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
    return photo


FORMAT = Format(
    name="GIF",
    suffixes=(".gif",),
    matches=lambda head: head[:6] in (b"GIF87a", b"GIF89a"),
    read=read,
)
