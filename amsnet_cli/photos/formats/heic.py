"""Read HEIC photos, with pillow-heif where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.exif import without_thumbnail
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.photos.formats import heif
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.metadata import marked_upright, without_attachments
from amsnet_cli.photos.photo import Photo

_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)


def read(path: Path, content: bytes) -> Photo:
    """Decode a HEIC or HEIF file; the decoder turns it upright.

    Args:
        path: for messages.
        content: the file.

    Returns:
        8 bits a channel, or 16 for files of 10 and 12.

    Raises:
        PhotoError: pillow-heif is not installed or cannot read the file; or it is HDR.
    """
    try:
        import pillow_heif
    except ImportError as error:
        raise package_missing(path, "HEIC", "heic") from error
    try:
        image = pillow_heif.open_heif(content, convert_hdr_to_8bit=False)
        check_size(path, content, image.size, 8)
        array = np.asarray(image)
    except MALFORMED as error:
        raise PhotoError(
            f"{path}: not a picture, damaged or cut short ({' '.join(str(error).split())})",
            "copy it again from its source",
        ) from error
    array = array[..., None] if array.ndim == 2 else array
    notes = []
    if len(image) > 1:
        notes.append(f"only the main one of {len(image)} pictures is kept")
    colours = 3 if array.shape[2] >= 3 else 1
    block = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    photo = Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if array.shape[2] > colours else None,
        icc=image.info.get("icc_profile") or None,
        # Its thumbnail may lie on its side.
        exif=without_thumbnail(block) if block else None,
        xmp=image.info.get("xmp") or None,
        quantisation_step=0.0,
        notes=tuple(notes),
    )
    photo = without_attachments(marked_upright(photo))
    return heif.with_profile(path, content, photo)


FORMAT = Format(
    name="HEIC",
    suffixes=(".heic", ".heif", ".hif"),
    matches=lambda head: bool(heif.brands_of(head) & _BRANDS),
    read=read,
)
