"""Write DNG files (Adobe's DNG 1.7 specification): a mosaic, and what its source says beside it."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from amsnet_cli.errors import OutputError
from amsnet_cli.photos import dng_tags, exif, ifd
from amsnet_cli.photos.formats import raw
from amsnet_cli.photos.formats.dng_mosaic import CodedMosaic
from amsnet_cli.photos.formats.dng_replace import replace_pictures
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.formats.raw_exif import exif_of
from amsnet_cli.photos.formats.tiff import XMP
from amsnet_cli.photos.ifd import Directory, Entry
from amsnet_cli.photos.ifd_entries import doubles, longs, octets, rationals, shorts, text
from amsnet_cli.photos.mosaic import XYZ_TO_SRGB, Mosaic, MosaicPhoto
from amsnet_cli.photos.photo import Photo

PREVIEW_SIDE = 1024
"""Longest side of the preview of a file that had none, in pixels."""
PREVIEW_QUALITY = 90


def dng_of(source: Path, content: bytes, mosaic: Mosaic, software: str = "") -> bytes:
    """Return a mosaic as a DNG file.

    Of a DNG file everything is kept but the mosaic, its NoiseProfile and digests, and the previews,
    which are made anew; nothing that is kept moves, as maker notes count on it. Of other files
    there is a new one of what LibRaw and EXIF say. The mosaic is compressed without loss where
    imagecodecs is installed.

    Args:
        source: the file that `mosaic` was read from, for messages.
        content: that file.
        mosaic: as from `raw.read_mosaic`, with other values.
        software: for the Software tag; empty to keep what was there.

    Raises:
        PhotoError: the preview cannot be developed.
        OutputError: a DNG file's tags contradict its mosaic.
    """
    preview = raw.develop_preview(source, content, mosaic)
    tags = dng_tags.read(content)
    if tags is None:
        return _new_file(content, mosaic, preview, software)
    if tags.size != mosaic.frame.shape:
        raise OutputError(f"{source}: its mosaic has another size than it says", "write a TIFF")

    def preview_of(size: tuple[int, int], as_jpeg: bool) -> tuple[dict[int, Entry], bytes]:
        return _preview(preview, size, tags.order, as_jpeg=as_jpeg)

    return replace_pictures(content, tags, mosaic, preview_of, software)


def write(photo: Photo) -> bytes:
    """Encode a RAW photo; see `dng_of`.

    Raises:
        ValueError: it is no RAW photo, or was developed.
    """
    if not isinstance(photo, MosaicPhoto):
        raise ValueError("only mosaics of RAW files can become DNG")
    return dng_of(Path("DNG"), photo.content, photo.mosaic, exif.software_of(photo.exif))


FORMAT = Format(
    name="DNG",
    suffixes=(".dng",),
    matches=lambda head: False,
    read=raw.read,
    write=write,
    depths=(16,),
    fourth_channels=(),
)


def _new_file(
    content: bytes, mosaic: Mosaic, preview: NDArray[np.uint8], software: str = ""
) -> bytes:
    order = "<"
    height, width = mosaic.frame.shape
    top, bottom, left, right = mosaic.crop
    neutral = mosaic.neutral or (1.0, 1.0, 1.0)
    camera = " ".join(dict.fromkeys(word for word in (mosaic.make, mosaic.model) if word))
    described = _described(content, order)
    scale = min(1, PREVIEW_SIDE / max(preview.shape[:2]))
    size = max(1, round(preview.shape[0] * scale)), max(1, round(preview.shape[1] * scale))
    preview_tags, picture = _preview(preview, size, order, as_jpeg=True)
    pixels = CodedMosaic(mosaic.frame, order, period=mosaic.colours.shape[1])
    pixels_at = 8 + len(picture) + len(picture) % 2
    preview_tags |= {254: longs(1), 273: longs(8)}
    tree: Directory = {
        254: longs(0), 256: longs(width), 257: longs(height),
        262: shorts(dng_tags.LINEAR_RAW if mosaic.monochrome else dng_tags.CFA),
        271: text(mosaic.make or "Unknown"), 272: text(mosaic.model or "Unknown"),
        274: shorts(mosaic.orientation), 277: shorts(1),
        282: rationals([300]), 283: rationals([300]),
        284: shorts(1), 296: shorts(2), dng_tags.SUB_IFDS: {**preview_tags},
        50706: octets(1, 4, 0, 0), 50707: octets(1, 2, 0, 0), 50708: text(camera or "Unknown"),
        50713: shorts(*mosaic.black.shape), 50714: rationals(mosaic.black.ravel()),
        50717: longs(mosaic.white), 50718: rationals([1, 1]),
        50719: longs(left, top), 50720: longs(right - left, bottom - top),
        50730: rationals([mosaic.baseline_exposure], signed=True),
        50829: longs(mosaic.area[0], mosaic.area[2], mosaic.area[1], mosaic.area[3]),
    }  # fmt: skip
    tree |= pixels.tags(pixels_at)
    if not mosaic.monochrome:
        pattern = np.where(mosaic.colours == 3, 1, mosaic.colours)
        matrix = mosaic.colour_matrices[0].matrix if mosaic.colour_matrices else XYZ_TO_SRGB
        tree |= {
            33421: shorts(*pattern.shape), 33422: octets(*pattern.ravel()),
            50710: octets(0, 1, 2), 50711: shorts(1), 50721: rationals(matrix, signed=True),
            50728: rationals(neutral), 50778: shorts(dng_tags.D65),
        }  # fmt: skip
    if software:
        tree[exif.SOFTWARE] = text(software)
    if mosaic.noise_profile:
        tree[dng_tags.NOISE_PROFILE] = doubles(np.ravel(mosaic.noise_profile))
    padding = b"\0" * (len(picture) % 2)
    start = b"II" + struct.pack("<HI", 42, 0) + picture + padding + pixels.data
    return ifd.append_tree(start, described | tree)


def _described(content: bytes, order: str) -> Directory:
    """Return the tags of EXIF and XMP of a file that is no DNG."""
    described: Directory = {}
    block = exif_of(content)
    if block is not None and exif.is_sound(block):
        described = ifd.reordered(ifd.read_tree(block), ifd.byte_order(block), order)
    packet = ifd.value_of(content, XMP)
    if packet is not None:
        described[XMP] = Entry(type=1, count=len(packet), value=packet)
    return described


def _preview(
    pixels: NDArray[np.uint8], size: tuple[int, int], order: str, *, as_jpeg: bool
) -> tuple[dict[int, Entry], bytes]:
    """Make the tags and the data of a preview.

    Args:
        pixels: (H, W, 1) or (H, W, 3).
        size: height and width that it is to have.
        order: the file's byte order.
        as_jpeg: compress it.
    """
    height, width = size
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3)
    channels = len(image.getbands())
    if as_jpeg:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=PREVIEW_QUALITY, subsampling=0)
        data = file.getvalue()
    else:
        data = image.tobytes()
    kind = 1 if channels == 1 else 6 if as_jpeg else 2  # grey, YCbCr, RGB
    tags = {
        256: longs(width, order=order), 257: longs(height, order=order),
        258: shorts(*[8] * channels, order=order), 259: shorts(7 if as_jpeg else 1, order=order),
        262: shorts(kind, order=order), 277: shorts(channels, order=order),
        278: longs(height, order=order), 279: longs(len(data), order=order),
        284: shorts(1, order=order),
    }  # fmt: skip
    if kind == 6:
        tags[530] = shorts(1, 1, order=order)
    return tags, data
