"""JPEG XL, with imagecodecs where it is installed; lossy photos of 8 bits in sRGB stay lossy.

imagecodecs decodes and encodes samples alone. Colours are read from and put into the codestream's
header, EXIF and XMP into the boxes around it (ISO 18181-2). A file that has an ICC profile instead
of colours in its header holds it compressed; pylibjxl reads it.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.boxes import box, is_cut_short, read_boxes
from amsnet_cli.photos.colour import BT709, SRGB_CURVE, unsupported_colours
from amsnet_cli.photos.colour_model import ColourModel, colour_model_of
from amsnet_cli.photos.exif import without_orientation, without_thumbnail
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.photos.formats.format import Format, notes_of_other_data
from amsnet_cli.photos.formats.jxl_header import (
    SIGNATURE,
    JxlHeader,
    has_curve,
    read_header,
    with_colours,
)
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.metadata import marked_upright, without_attachments
from amsnet_cli.photos.photo import Photo, Pixels, photo_of, with_usable_profile

_CONTAINER = box(b"JXL ", b"\r\n\x87\n")
_FILE_TYPE = box(b"ftyp", b"jxl \0\0\0\0jxl ")
_KNOWN = (b"JXL ", b"ftyp", b"jxll", b"jxli", b"jbrd", b"Exif", b"xml ", b"brobExif", b"brobxml ")
_LEVEL_10 = box(b"jxll", b"\n")
"""What more than 12 bits need."""
DISTANCE = 0.3
"""From the photo, in just noticeable differences, at which a lossy one is written. A file is then
about as large as a JPEG of quality 95; without loss it is two to three times as large."""


def read(path: Path, content: bytes) -> Photo:
    """Decode a file; the decoder turns it upright.

    Args:
        path: for messages.
        content: the file.

    Returns:
        8 or 16 bits a channel, or float.

    Raises:
        PhotoError: imagecodecs or, where it is needed, pylibjxl is not installed, or they cannot
            read the file; HDR; or channels beside transparency.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise package_missing(path, "JPEG XL") from error
    boxes: dict[bytes, bytes] = {}
    codestream = content
    try:
        if content[:2] != SIGNATURE:
            if is_cut_short(content):
                raise ValueError("a box is cut short")
            boxes, codestream = _unpacked(content)
        header = read_header(codestream)
        check_size(path, content, header.size, 4 * 4)
        notes = _check(path, header)
        samples = _full_range(np.asarray(imagecodecs.jpegxl_decode(content, index=0)), header)
        photo = photo_of(samples)
        exif, xmp = _metadata(boxes)
        icc = _profile(path, content, header.colours)
    except MALFORMED as error:
        raise PhotoError(
            f"{path}: not a picture, damaged or cut short ({' '.join(str(error).split())})",
            "copy it again from its source",
        ) from error
    others = boxes.keys() - _KNOWN
    photo = replace(
        photo,
        fourth_channel="associated" if "associated" in header.alphas else "transparency",
        icc=icc,
        exif=exif and without_thumbnail(exif),  # It may lie on its side.
        xmp=xmp,
        quantisation_step=0.0 if header.xyb or b"jbrd" in boxes else None,
        notes=(
            *notes,
            *notes_of_other_data(kind.decode("ascii", "ignore") for kind in sorted(others)),
        ),
    )
    return with_usable_profile(without_attachments(marked_upright(photo)))


def write(photo: Photo) -> bytes:
    """Encode an upright photo: without loss, or at `DISTANCE` if its own file was lossy.

    imagecodecs encodes only sRGB of 8 bits with loss, so all others are written without.

    Raises:
        ValueError: imagecodecs is not installed, or the profile is none that `holds_profile`.
    """
    try:
        import imagecodecs
    except ImportError as error:
        raise ValueError('JPEG XL needs one more package: pip install "amsnet[codecs]"') from error
    is_grey = photo.pixels.shape[2] == 1
    samples = photo.samples[..., 0] if is_grey and photo.alpha is None else photo.samples
    srgb = ColourModel(chromaticities=None if is_grey else BT709, curve=SRGB_CURVE)
    model = colour_model_of(photo.icc) if photo.icc else srgb
    if model is None:
        raise ValueError("JPEG XL cannot hold this colour profile")
    lossy = photo.quantisation_step is not None and photo.depth == 8 and model == srgb
    try:
        content = bytes(
            imagecodecs.jpegxl_encode(
                np.ascontiguousarray(samples), lossless=not lossy,
                distance=DISTANCE if lossy else None,
            )
        )  # fmt: skip
        codestream = content if content[:2] == SIGNATURE else _unpacked(content)[1]
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    parts = [_CONTAINER, _FILE_TYPE, *([_LEVEL_10] if photo.depth > 8 else [])]
    if photo.exif:
        parts.append(box(b"Exif", bytes(4) + without_orientation(photo.exif)))
    if photo.xmp:
        parts.append(box(b"xml ", photo.xmp))
    if not lossy:
        codestream = with_colours(codestream, model)
    # A size of 0 is the rest of the file.
    return b"".join(parts) + struct.pack(">I4s", 0, b"jxlc") + codestream


