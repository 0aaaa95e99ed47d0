"""Read HEIC photos, with pillow-heif where it is installed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.exif import with_orientation
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import Photo

# Partly of libheif, partly what pillow-heif's own code stumbles over.
_MALFORMED = (
    *(ValueError, RuntimeError, OSError, EOFError, SyntaxError, MemoryError),
    *(LookupError, TypeError, AttributeError, struct.error),
)


def read_heic(path: Path, content: bytes) -> Photo:
    """Read a HEIC or HEIF file; its decoder turns it upright.

    Args:
        path: for messages.
        content: the file.

    Returns:
        8 bits a channel, or 16 for files of 10 and 12.

    Raises:
        PhotoError: pillow-heif is not installed, or cannot read the file.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise PhotoError(
            f"{path}: HEIC needs one more package", 'pip install "amsnet[heic]"'
        ) from error
    try:
        image = pillow_heif.open_heif(content, convert_hdr_to_8bit=False)
        check_size(path, content, image.size, 8)
        array = np.asarray(image)
    except _MALFORMED as error:
        raise PhotoError(
            f"{path}: not a picture, damaged or cut short ({' '.join(str(error).split())})",
            "copy it again from its source",
        ) from error
    array = array[..., None] if array.ndim == 2 else array
    colours = 3 if array.shape[2] >= 3 else 1
    exif = image.info.get("exif") or b""
    return Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if array.shape[2] > colours else None,
        icc=image.info.get("icc_profile") or None,
        exif=with_orientation(exif.removeprefix(b"Exif\0\0") or None, 1),
        xmp=image.info.get("xmp") or None,
        quantisation_step=0.0,
    )
