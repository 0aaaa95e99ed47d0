"""The picture in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[Any]
"""(H, W, C), C = 1 or 3; uint8, uint16 or float32."""


@dataclass(frozen=True, kw_only=True)
class Photo:
    """Pixels as the file stores them, and what must survive beside them.

    Attributes:
        pixels: (H, W, C) with C = 1 (grey) or 3 (RGB in the photo's own colour space), uint8 in
            [0, 255], uint16 in [0, 65535] or float32 of any range; not rotated.
        alpha: (H, W) of the same dtype, or None.
        icc: the colour profile.
        exif: a TIFF-structured EXIF block, without the "Exif" prefix; byte for byte as found
            in JPEG, PNG, WebP and AVIF.
        xmp: an XMP packet.
        orientation: the EXIF code, 1 to 8.
        dpi: horizontal and vertical resolution, None where the file does not say.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    orientation: int = 1
    dpi: tuple[float, float] | None = None

    @property
    def depth(self) -> int:
        """Bits of a channel: 8, 16 or 32."""
        return 8 * self.pixels.dtype.itemsize


def unit_range(photo: Photo) -> tuple[NDArray[np.float32], float, float]:
    """Map pixels to [0, 1].

    Returns:
        (H, W, C) float32 in [0, 1], and the low and high value that 0 and 1 stand for: of the
        integer range, or for float pictures 0 and 1, farther apart only where they go beyond.
    """
    pixels = photo.pixels
    if pixels.dtype == np.float32:
        low = min(0.0, float(pixels.min()))
        high = max(1.0, float(pixels.max()))
    else:
        low, high = 0.0, float(np.iinfo(pixels.dtype).max)
    scaled = pixels.astype(np.float32)
    scaled -= low
    scaled /= high - low
    return scaled, low, high


def with_unit_pixels(
    photo: Photo, pixels: NDArray[np.float32], low: float = 0.0, high: float = 1.0
) -> Photo:
    """Undo `unit_range` for new pixels; integers are rounded and clipped.

    Args:
        photo: gives dtype and everything that is not a pixel.
        pixels: (H, W, C) float32 in [0, 1]; overwritten.
        low: what 0 stands for.
        high: what 1 stands for.
    """
    pixels *= high - low
    pixels += low
    if photo.pixels.dtype != np.float32:
        np.rint(pixels, out=pixels)
        np.clip(pixels, low, high, out=pixels)
    return replace(photo, pixels=pixels.astype(photo.pixels.dtype, copy=False))


def with_depth(photo: Photo, depth: int) -> Photo:
    """Convert to 8 or 16 bits a channel, rounding; float pictures are clipped to [0, 1]."""
    if depth == photo.depth:
        return photo
    dtype, largest = (np.uint8, 255) if depth == 8 else (np.uint16, 65535)

    def convert(pixels: Pixels) -> Pixels:
        if pixels.dtype == np.float32:
            scaled = np.clip(pixels, 0, 1)
        else:
            scaled = pixels.astype(np.float32) / np.iinfo(pixels.dtype).max
        return np.asarray(np.rint(scaled * largest), dtype)

    alpha = None if photo.alpha is None else convert(photo.alpha)
    return replace(photo, pixels=convert(photo.pixels), alpha=alpha)
