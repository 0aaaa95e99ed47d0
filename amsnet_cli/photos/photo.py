"""The picture in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.errors import PhotoError
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

    @property
    def step(self) -> float:
        """Mean quantisation step of the brightness, in [0, 1] units."""
        return sum(self.luma) / len(self.luma) / 255


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
        quantisation_step: mean quantisation step that the file's brightness was coded with, in [0, 1]
            units; 0 of lossy files that are not asked (WebP, AVIF, HEIC), None of lossless ones
            (whose pixels may tell of earlier files: `photos.traces`).
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
    quantisation_step: float | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits of a channel when written: 8, 16 or 32."""
        return self.bits or 8 * self.pixels.dtype.itemsize


def unit_limits(photo: Photo) -> tuple[float, float]:
    """Tell which values 0 and 1 stand for once the largest integer is 1 and light is encoded.

    Returns:
        0 and 1; for float pictures farther apart where they go beyond.
    """
    if photo.pixels.dtype != np.float32:
        return 0.0, 1.0
    ends = np.array([photo.pixels.min(), photo.pixels.max()])
    if colour.is_linear(photo.icc):
        ends = colour.encode(ends)
    return min(0.0, float(ends[0])), max(1.0, float(ends[1]))


def unit_range(photo: Photo) -> tuple[NDArray[np.float32], float, float]:
    """Map pixels to [0, 1] as networks know them: linear light is bent by sRGB's curve.

    Returns:
        (H, W, C) float32 in [0, 1], and the low and high of `unit_limits`.
    """
    low, high = unit_limits(photo)
    return unit_part(photo, photo.pixels, low, high), low, high


def unit_part(photo: Photo, pixels: Pixels, low: float, high: float) -> NDArray[np.float32]:
    """Map some of a photo's pixels to [0, 1], see `unit_range`.

    Args:
        photo: says what the values mean.
        pixels: any part of `photo.pixels`.
        low: of `unit_limits`.
        high: of `unit_limits`.
    """
    scaled = pixels.astype(np.float32)
    if pixels.dtype != np.float32:
        scaled /= np.iinfo(pixels.dtype).max
    if colour.is_linear(photo.icc):
        scaled = colour.encode(scaled)
    scaled -= low
    scaled /= high - low
    return scaled


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


def stored_box(photo: Photo, region: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    """Find a region of the upright picture in the pixels as they are stored.

    Args:
        photo: its orientation says how it is stored (EXIF 2.32, tag Orientation).
        region: x, y, width and height in pixels, from the top left of the upright picture.

    Returns:
        top, bottom, left, right; the ends are exclusive.

    Raises:
        PhotoError: the region is empty or not within the picture.
    """
    height, width = photo.pixels.shape[:2]
    turned = photo.orientation >= 5
    upright = (height, width) if turned else (width, height)
    x, y, across, down = region
    if min(x, y) < 0 or min(across, down) < 1 or x + across > upright[0] or y + down > upright[1]:
        raise PhotoError(
            f"{across}x{down} pixels at {x},{y} are not within the picture",
            f"it has {upright[0]}x{upright[1]}",
        )
    columns, rows = (x, x + across), (y, y + down)
    if photo.orientation in (2, 3, 6, 7):
        columns = (upright[0] - columns[1], upright[0] - columns[0])
    if photo.orientation in (3, 4, 7, 8):
        rows = (upright[1] - rows[1], upright[1] - rows[0])
    return (*columns, *rows) if turned else (*rows, *columns)


def cropped(photo: Photo, box: tuple[int, int, int, int]) -> Photo:
    """Cut out a part, as a view.

    Args:
        photo: any.
        box: as from `stored_box`.
    """
    area = np.s_[box[0] : box[1], box[2] : box[3]]
    alpha = None if photo.alpha is None else photo.alpha[area]
    return replace(photo, pixels=photo.pixels[area], alpha=alpha)


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """Turn and mirror pixels as the EXIF orientation says, as a view.

    Args:
        pixels: (H, W, ...).
        orientation: 1 to 8.
    """
    turned = np.swapaxes(pixels, 0, 1) if orientation >= 5 else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return turned[rows, columns]


def without_metadata(photo: Photo) -> Photo:
    """Leave out EXIF, XMP and IPTC; the colours, the orientation and the resolution stay."""
    return replace(photo, exif=None, xmp=None, iptc=None)
