"""Radiance's HDR (RGBE), with imagecodecs where it is installed; only read.

It holds 8 bits a channel and an exponent, which is too coarse to write a denoised photo into.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.colour import BT709, Chromaticities
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
_SAME = 0.0015
"""Chromaticities nearer than this are those of Rec. 709, rounded."""
_NAMES = {"FORMAT", "GAMMA", "PRIMARIES"}


def read(path: Path, content: bytes) -> Photo:
    """Decode a picture.

    Args:
        path: for messages.
        content: the file.

    Returns:
        float32 RGB in linear light, and a profile of its primaries, Rec. 709's if it states none.

    Raises:
        PhotoError: imagecodecs is not installed, or cannot read the file; or it is in XYZ, is
            not linear, or is not stored upright.
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
    if variables.get(b"FORMAT", _RGBE) != _RGBE:
        raise PhotoError(f"{path}: Radiance HDR that is not plain RGB", "convert it to RGB first")
    chromaticities = _chromaticities(path, variables.get(b"PRIMARIES"))
    if _numbers(variables.get(b"GAMMA", b"1")) != [1.0]:  # ImageMagick's
        raise PhotoError(f"{path}: Radiance HDR that is not linear light", "save it as TIFF or PNG")
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
    left_out = sorted(
        name.decode()
        for name, value in variables.items()
        if name.decode() not in _NAMES and set(_numbers(value)) != {1.0}  # which changes nothing
    )
    return Photo(
        pixels=np.ascontiguousarray(pixels, np.float32),
        icc=ColourModel(chromaticities=chromaticities, curve=(1.0,)).profile(),
        notes=(f"header lines left out: {', '.join(left_out)}",) if left_out else (),
    )


FORMAT = Format(
    name="Radiance HDR",
    suffixes=(".hdr", ".pic"),
    matches=lambda head: head.startswith(_SIGNATURES),
    read=read,
)


def _chromaticities(path: Path, stated: bytes | None) -> Chromaticities:
    """Return those of white and the primaries, of which the file names white last."""
    if stated is None:
        return BT709
    numbers = _numbers(stated)
    if len(numbers) != 8 or not all(0 < number < 1 for number in numbers):
        raise PhotoError(f"{path}: Radiance HDR that is not plain RGB", "convert it to RGB first")
    red_x, red_y, green_x, green_y, blue_x, blue_y, white_x, white_y = numbers
    xy = (white_x, white_y, red_x, red_y, green_x, green_y, blue_x, blue_y)
    is_known = all(abs(a - b) < _SAME for a, b in zip(xy, BT709, strict=True))
    return BT709 if is_known else xy


def _numbers(text: bytes) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []
