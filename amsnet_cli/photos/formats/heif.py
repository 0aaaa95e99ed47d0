"""What AVIF and HEIC share: the boxes of HEIF (ISO 23008-12)."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from amsnet_cli.photos.colour import profile_of_code_points, unsupported_colours
from amsnet_cli.photos.photo import Photo, with_usable_profile


def brands_of(head: bytes) -> set[bytes]:
    """Return the brands that the file type box at the beginning of a file names."""
    if head[4:8] != b"ftyp" or len(head) < 16:
        return set()
    size = min(struct.unpack_from(">I", head)[0], len(head))
    return {head[8:12], *(head[i : i + 4] for i in range(16, size, 4))}


def with_profile(path: Path, content: bytes, photo: Photo) -> Photo:
    """Drop an unusable colour profile; without any, make one from the code points.

    Raises:
        PhotoError: the code points are those of HDR, or unknown.
    """
    photo = with_usable_profile(photo)
    if photo.icc is not None or b"colrnclx" not in content[:65536]:
        return photo
    try:
        at = content.index(b"colrnclx") + 8
        return replace(photo, icc=profile_of_code_points(*struct.unpack_from(">HH", content, at)))
    except (ValueError, struct.error) as error:
        raise unsupported_colours(path, error) from error
