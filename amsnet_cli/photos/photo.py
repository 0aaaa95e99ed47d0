"""A photo in memory: pixels as the file stores them, and the metadata beside them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from amsnet_cli.photos.colour import suits

Pixels = NDArray[Any]
"""(H, W, C), C = 1 or 3; uint8, uint16 or float32."""
RESOLUTIONS = (0.1, 1e6)
"""Dots an inch of any picture: from walls to microscopes."""
COMMENT = "Comment"
"""Keyword of a comment without one, as PNG has it."""
Attribute = tuple[str, str, bytes]
"""Name, type and bytes of an attribute of OpenEXR."""
FOURTH_CHANNELS: tuple[Literal["unspecified", "associated", "transparency"], ...] = (
    "unspecified",
    "associated",
    "transparency",
)
"""Meanings of the channel behind the colours, in the order of TIFF's ExtraSamples."""


@dataclass(frozen=True, kw_only=True)
class JpegCoding:
    """Quantisation of a JPEG file.

    Attributes:
        luma: 64 quantisation steps of the brightness, row by row; a smaller step is finer.
        chroma: the steps of the colours.
        progressive: whether the file is coded in several scans.
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
        alpha: (H, W) of the same dtype, the channel behind the colours, or None.
        fourth_channel: its meaning: "transparency"; "associated", transparency by which the
            colours are multiplied; or "unspecified", such as the infrared of film scanners.
        icc: the colour profile.
        exif: a TIFF-structured EXIF block without the "Exif" prefix; byte for byte as found
            in JPEG, PNG, WebP and AVIF.
        xmp: an XMP packet.
        iptc: an IPTC-IIM record.
        resources: Photoshop's image resources, without what the photo holds elsewhere.
        texts: keywords and texts, as PNG's text chunks and JPEG's comments hold them.
        attributes: OpenEXR's, but those that are texts.
        orientation: the EXIF code, 1 to 8.
        dpi: horizontal and vertical resolution, None where the file does not say.
        bits: bits a channel when written, None for as many as the pixels have. RAW files are
            developed into float32, which can be below black, and written with 16 bits.
        jpeg: the quantisation of a JPEG file, None for other formats.
        quantisation_step: mean quantisation step of the brightness in a lossy file, in [0, 1]
            units; 0 where the format does not say (WebP, AVIF, HEIC), None for lossless files,
            whose pixels may show an earlier JPEG compression (`photos.jpeg_history`).
        lossless: whether the file is a lossless WebP.
        notes: what reading changed, as lines for people.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    fourth_channel: Literal["unspecified", "associated", "transparency"] = "transparency"
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resources: bytes | None = None
    texts: tuple[tuple[str, str], ...] = ()
    attributes: tuple[Attribute, ...] = ()
    orientation: int = 1
    dpi: tuple[float, float] | None = None
    bits: int | None = None
    jpeg: JpegCoding | None = None
    quantisation_step: float | None = None
    lossless: bool = False
    notes: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """Bits a channel when written: 8, 16 or 32."""
        return self.bits or 8 * self.pixels.dtype.itemsize

    @property
    def samples(self) -> Pixels:
        """Pixels with transparency as their last channel; without any, the pixels, not a copy."""
        if self.alpha is None:
            return self.pixels
        return np.concatenate([self.pixels, self.alpha[..., None]], 2)


def photo_of(samples: Pixels, **others: Any) -> Photo:
    """Make a photo of colours with transparency, if any, as their last channel.

    Args:
        samples: (H, W) or (H, W, C), C = 1 to 4.
        others: attributes of the photo.
    """
    samples = samples[..., None] if samples.ndim == 2 else samples
    colours = 3 if samples.shape[2] >= 3 else 1
    return Photo(
        pixels=np.ascontiguousarray(samples[..., :colours]),
        alpha=np.ascontiguousarray(samples[..., -1]) if samples.shape[2] > colours else None,
        **others,
    )


def without_metadata(photo: Photo) -> Photo:
    """Remove all metadata but profile, orientation and resolution."""
    return replace(photo, exif=None, xmp=None, iptc=None, resources=None, texts=(), attributes=())


def with_usable_resolution(photo: Photo) -> Photo:
    """Remove a resolution that no picture has, with a note."""
    low, high = RESOLUTIONS
    if photo.dpi is None or all(low <= dots <= high for dots in photo.dpi):
        return photo
    note = "its resolution is damaged: left out"
    return replace(photo, dpi=None, notes=(*photo.notes, note))


def with_usable_profile(photo: Photo) -> Photo:
    """Remove a colour profile that is damaged or not for this number of channels, with a note."""
    if photo.icc is None or suits(photo.icc, photo.pixels.shape[2]):
        return photo
    note = "the colour profile is damaged or of another kind: left out"
    return replace(photo, icc=None, notes=(*photo.notes, note))
