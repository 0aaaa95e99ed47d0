"""Decode and encode with libvips, whose warnings are silenced.

They would reach the terminal in lines of its own making, and pyvips stumbles over messages that
are not UTF-8, which damaged files provoke.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import colour
from amsnet_cli.photos.limits import check_size
from amsnet_cli.photos.photo import Photo

_LEVELS = pyvips.GLogLevelFlags
pyvips.cache_set_max(0)  # Else files that were read stay in memory.
_silent = pyvips.ffi.callback("GLogFunc", lambda domain, level, message, data: None)
_handler = pyvips.glib_lib.g_log_set_handler(
    b"VIPS",
    _LEVELS.LEVEL_DEBUG | _LEVELS.LEVEL_INFO | _LEVELS.LEVEL_MESSAGE | _LEVELS.LEVEL_WARNING,
    _silent,
    pyvips.ffi.NULL,
)
atexit.register(pyvips.glib_lib.g_log_remove_handler, b"VIPS", _handler)

_DTYPES = {
    **{"uchar": np.uint8, "ushort": np.uint16, "float": np.float32},
    # No others can be written; integers keep 24 bits.
    **dict.fromkeys(("char", "short", "int", "uint", "double"), np.float32),
}
_ODD_COLOURS = ("lab", "labq", "labs", "xyz", "yxy", "lch", "hsv", "cmc")
_ICC, _XMP, _EXIF = "icc-profile-data", "xmp-data", "exif-data"


def open_image(
    path: Path,
    content: bytes,
    loader: Callable[..., pyvips.Image],
    *,
    fail_on: str = "truncated",
    **options: Any,
) -> pyvips.Image:
    """Read the header of a file and check that its pixels can be handled.

    Args:
        path: for messages.
        content: the file; from memory, as libvips would take brackets in a name for options.
        loader: one of libvips' own, so that no other ever sees the file.
        fail_on: what stops decoding: "truncated", "error" or "warning".
        options: the loader's own.

    Raises:
        PhotoError: no picture, too large, several pages, or of colours or a type that cannot be
            denoised faithfully.
    """
    try:
        image = loader(content, access="sequential", fail_on=fail_on, **options)
    except pyvips.Error as error:
        raise PhotoError(
            f"{path}: not a picture, or damaged ({reason(error)})", "copy it again from its source"
        ) from error
    sample = np.dtype(_DTYPES.get(image.format, np.float64)).itemsize
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
    return image


def decode(path: Path, image: pyvips.Image) -> Photo:
    """Decode the pixels of an image, with the profile, EXIF, XMP, orientation and resolution.

    CMYK becomes sRGB through its own profile.

    Args:
        path: for messages.
        image: from `open_image`.

    Raises:
        PhotoError: damaged or cut short, CMYK without a usable profile.
    """
    notes = []
    if image.interpretation == "cmyk":
        image = _from_cmyk(path, image)
        notes.append("CMYK turned into sRGB through its own profile")
    try:
        array = image.numpy()
    except pyvips.Error as error:
        raise PhotoError(
            f"{path}: the picture is damaged or cut short ({reason(error)})",
            "copy it again from its source",
        ) from error
    array = array.reshape(image.height, image.width, image.bands)
    dtype = _DTYPES[image.format]
    if array.dtype != dtype:
        notes.append(f"{array.dtype} pixels turned into {np.dtype(dtype)}")
        array = array.astype(dtype)
    fields = image.get_fields()
    if "palette" in fields:
        notes.append("palette turned into RGB")
    orientation = image.get("orientation") if "orientation" in fields else 1
    colours = 3 if image.bands >= 3 else 1
    # Where a file does not say, libvips gives one pixel a millimetre.
    says_resolution = (image.xres, image.yres) != (1.0, 1.0)
    return Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if image.hasalpha() else None,
        icc=_blob(image, _ICC),
        exif=(_blob(image, _EXIF) or b"").removeprefix(b"Exif\0\0") or None,
        xmp=_blob(image, _XMP),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        dpi=(image.xres * 25.4, image.yres * 25.4) if says_resolution else None,
        notes=tuple(notes),
    )


def image_of(photo: Photo) -> pyvips.Image:
    """Make a libvips image of pixels, transparency, profile, XMP and resolution."""
    array = np.ascontiguousarray(photo.samples)
    height, width, bands = array.shape
    sample = {8: "uchar", 16: "ushort", 32: "float"}[photo.depth]
    interpretation = {8: "srgb", 16: "rgb16", 32: "scrgb"}[photo.depth]
    if photo.pixels.shape[2] == 1:
        interpretation = {8: "b-w", 16: "grey16", 32: "b-w"}[photo.depth]
    image = pyvips.Image.new_from_memory(array.data, width, height, bands, sample)
    xres, yres = (value / 25.4 for value in photo.dpi) if photo.dpi else (1.0, 1.0)
    image = image.copy(interpretation=interpretation, xres=xres, yres=yres)
    for name, blob in ((_ICC, photo.icc), (_XMP, photo.xmp)):
        if blob:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    return image


def _from_cmyk(path: Path, image: pyvips.Image) -> pyvips.Image:
    profile = _blob(image, _ICC)
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
            f"{path}: CMYK with a damaged colour profile ({reason(error)})",
            "convert it to RGB with the right profile",
        ) from error
    rgb = rgb.copy()
    rgb.set_type(pyvips.GValue.blob_type, _ICC, colour.srgb_profile())
    return rgb


def _blob(image: pyvips.Image, name: str) -> bytes | None:
    return bytes(image.get(name)) if name in image.get_fields() else None


def reason(error: pyvips.Error) -> str:
    """Return the first line of libvips' message."""
    lines = str(error.detail or error.message).strip().splitlines()
    return lines[0].strip() if lines else "no reason given"
