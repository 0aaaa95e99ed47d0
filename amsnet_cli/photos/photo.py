"""The picture in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos import colour

Pixels = NDArray[Any]
"""(H, W, C), C = 1 or 3; uint8, uint16 or float32."""


@dataclass(frozen=True, kw_only=True)
class JpegCoding:
    """How finely a JPEG file was coded.

    Attributes:
        luma: 64 quantisation steps of the brightness, row by row; less is finer.
        chroma: of the colours.
        progressive: in several scans.
    """

    luma: tuple[int, ...]
    chroma: tuple[int, ...]
    progressive: bool = False


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
        iptc: an IPTC-IIM record.
        orientation: the EXIF code, 1 to 8.
        dpi: horizontal and vertical resolution, None where the file does not say.
        bits: of a channel when written, None for as many as the pixels have. RAW files are
            developed into float32, which can be below black, to be written with 16.
        jpeg: how the file was coded, if it is a JPEG.
        lossless: whether the file is a lossless WebP.
        notes: what was changed in reading, for people.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    orientation: int = 1
    dpi: tuple[float, float] | None = None
    bits: int | None = None
    jpeg: JpegCoding | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits of a channel when written: 8, 16 or 32."""
        return self.bits or 8 * self.pixels.dtype.itemsize


def unit_range(photo: Photo) -> tuple[NDArray[np.float32], float, float]:
    """Map pixels to [0, 1] as networks know them: linear light is bent by sRGB's curve.

    Returns:
        (H, W, C) float32 in [0, 1], and the low and high value that 0 and 1 stand for: of the
        integer range, or for float pictures 0 and 1, farther apart only where they go beyond.
    """
    pixels = photo.pixels.astype(np.float32)
    if photo.pixels.dtype != np.float32:
        pixels /= np.iinfo(photo.pixels.dtype).max
    if colour.is_linear(photo.icc):
        pixels = colour.encode(pixels)
    if photo.pixels.dtype != np.float32:
        return pixels, 0.0, 1.0
    low, high = min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))
    pixels -= low
    pixels /= high - low
    return pixels, low, high


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
    if colour.is_linear(photo.icc):
        pixels = colour.decode(pixels)
    if photo.pixels.dtype != np.float32:
        largest = np.iinfo(photo.pixels.dtype).max
        pixels *= largest
        np.rint(pixels, out=pixels)
        np.clip(pixels, 0, largest, out=pixels)
    return replace(photo, pixels=pixels.astype(photo.pixels.dtype, copy=False))


def with_depth(photo: Photo, depth: int) -> Photo:
    """Convert to 8, 16 or 32 bits a channel; integers are rounded, and clipped to [0, 1].

    Args:
        photo: any depth.
        depth: 8 and 16 are integers, 32 is float32 with 1 for the largest integer.
    """
    if depth == 8 * photo.pixels.dtype.itemsize:
        return replace(photo, bits=None)

    def convert(pixels: Pixels) -> Pixels:
        scaled = pixels.astype(np.float32)
        if pixels.dtype != np.float32:
            scaled /= np.iinfo(pixels.dtype).max
        if depth == 32:
            return scaled
        dtype: type[np.unsignedinteger[Any]] = np.uint8 if depth == 8 else np.uint16
        np.clip(scaled, 0, 1, out=scaled)
        scaled *= np.iinfo(dtype).max
        return np.rint(scaled, out=scaled).astype(dtype)

    alpha = None if photo.alpha is None else convert(photo.alpha)
    return replace(photo, pixels=convert(photo.pixels), alpha=alpha, bits=None)


def without_metadata(photo: Photo) -> Photo:
    """Leave out EXIF, XMP and IPTC; the colours, the orientation and the resolution stay."""
    return replace(photo, exif=None, xmp=None, iptc=None)
