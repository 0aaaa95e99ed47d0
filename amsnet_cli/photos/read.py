"""Read a photo of any supported format."""

from __future__ import annotations

import os
import re
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour, exif, jpeg, png, tiff
from amsnet_cli.photos.heic import read_heic
from amsnet_cli.photos.libvips import pyvips
from amsnet_cli.photos.limits import MAX_BYTES, check_size
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.raw import RAW_SUFFIXES, RawOptions, read_raw

RASTER_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif"})
HEIC_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
PHOTO_SUFFIXES = RASTER_SUFFIXES | RAW_SUFFIXES | HEIC_SUFFIXES
FORMATS = "JPEG, PNG, TIFF, WebP, AVIF, HEIC or a camera's RAW format"

_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_PALETTE, _YCBCR = 3, 6
"""TIFF's photometric interpretations."""
_ODD_COLOURS = ("lab", "labq", "labs", "xyz", "yxy", "lch", "hsv", "cmc")
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
}
_HEIC_BRANDS = frozenset(
    {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
)


def read_photo(path: Path, raw: RawOptions = RawOptions()) -> Photo:
    """Read a photo with its depth, profile, metadata and orientation.

    The kind of file is told by its content, but for RAW, which is told by its suffix.

    Args:
        path: JPEG, PNG, TIFF, WebP, AVIF, HEIC or RAW.
        raw: how RAW files are developed.

    Raises:
        PhotoError: there is no such file, it is no picture, it is damaged or cut short, it
            changes meanwhile, it would expand without measure, or it is of a kind that cannot
            be denoised faithfully (CMYK without a profile, several pages, HDR, ...).
    """
    content = read_file(path)
    try:
        if path.suffix.lower() in RAW_SUFFIXES:
            return read_raw(path, content, raw)
        kind = _kind(content[:64])
        if kind is None:
            raise PhotoError(f"{path}: not a picture this program reads", f"expected {FORMATS}")
        photo = read_heic(path, content) if kind == "HEIC" else _read(path, content, kind)
        return _with_fitting_profile(path, content, kind, photo)
    except UnicodeDecodeError as error:  # pyvips takes all names and messages for text
        raise PhotoError(f"{path}: damaged", "copy it again from its source") from error
    except MemoryError as error:
        raise PhotoError(f"{path}: does not fit into memory", "cut it into parts") from error


def read_file(path: Path) -> bytes:
    """Read a regular file that is not empty, or raise a `PhotoError` that says why not."""
    try:
        if path.is_dir():  # Windows does not even open one.
            raise PhotoError(f"{path}: a folder, not a picture", "name the files in it")
        # Opening a pipe would otherwise wait for somebody to write into it.
        flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        with open(os.open(path, flags), "rb") as file:  # noqa: PTH123
            before = os.fstat(file.fileno())
            if not stat.S_ISREG(before.st_mode):
                raise PhotoError(f"{path}: not a regular file")
            if before.st_size > MAX_BYTES:
                raise PhotoError(f"{path}: {before.st_size} bytes are more than a photo has")
            content = file.read(before.st_size + 1)
            after = os.fstat(file.fileno())
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: no such file", "check the path") from error
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read ({error.strerror})") from error
    except (MemoryError, OverflowError) as error:
        raise PhotoError(f"{path}: does not fit into memory") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(
        content
    ) != before.st_size:
        raise PhotoError(f"{path}: changes while it is read", "try again when it is complete")
    if not content:
        raise PhotoError(f"{path}: the file is empty", "copy it again from its source")
    return content


def _kind(head: bytes) -> str | None:
    for signature, kind in _SIGNATURES.items():
        if head.startswith(signature):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp" and len(head) >= 16:
        size = min(struct.unpack_from(">I", head)[0], len(head))
        brands = {head[8:12], *(head[i : i + 4] for i in range(16, size, 4))}
        if brands & {b"avif", b"avis"}:
            return "AVIF"
        if brands & _HEIC_BRANDS:
            return "HEIC"
    return None


def _open(content: bytes, kind: str, fail_on: str) -> pyvips.Image:
    # By name, so that no other loader of libvips ever sees a file; from memory, as libvips would
    # take brackets in a file's name for options.
    loader = {
        "JPEG": pyvips.Image.jpegload_buffer,
        "PNG": pyvips.Image.pngload_buffer,
        "TIFF": pyvips.Image.tiffload_buffer,
        "WEBP": pyvips.Image.webpload_buffer,
        "AVIF": pyvips.Image.heifload_buffer,
    }[kind]
    return loader(content, access="sequential", fail_on=fail_on)


def _read(path: Path, content: bytes, kind: str) -> Photo:
    if kind != "JPEG":
        return _decode(path, content, kind, "truncated")
    try:  # libjpeg only warns of bytes that make no sense.
        return _decode(path, content, kind, "warning")
    except PhotoError:
        photo = _decode(path, content, kind, "truncated")
        return replace(photo, notes=(*photo.notes, "parts of the file are damaged"))


def _decode(path: Path, content: bytes, kind: str, fail_on: str) -> Photo:
    try:
        image = _open(content, kind, fail_on)
    except pyvips.Error as error:
        raise PhotoError(
            f"{path}: not a picture, or damaged ({_reason(error)})", f"expected {FORMATS}"
        ) from error
    _check(path, content, image)
    if kind == "TIFF":
        _check_tiff(path, content)
    notes = []
    if image.interpretation == "cmyk":
        image = _from_cmyk(path, image)
        notes.append("CMYK turned into sRGB through its own profile")
    try:
        array = image.numpy()
    except pyvips.Error as error:
        raise PhotoError(
            f"{path}: the picture is damaged or cut short ({_reason(error)})",
            "copy it again from its source",
        ) from error
    array = array.reshape(image.height, image.width, image.bands)
    if "palette" in image.get_fields() or (kind == "TIFF" and _photometric(content) == _PALETTE):
        notes.append("palette turned into RGB")
    if kind == "JPEG" and jpeg.has_further_pictures(content):
        notes.append("further pictures in the file, such as a preview or gain map, are left out")
    photo = _photo(path, content, kind, image, array)
    if kind == "JPEG" and photo.xmp and b"HasExtendedXMP" in photo.xmp:
        notes.append("XMP beyond its first part, such as a depth map, is left out")
    return replace(photo, notes=tuple(notes))


def _check(path: Path, content: bytes, image: pyvips.Image) -> None:
    sample = {"uchar": 1, "ushort": 2, "float": 4}.get(image.format, 8)
    check_size(path, content, (image.width, image.height), image.bands * sample)
    if image.get_n_pages() > 1:
        raise PhotoError(
            f"{path}: {image.get_n_pages()} pages or frames", "save the one you want on its own"
        )
    if image.interpretation in _ODD_COLOURS:
        raise PhotoError(
            f"{path}: {image.interpretation.upper()} colours", "convert it to RGB first"
        )
    if image.format not in _DTYPES:
        raise PhotoError(
            f"{path}: pixels of type {image.format}", "save it with 8, 16 or float bits"
        )
    if image.bands - image.hasalpha() not in ((4,) if image.interpretation == "cmyk" else (1, 3)):
        raise PhotoError(f"{path}: {image.bands} channels", "convert it to RGB or grey first")


def _photometric(content: bytes) -> int | None:
    return tiff.number_of(content, 262)


def _check_tiff(path: Path, content: bytes) -> None:
    """Refuse a TIFF that libvips would get wrong without a word.

    One that was cut short it fills up; YCbCr it takes for RGB, unless it is JPEG.
    """
    if _photometric(content) == _YCBCR and tiff.number_of(content, 259) not in (6, 7):
        raise PhotoError(f"{path}: YCbCr colours that are not JPEG", "convert it to RGB first")
    try:
        missing = tiff.end_of_pixels(content) - len(content)
    except tiff.MalformedError as error:
        raise PhotoError(f"{path}: the picture is damaged ({error})", "copy it again") from error
    if missing > 0:
        raise PhotoError(
            f"{path}: the picture is cut short, {missing} bytes are missing",
            "copy it again from its source",
        )


def _from_cmyk(path: Path, image: pyvips.Image) -> pyvips.Image:
    profile = _blob(image, "icc-profile-data")
    if profile is None or not colour.suits(profile, 4):
        raise PhotoError(
            f"{path}: CMYK without a colour profile, which its colours depend on",
            "convert it to RGB with the right profile",
        )
    depth = 16 if image.format == "ushort" else 8
    try:
        rgb = image.icc_transform("srgb", embedded=True, intent="relative", depth=depth)
    except pyvips.Error as error:
        raise PhotoError(
            f"{path}: CMYK with a damaged colour profile ({_reason(error)})",
            "convert it to RGB with the right profile",
        ) from error
    rgb = rgb.copy()
    rgb.set_type(pyvips.GValue.blob_type, "icc-profile-data", colour.srgb_profile())
    return rgb


def _photo(
    path: Path, content: bytes, kind: str, image: pyvips.Image, array: np.ndarray[Any, Any]
) -> Photo:
    array = array.astype(_DTYPES[image.format], copy=False)
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise PhotoError(f"{path}: holds NaN or infinite pixels", "replace them first")
    colours = 3 if image.bands >= 3 else 1
    icc = _blob(image, "icc-profile-data")
    if kind == "AVIF" and _is_grey_avif(content) and (icc is None or colour.suits(icc, 1)):
        colours = 1
    block = exif.exif_of_tiff(content) if kind == "TIFF" else _blob(image, "exif-data")
    block = block and block.removeprefix(b"Exif\0\0")
    orientation = image.get("orientation") if "orientation" in image.get_fields() else 1
    if not 1 <= orientation <= 8:
        orientation = 1
    if kind == "AVIF":  # The decoder has turned the pixels upright already.
        orientation = 1
        block = block and exif.with_orientation(block, 1)
    iptc = None
    if kind == "JPEG":
        iptc = jpeg.iptc_of(content)
    elif kind == "PNG":
        iptc = png.iptc_of(content)
    elif kind == "TIFF":
        resources = exif.tag_of_tiff(content, exif.PHOTOSHOP) or b""
        iptc = exif.tag_of_tiff(content, exif.IPTC) or jpeg.iptc_in_resources(resources)
    # Where a file does not say, libvips gives one pixel a millimetre or 72 an inch.
    says_resolution = (image.xres, image.yres) != (1.0, 1.0)
    if kind == "JPEG":
        says_resolution = jpeg.has_resolution(content) or block is not None
    elif kind == "PNG":
        says_resolution = any(name == b"pHYs" for name, _ in png.chunks(content))
    coding = jpeg.coding_of(content) if kind == "JPEG" else None
    lossless = kind == "WEBP" and _is_lossless_webp(content)
    coded = kind in ("JPEG", "WEBP", "AVIF") and not lossless
    return Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if image.hasalpha() else None,
        icc=icc,
        exif=block or None,
        xmp=_blob(image, "xmp-data"),
        iptc=iptc,
        orientation=orientation,
        dpi=(image.xres * 25.4, image.yres * 25.4) if says_resolution else None,
        jpeg=coding,
        quantisation_step=coding.step if coding else 0.0 if coded else None,
        lossless=lossless,
    )


