"""Decode the pixels of one directory of a TIFF file.

libtiff, which libvips brings, decodes the usual compressions; tifffile with imagecodecs the others.
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import ifd, vips
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.photos.formats.tiff_damage import (
    DEFLATE,
    JPEG,
    LZW,
    PACKBITS,
    WEBP,
    check_segments,
)
from amsnet_cli.photos.ifd import Directory, Entry
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import FOURTH_CHANNELS, Photo, Pixels

_OLD_JPEG = 6
_LIBTIFF = frozenset({1, 2, 3, 4, LZW, JPEG, *DEFLATE, PACKBITS, WEBP})
"""Compressions of the libtiff in libvips' wheels."""
_IMAGECODECS = {
    **{34887: "LERC", 34925: "LZMA", 34926: "Zstandard", 50000: "Zstandard", 34933: "PNG"},
    **{34712: "JPEG 2000", 33003: "JPEG 2000", 33005: "JPEG 2000"},
    **{50002: "JPEG XL", 52546: "JPEG XL"},
}
"""Compressions that imagecodecs decodes, by their names."""
_REFUSED = {_OLD_JPEG: "old-style JPEG", 34661: "JBIG", 34934: "JPEG XR", 22610: "JPEG XR"}
_LAYOUT = frozenset(
    {
        *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 280, 281, 284, 292, 293, 317, 320),
        *(322, 323, 324, 325, 332, 338, 339, 340, 341, 347, 529, 530, 531, 532, 34675, 50674),
    }
)
"""Tags that the pixels depend on."""
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _MASK, _CMYK, _YCBCR = range(7)
_OTHER_COLOURS = {**dict.fromkeys((8, 9, 10), "LAB"), **dict.fromkeys((32844, 32845), "LogLuv")}
_SIGNED, _FLOAT = 2, 3
_COMPLEX = (5, 6)
"""SampleFormats of complex integers and floats."""
_ASSOCIATED = 1
_MALFORMED: tuple[type[Exception], ...] = (*MALFORMED, zlib.error, ImportError)
"""What tifffile and imagecodecs raise on malformed files."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())


def decode(path: Path, content: bytes, page: Directory, *, alone: bool) -> Photo:
    """Decode the pixels of one directory.

    Args:
        path: for messages.
        content: the file.
        page: the directory of the picture.
        alone: whether the file has no other.

    Returns:
        Pixels and transparency; a profile only where CMYK became sRGB.

    Raises:
        PhotoError: damaged or cut short; of colours or a type that cannot be denoised faithfully;
            or of a compression that needs the extra `codecs`.
    """
    order = ifd.byte_order(content)
    tags = {tag: item for tag, item in page.items() if tag in _LAYOUT}
    photometric = ifd.first_number(tags.get(262), order, _BLACK_IS_ZERO)
    compression = ifd.first_number(tags.get(259), order, 1)
    _check_kind(path, photometric, compression)
    sample_format = ifd.first_number(tags.get(339), order, 1)
    if sample_format in _COMPLEX:
        raise PhotoError(f"{path}: complex numbers", "save their amplitude")
    width, height = (ifd.first_number(tags.get(tag), order, 0) for tag in (256, 257))
    check_size(path, content, (width, height), 1)
    check_segments(path, content, tags, order)
    is_float = sample_format == _FLOAT
    inverted = sample_format in (_SIGNED, _FLOAT) and photometric == _WHITE_IS_ZERO
    if inverted:  # libvips would take floats from 0, and not from 1, and leave signed integers.
        tags[262] = Entry(type=ifd.SHORT, count=1, value=struct.pack(order + "H", _BLACK_IS_ZERO))
    kind = ifd.first_number(tags.get(338), order, 0)
    if kind == _ASSOCIATED:  # libvips would divide the colours by it.
        tags[338] = Entry(type=ifd.SHORT, count=1, value=struct.pack(order + "H", 0))
    planar_tiles = 322 in tags and ifd.first_number(tags.get(284), order, 1) == 2
    bits = ifd.first_number(tags.get(258), order, 1)
    samples = ifd.first_number(tags.get(277), order, 1)
    plain = bits in (8, 16, 32) or (bits in (1, 2, 4) and samples == 1)
    if compression not in _LIBTIFF or planar_tiles or not plain:
        single = _with_one_directory(content, tags, order)
        shown = _BLACK_IS_ZERO if inverted else photometric
        photo = _with_tifffile(path, single, compression, shown)
    elif alone and not inverted and kind != _ASSOCIATED:
        try:  # Large files are not copied without need.
            photo = _with_libvips(path, content)
        except PhotoError:  # It may only be warned of unknown tags.
            photo = _with_libvips(path, _with_one_directory(content, tags, order))
    else:
        photo = _with_libvips(path, _with_one_directory(content, tags, order))
    photo = replace(photo, dpi=None, orientation=1, exif=None, xmp=None)
    if photometric != _CMYK:
        photo = replace(photo, icc=None)
    if photometric == _PALETTE:
        photo = replace(photo, notes=(*photo.notes, "palette turned into RGB"))
    if inverted:
        photo = replace(photo, pixels=(1 if is_float else -1) - photo.pixels)
    if photo.alpha is None or kind >= len(FOURTH_CHANNELS):
        return photo
    return replace(photo, fourth_channel=FOURTH_CHANNELS[kind])


def _check_kind(path: Path, photometric: int, compression: int) -> None:
    """Raise `PhotoError` for colours and compressions that no decoder here reads."""
    if photometric == _YCBCR and compression not in (_OLD_JPEG, JPEG):
        raise PhotoError(f"{path}: YCbCr colours that are not JPEG", "convert it to RGB first")
    if photometric == _MASK:
        raise PhotoError(f"{path}: a mask, not a picture", "export the picture itself")
    if photometric in _OTHER_COLOURS:
        raise PhotoError(
            f"{path}: {_OTHER_COLOURS[photometric]} colours", "convert it to RGB first"
        )
    if compression not in _LIBTIFF | _IMAGECODECS.keys():
        name = _REFUSED.get(compression, f"compression {compression}")
        raise PhotoError(f"{path}: TIFF with {name}", "save it with LZW or deflate")


def _with_one_directory(content: bytes, tags: Directory, order: str) -> bytes:
    """Make the tags the only directory of a file, so that decoders see no other.

    BigTIFF of less than 4 GB becomes classic TIFF.
    """
    if len(content) >> 32:
        return content
    narrow: Directory = {}
    for tag, item in tags.items():
        if isinstance(item, Entry) and item.type in (16, 17, 18):
            value = np.frombuffer(item.value, f"{order}u8").astype(f"{order}u4").tobytes()
            narrow[tag] = Entry(type=ifd.LONG, count=item.count, value=value)
        else:
            narrow[tag] = item
    header = content[:2] + struct.pack(order + "HI", 42, 0)
    return ifd.append_tree(header + content[8:], narrow)


def _with_libvips(path: Path, content: bytes) -> Photo:
    image = vips.open_image(
        path, content, pyvips.Image.tiffload_buffer, fail_on="warning", unlimited=True
    )
    return vips.decode(path, image)


def _with_tifffile(path: Path, content: bytes, compression: int, photometric: int) -> Photo:
    if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
        raise PhotoError(
            f"{path}: colours that cannot be read in this TIFF", "convert it to RGB first"
        )
    import tifffile

    name = _IMAGECODECS.get(compression, "a layout that libtiff cannot read")
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page = file.pages.first
            samples = page.samplesperpixel
            size = (page.imagewidth, page.imagelength)
            check_size(path, content, size, samples * np.dtype(page.dtype or np.uint8).itemsize)
            array, bits = page.asarray(), page.bitspersample
        if array.ndim == 3 and array.shape[0] == samples != array.shape[2]:
            array = np.moveaxis(array, 0, 2)  # (C, H, W) -> (H, W, C)
        array = array.reshape(size[1], size[0], samples)
        array = array.view(np.uint8) if array.dtype == np.bool_ else array
        if array.dtype in (np.uint8, np.uint16) and bits < 8 * array.itemsize:
            largest = np.iinfo(array.dtype).max
            scaled = np.rint(array * (largest / ((1 << bits) - 1)))
            array = scaled.clip(0, largest).astype(array.dtype)
    except ImportError as error:
        raise package_missing(path, f"TIFF with {name}") from error
    except _MALFORMED as error:
        reason = " ".join(str(error).split())
        if "requires the 'imagecodecs' package" in reason:
            raise package_missing(path, f"TIFF with {name}") from error
        raise PhotoError(
            f"{path}: damaged or cut short ({name}: {reason})", "copy it again from its source"
        ) from error
    return _photo_of(path, array, inverted=photometric == _WHITE_IS_ZERO)


def _photo_of(path: Path, array: Pixels, *, inverted: bool) -> Photo:
    """Split samples (H, W, C) into colours and a fourth channel, as 8 or 16 bits or float."""
    samples = array.shape[2]
    if samples > 4:
        raise PhotoError(f"{path}: {samples} channels", "convert it to RGB or grey first")
    notes: tuple[str, ...] = ()
    dtype = array.dtype.newbyteorder("=")
    target = dtype if dtype in (np.uint8, np.uint16, np.float32) else np.dtype(np.float32)
    if inverted:
        array = ~array
    if target != dtype:
        notes = (f"{dtype} pixels turned into float32",)
    array = array.astype(target)
    colours = 3 if samples >= 3 else 1
    return Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if samples > colours else None,
        notes=notes,
    )
