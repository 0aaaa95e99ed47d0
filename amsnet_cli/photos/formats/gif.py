"""GIF: the first frame; it is only read, as it holds 256 colours."""

from __future__ import annotations

from pathlib import Path

from PIL import GifImagePlugin

from amsnet_cli.photos import pillow
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.photo import Photo


def read(path: Path, content: bytes) -> Photo:
    """Decode the first frame.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `pillow.decode`.
    """
    return pillow.decode(path, content, GifImagePlugin.GifImageFile)


FORMAT = Format(
    name="GIF",
    suffixes=(".gif",),
    matches=lambda head: head[:6] in (b"GIF87a", b"GIF89a"),
    read=read,
)
