"""Decode and encode with Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import Photo, Pixels

_MALFORMED = (
    *(OSError, SyntaxError, ValueError, LookupError, TypeError, AttributeError),
    *(EOFError, OverflowError, struct.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What Pillow raises on malformed files."""
_MODES = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}
"""What pixels become; palettes apart."""
_READABLE = ("L", "LA", "RGB", "RGBA", "I;16")


def decode(path: Path, content: bytes, decoder: type[ImageFile.ImageFile]) -> Photo:
    """Decode the first picture of a file, with its resolution.

    Args:
        path: for messages.
        content: the file.
        decoder: Pillow's class for the format, so that no other ever sees the file.

    Raises:
        PhotoError: damaged or cut short, too large, or of colours that cannot be denoised.
    """
    notes = []
    try:
        with decoder(io.BytesIO(content)) as image:
            check_size(path, content, image.size, 4)
            frames = getattr(image, "n_frames", 1)
            image.seek(0)
            image.load()
            mode = _MODES.get(image.mode, image.mode)
            if mode == "P":
                mode = "RGBA" if "transparency" in image.info else "RGB"
                notes.append("palette turned into RGB")
            array = np.asarray(image.convert(mode) if mode != image.mode else image)
            info = image.info
    except _MALFORMED as error:
        raise PhotoError(
            f"{path}: not a picture, damaged or cut short ({' '.join(str(error).split())})",
            "copy it again from its source",
        ) from error
    if mode not in _READABLE:
        raise PhotoError(f"{path}: {mode} colours", "convert it to RGB first")
    if frames > 1:
        notes.append(f"only the first of {frames} frames is kept")
    array = array[..., None] if array.ndim == 2 else array
    colours = 3 if array.shape[2] >= 3 else 1
    return Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if array.shape[2] > colours else None,
        dpi=info.get("dpi"),
        notes=tuple(notes),
    )


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