def holds_profile(profile: bytes) -> bool:
    """Return whether primaries and a curve of JPEG XL say what a profile does."""
    model = colour_model_of(profile)
    return model is not None and has_curve(model.curve)


FORMAT = Format(
    name="JPEG XL",
    suffixes=(".jxl",),
    matches=lambda head: head[:2] == SIGNATURE or head[:12] == _CONTAINER,
    read=read,
    write=write,
    depths=(8, 16, 32),
    holds_profile=holds_profile,
    upright=True,  # The header has an orientation of its own, which decoders apply.
)


def _unpacked(content: bytes) -> tuple[dict[bytes, bytes], bytes]:
    """Return the boxes of a container and the codestream in it, which may lie in parts."""
    boxes: dict[bytes, bytes] = {}
    codestream = b""
    for kind, body in read_boxes(content):
        if kind == b"jxlc":
            codestream = body
        elif kind == b"jxlp":
            codestream += body[4:]
        else:
            boxes.setdefault(b"brob" + body[:4] if kind == b"brob" else kind, body)
    return boxes, codestream


def _check(path: Path, header: JxlHeader) -> tuple[str, ...]:
    """Refuse what cannot be denoised faithfully; return notes on what is left behind."""
    if header.hdr:
        raise unsupported_colours(path, ValueError(header.hdr))
    if header.colours is None and header.xyb:
        raise PhotoError(
            f"{path}: lossy JPEG XL with an ICC profile, whose colours depend on the decoder",
            "export it without loss, or with sRGB, Display P3 or another known profile",
        )
    if len(header.alphas) > 1 or any(name.isdigit() for name in header.alphas):
        raise PhotoError(
            f"{path}: channels beside colours and transparency", "convert it to RGB first"
        )
    return ("only the first frame is kept",) if header.animated else ()


def _full_range(samples: Pixels, header: JxlHeader) -> Pixels:
    """Scale integers of fewer bits to all 8 or 16; half floats become float32."""
    if header.is_float:
        return samples.astype(np.float32)
    largest = int(np.iinfo(samples.dtype).max)
    if samples.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{header.bits} bits")
    stated = (1 << header.bits) - 1
    if stated in (255, 65535):
        return samples
    return np.rint(samples * (largest / stated)).clip(0, largest).astype(samples.dtype)


def _metadata(boxes: dict[bytes, bytes]) -> tuple[bytes | None, bytes | None]:
    """Return the EXIF block and the XMP packet, which may be compressed by Brotli."""
    exif, xmp = boxes.get(b"Exif"), boxes.get(b"xml ")
    if exif is None and b"brobExif" in boxes:
        exif = _brotli(boxes[b"brobExif"])
    if xmp is None and b"brobxml " in boxes:
        xmp = _brotli(boxes[b"brobxml "])
    if exif is not None:
        (offset,) = struct.unpack_from(">I", exif)
        exif = exif[4 + offset :].removeprefix(b"Exif\0\0") or None
    return exif, xmp


def _brotli(body: bytes) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.brotli_decode(body[4:], out=1 << 24))


def _profile(path: Path, content: bytes, colours: ColourModel | None) -> bytes | None:
    """Return the profile of the colours, None for sRGB; that in the file where there are none."""
    if colours is not None:
        is_srgb = colours.curve == SRGB_CURVE and colours.chromaticities in (None, BT709)
        return None if is_srgb else colours.profile()
    try:
        import pylibjxl
    except ImportError as error:
        raise package_missing(path, "JPEG XL with an ICC profile") from error
    found: dict[str, bytes] = pylibjxl.decode(content, metadata=True)[1]
    return found["icc"]
