"""Photoshop's PSD and PSB: the flattened picture that they hold beside their layers; only read.

Adobe Photoshop File Formats Specification, 2019.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.colour import BT709
from amsnet_cli.photos.colour_model import ColourModel
from amsnet_cli.photos.exif import orientation_of
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.image_resources import kept_resources
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import Photo, Pixels, photo_of, with_usable_profile

SIGNATURE = b"8BPS"
_MODES = {0: "bitmap", 2: "indexed", 4: "CMYK", 7: "multichannel", 8: "duotone", 9: "LAB"}
_GREY, _RGB = 1, 3
_DTYPES: dict[int, np.dtype[Any]] = {
    8: np.dtype(np.uint8),
    16: np.dtype(">u2"),
    32: np.dtype(">f4"),
}
_RESOLUTION, _IPTC, _ICC, _VERSION, _EXIF, _XMP = 1005, 1028, 1039, 1057, 1058, 1060
_ROUNDING = 2 / 255
"""By which a colour may be darker than the white that shines through it, of 1."""
_FEW = 0.001
"""Share of the pixels that may be darker yet."""
_RAW, _RUN_LENGTHS, _ZIP, _ZIP_PREDICTED = range(4)


def read(path: Path, content: bytes) -> Photo:
    """Decode the flattened picture.

    Args:
        path: for messages.
        content: the file.

    Returns:
        Grey or RGB of 8, 16 or 32 bits a channel, with profile, EXIF, XMP, IPTC and resolution.

    Raises:
        PhotoError: damaged or cut short, of other colours, or saved without a flattened picture.
    """
    try:
        version, channels, height, width, bits, mode = struct.unpack_from(">H6xHIIHH", content, 4)
        _, at = _section(content, 26, ">I")
        resources, at = _section(content, at, ">I")
        layers, at = _section(content, at, ">I" if version == 1 else ">Q")
        blocks = _blocks(resources)
        if mode not in (_GREY, _RGB) or bits not in _DTYPES or version not in (1, 2):
            kind = _MODES.get(mode, "other") if mode not in (_GREY, _RGB) else f"{bits}-bit"
            raise PhotoError(f"{path}: PSD with {kind} colours", "convert it to RGB first")
        if blocks.get(_VERSION, b"\0\0\0\1\1")[4:5] == b"\0":
            raise PhotoError(
                f"{path}: PSD without a flattened picture", "save it with maximum compatibility"
            )
        check_size(path, content, (width, height), channels * bits // 8)
        colours = 3 if mode == _RGB else 1
        if min(width, height) < 1 or channels < colours:
            raise ValueError(f"{width}x{height} pixels of {channels} channels")
        # Where the number of layers is negative, the first further channel is transparency.
        shows_through = channels > colours and _layer_count(layers, version) < 0
        planes = _planes(content[at:], (channels, height, width), _DTYPES[bits], version)
        samples = np.moveaxis(planes[: colours + shows_through], 0, 2)
    except (struct.error, ValueError, zlib.error) as error:
        raise PhotoError(
            f"{path}: not a picture, damaged or cut short ({error})",
            "copy it again from its source",
        ) from error
    notes = []
    if _layer_count(layers, version):
        notes.append("the layers are left out, the flattened picture is kept")
    if channels > colours + shows_through:
        notes.append(f"{channels - colours - shows_through} further channels are left out")
    exif, icc = blocks.get(_EXIF), blocks.get(_ICC)
    if bits == 32 and icc is None:
        model = ColourModel(chromaticities=BT709 if mode == _RGB else None, curve=(1.0,))
        icc = model.profile()  # Photoshop's 32 bits are linear light.
    photo = photo_of(
        samples.astype(samples.dtype.newbyteorder("=")),
        icc=icc,
        exif=exif,
        xmp=blocks.get(_XMP),
        iptc=blocks.get(_IPTC),
        resources=kept_resources(resources),
        orientation=orientation_of(exif) if exif else 1,
        dpi=_dpi(blocks.get(_RESOLUTION)),
        notes=tuple(notes),
    )
    return with_usable_profile(_without_white(photo))


FORMAT = Format(
    name="PSD",
    suffixes=(".psd", ".psb"),
    matches=lambda head: head[:4] == SIGNATURE,
    read=read,
)


def _section(content: bytes, at: int, form: str) -> tuple[bytes, int]:
    """Return a section behind its length, and where the next begins."""
    (length,) = struct.unpack_from(form, content, at)
    start = at + struct.calcsize(form)
    if start + length > len(content):
        raise ValueError("a section is cut short")
    return content[start : start + length], start + length


def _blocks(resources: bytes) -> dict[int, bytes]:
    """Return the image resources by their numbers."""
    blocks, at = {}, 0
    while at + 12 <= len(resources):
        (number,) = struct.unpack_from(">4xH", resources, at)
        at += 6 + (resources[at + 6] // 2 + 1) * 2  # the name, padded to an even length
        blocks[number], at = _section(resources, at, ">I")
        at += at % 2
    return blocks


def _layer_count(layers: bytes, version: int) -> int:
    length = struct.calcsize(">I" if version == 1 else ">Q")
    if len(layers) < length + 2 or not any(layers[:length]):
        return _count_of_deep_layers(layers[length:])
    return int(struct.unpack_from(">h", layers, length)[0])


def _count_of_deep_layers(rest: bytes) -> int:
    """Return the number of layers of 16 and 32 bits, which have a block of their own."""
    for key in (b"Lr16", b"Lr32"):
        at = rest.find(b"8BIM" + key)
        if at >= 0 and len(rest) >= at + 14:
            return int(struct.unpack_from(">h", rest, at + 12)[0])
    return 0


def _planes(
    body: bytes, shape: tuple[int, int, int], dtype: np.dtype[np.generic], version: int
) -> Pixels:
    """Decode planes of `shape` (channels, height, width)."""
    (compression,) = struct.unpack_from(">H", body)
    body = body[2:]
    channels, height, width = shape
    row = width * dtype.itemsize
    if compression == _RUN_LENGTHS:
        form = f">{channels * height}{'H' if version == 1 else 'I'}"
        lengths = struct.unpack_from(form, body)
        at, parts = struct.calcsize(form), []
        for length in lengths:
            parts.append(_unpacked(body[at : at + length], length, row))
            at += length
        body = b"".join(parts)
    elif compression in (_ZIP, _ZIP_PREDICTED):
        decoder = zlib.decompressobj()
        body = decoder.decompress(body, channels * height * row)
        if not decoder.eof and decoder.decompress(decoder.unconsumed_tail, 1):
            raise ValueError("too many pixels")
        if not decoder.eof:
            raise ValueError("the compressed pixels are cut short")
    elif compression != _RAW:
        raise ValueError(f"compression {compression}")
    missing = channels * height * row - len(body)
    if missing > 0:
        raise ValueError(f"{missing} bytes of pixels are missing")
    if compression == _ZIP_PREDICTED:
        return _unpredicted(body, shape, dtype)
    return np.frombuffer(body, dtype, channels * height * width).reshape(shape)


def _unpacked(part: bytes, length: int, row: int) -> bytes:
    """Decode a row in PackBits, which must give exactly its bytes."""
    if len(part) < length:
        raise ValueError("a row is cut short")
    out, at = bytearray(), 0
    while at < length:
        head = part[at]
        if head < 128:
            out += part[at + 1 : at + 2 + head]
            at += head + 2
        else:
            if head > 128:
                out += part[at + 1 : at + 2] * (257 - head)
            at += 2 if head > 128 else 1
    if at != length or len(out) != row:
        raise ValueError("a row of another length")
    return bytes(out)


def _unpredicted(body: bytes, shape: tuple[int, int, int], dtype: np.dtype[np.generic]) -> Pixels:
    """Undo the differences along rows; those of floats are of bytes, the highest bytes first."""
    channels, height, width = shape
    if dtype.kind == "f":
        steps = np.frombuffer(body, np.uint8).reshape(channels, height, -1)
        whole = np.cumsum(steps, 2, dtype=np.uint8).reshape(channels, height, 4, width)
        return np.ascontiguousarray(np.moveaxis(whole, 2, 3)).view(dtype)[..., 0]
    steps = np.frombuffer(body, dtype).reshape(shape)
    return np.cumsum(steps, 2, dtype=dtype.newbyteorder("="))


def _without_white(photo: Photo) -> Photo:
    """Undo the white behind half-transparent colours of a flattened picture.

    Some programs put none there (ImageMagick). Then colours are darker than white shines through.
    """
    if photo.alpha is None:
        return photo
    largest = 1.0 if photo.pixels.dtype == np.float32 else float(np.iinfo(photo.alpha.dtype).max)
    cover = (photo.alpha.astype(np.float32) / largest)[..., None]
    pixels = photo.pixels.astype(np.float32)
    impossible = pixels.min(2) < largest * (1 - cover[..., 0]) - _ROUNDING * largest
    if impossible.mean() > _FEW:
        return photo
    np.divide(pixels - largest * (1 - cover), cover, out=pixels, where=cover > 0)
    if photo.pixels.dtype != np.float32:
        pixels = np.rint(pixels).clip(0, largest)
    return replace(photo, pixels=pixels.astype(photo.pixels.dtype))


def _dpi(block: bytes | None) -> tuple[float, float] | None:
    """Return the resolution, which is fixed-point pixels per inch whatever unit is shown."""
    if block is None or len(block) < 16:
        return None
    across, down = struct.unpack_from(">I4xI", block)
    return (across / 65536, down / 65536) if across and down else None
