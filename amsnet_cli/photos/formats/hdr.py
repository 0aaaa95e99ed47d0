"""Radiance's HDR (RGBE), with imagecodecs where it is installed; only read.

It holds 8 bits a channel and an exponent, which is too coarse to write a denoised photo into.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.colour import BT709
from amsnet_cli.photos.colour_model import ColourModel
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import Photo

_SIGNATURES = (b"#?RADIANCE", b"#?RGBE")
_HEADER_LIMIT = 1 << 16
_SIZE = re.compile(rb"\n\n([-+][XY]) (\d{1,9}) ([-+][XY]) (\d{1,9})\n")
_VARIABLE = re.compile(rb"^([A-Z]+)=\s*(.*?)\s*$", re.M)
_RGBE = b"32-bit_rle_rgbe"
_NAMES = {"FORMAT", "GAMMA"}


def read(path: Path, content: bytes) -> Photo:
    """Decode a picture.

    Args:
        path: for messages.
        content: the file.

    Returns:
        float32 RGB in linear light with Rec. 709's primaries, and a profile that says so.

    Raises:
        PhotoError: imagecodecs is not installed, or cannot read the file; or it is in XYZ, has
            primaries of its own, or is not stored upright.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise package_missing(path, "Radiance HDR") from error
    head = content[:_HEADER_LIMIT]
    match = _SIZE.search(head)
    if match is None:
        raise PhotoError(f"{path}: not a picture, or damaged (no header)", "copy it again")
    variables = dict(_VARIABLE.findall(head[: match.start() + 1]))
    if variables.get(b"FORMAT", _RGBE) != _RGBE or b"PRIMARIES" in variables:
        raise PhotoError(f"{path}: Radiance HDR that is not plain RGB", "convert it to RGB first")
    if (match[1], match[3]) != (b"-Y", b"+X"):
        raise PhotoError(f"{path}: Radiance HDR that is not stored upright", "save it upright")
    height, width = int(match[2]), int(match[4])
    check_size(path, content, (width, height), 12)
    try:
        pixels = np.asarray(imagecodecs.rgbe_decode(content)).reshape(height, width, 3)
    except MALFORMED as error:
        raise PhotoError(
            f"{path}: damaged or cut short ({' '.join(str(error).split())})",
            "copy it again from its source",
        ) from error
    left_out = sorted({name.decode() for name in variables} - _NAMES)
    return Photo(
        pixels=np.ascontiguousarray(pixels, np.float32),
        icc=ColourModel(chromaticities=BT709, curve=(1.0,)).profile(),
        notes=(f"header lines left out: {', '.join(left_out)}",) if left_out else (),
    )


FORMAT = Format(
    name="Radiance HDR",
    suffixes=(".hdr", ".pic"),
    matches=lambda head: head.startswith(_SIGNATURES),
    read=read,
)
