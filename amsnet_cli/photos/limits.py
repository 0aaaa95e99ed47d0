"""How much a file may become."""

from __future__ import annotations

from pathlib import Path

from amsnet_cli.errors import PhotoError

MAX_PIXELS = 1_000_000_000
MAX_BYTES = 8_000_000_000
"""Of a file: more than a thousand million pixels of 16 bits take."""
LARGEST_EXPANSION = 500
"""Decoded bytes to a byte of the file, beyond `HARMLESS` bytes: no noisy photo has as many."""
HARMLESS = 200_000_000


def check_size(path: Path, content: bytes, size: tuple[int, int], pixel: int) -> None:
    """Refuse a picture that cannot be a photo, or is too large, before it is decoded.

    Args:
        path: for messages.
        content: the file.
        size: width and height that its header claims.
        pixel: bytes of a decoded pixel.

    Raises:
        PhotoError: it would expand without measure, or has too many pixels.
    """
    width, height = size
    expanded = width * height * pixel
    if expanded > HARMLESS and expanded > LARGEST_EXPANSION * len(content):
        raise PhotoError(
            f"{path}: {len(content)} bytes claim to hold {width}x{height} pixels",
            "this is no photo",
        )
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"{path}: {width}x{height} pixels are more than can be denoised", "cut it into parts"
        )
