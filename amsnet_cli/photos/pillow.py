"""Encode pixels with Pillow."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from amsnet_cli.photos.photo import Pixels


def encode(
    pixels: Pixels,
    encoder: str,
    *,
    icc: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
    **options: Any,
) -> bytes:
    """Encode an image with its metadata.

    Args:
        pixels: (H, W, C) uint8, C = 1 (grey), 3 (RGB) or 4 (RGBA).
        encoder: Pillow's name of the format.
        icc: a colour profile.
        exif: an EXIF block without its prefix.
        xmp: an XMP packet.
        options: the encoder's own.
    """
    if icc:
        options["icc_profile"] = icc
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    if xmp:
        options["xmp"] = xmp
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    image.save(file, encoder, **options)
    return file.getvalue()
