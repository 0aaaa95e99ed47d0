"""The picture in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

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
        quantisation_step: mean quantisation step of the brightness in a lossy file, in [0, 1]
            units; 0 where the format does not say (WebP, AVIF, HEIC), None of lossless files,
            whose pixels may show an earlier JPEG compression (`photos.jpeg_history`).
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


def without_metadata(photo: Photo) -> Photo:
    """Leave out EXIF, XMP and IPTC; the colours, the orientation and the resolution stay."""
    return replace(photo, exif=None, xmp=None, iptc=None)
