"""Read camera RAW files."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import rawpy
from PIL import ImageCms

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.exif import exif_of_tiff, with_orientation
from amsnet_cli.photos.photo import Photo

RAW_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("3fr", "arw", "cr2", "cr3", "crw", "dcr", "dng", "erf", "fff", "iiq", "kdc", "mef"),
        *("mos", "mrw", "nef", "nrw", "orf", "pef", "raf", "raw", "rw2", "rwl", "sr2", "srf"),
        *("srw", "x3f"),
    )
)


def srgb_profile() -> bytes:
    """Make an ICC profile for sRGB, the same bytes whenever it is made."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    # Bytes 24 to 35 of the header are the time of making (ICC.1, 7.2): six 16-bit numbers.
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


def read_raw(path: Path, content: bytes) -> Photo:
    """Develop a RAW file into sRGB.

    White balance as the camera set it, its black and white levels, no automatic brightening,
    turned upright.

    Args:
        path: for messages.
        content: the file.

    Returns:
        16-bit RGB with an sRGB profile and the camera's EXIF.

    Raises:
        PhotoError: LibRaw cannot open or develop the file.
    """
    try:
        with rawpy.imread(io.BytesIO(content)) as raw:
            pixels = raw.postprocess(
                use_camera_wb=True,
                no_auto_bright=True,
                output_bps=16,
                output_color=rawpy.ColorSpace.sRGB,
                gamma=(2.4, 12.92),
            )
    except rawpy.LibRawError as error:
        reason = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise PhotoError(
            f"{path}: LibRaw cannot develop it ({reason})", "convert it to DNG or TIFF"
        ) from error
    return Photo(
        pixels=np.ascontiguousarray(pixels),
        icc=srgb_profile(),
        exif=with_orientation(exif_of_tiff(content), 1),
    )