def _with_fitting_profile(path: Path, content: bytes, kind: str, photo: Photo) -> Photo:
    """Drop a damaged profile; make one of what else a file says of its colours."""
    notes = photo.notes
    icc = photo.icc
    if icc is not None and not colour.suits(icc, photo.pixels.shape[2]):
        icc, notes = None, (*notes, "the colour profile is damaged or of another kind: left out")
    try:
        if kind == "PNG" and (icc is None or b"cICP" in content[:4096]):
            icc = (photo.pixels.shape[2] == 3 and png.colours_of(content)) or icc
        elif kind in ("AVIF", "HEIC") and icc is None and b"colrnclx" in content[:65536]:
            at = content.index(b"colrnclx") + 8
            icc = colour.profile_of_code_points(*struct.unpack_from(">HH", content, at))
    except (ValueError, struct.error) as error:
        raise PhotoError(
            f"{path}: HDR or other colours that are not supported ({error})",
            "export it as SDR first",
        ) from error
    return replace(photo, icc=icc, notes=notes)


def _is_lossless_webp(content: bytes) -> bool:
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name in (b"VP8L", b"VP8 "):
            return bool(name == b"VP8L")
        at += 8 + size + size % 2
    return False


def _is_grey_avif(content: bytes) -> bool:
    """Tell whether all pictures in the file, transparency among them, have one channel."""
    boxes = [match.end() for match in re.finditer(b"av1C", content[:65536])]
    # AV1 in ISOBMFF, 2.3.3: monochrome is the fourth highest bit of the box's third byte.
    return bool(boxes) and all(content[at + 2] & 0x10 for at in boxes if at + 2 < len(content))


def _blob(image: pyvips.Image, name: str) -> bytes | None:
    return bytes(image.get(name)) if name in image.get_fields() else None


def _reason(error: pyvips.Error) -> str:
    """Return the first line of what libvips says."""
    lines = str(error.detail or error.message).strip().splitlines()
    return lines[0].strip() if lines else "no reason given"
