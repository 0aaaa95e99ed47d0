"""Read a photo of any supported format."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos.exif import exif_of_tiff, with_orientation
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.raw import RAW_SUFFIXES, read_raw

RASTER_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif"})
PHOTO_SUFFIXES = RASTER_SUFFIXES | RAW_SUFFIXES
FORMATS = "JPEG, PNG, TIFF, WebP, AVIF or a camera's RAW format"
MAX_PIXELS = 1_000_000_000

_LOADERS = ("jpegload", "pngload", "tiffload", "webpload", "heifload")
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float32}


def read_photo(path: Path) -> Photo:
    """Read a photo with its depth, profile, metadata and orientation.

    The kind of file is told by its content, but for RAW, which is told by its suffix.

    Args:
        path: JPEG, PNG, TIFF, WebP, AVIF or RAW.

    Raises:
        PhotoError: there is no such file, it is no picture, it is damaged or cut short, or it
            is of a kind that cannot be denoised faithfully (CMYK, several pages, ...).
    """
    content = read_file(path)
    if path.suffix.lower() in RAW_SUFFIXES:
        return read_raw(path, content)
    try:
        # From memory, as libvips would take brackets in a file's name for options.
        image = pyvips.Image.new_from_buffer(content, "", access="sequential", fail_on="truncated")
    except pyvips.Error as error:
        raise PhotoError(f"{path}: not a picture", f"expected {FORMATS}") from error
    _check(path, image)
    try:
        array = image.numpy()
    except pyvips.Error as error:
        raise PhotoError(
            f"{path}: the picture is damaged or cut short", "copy it again from its source"
        ) from error
    return _photo(path, image, array.reshape(image.height, image.width, image.bands), content)


def read_file(path: Path) -> bytes:
    """Read a regular file that is not empty, or raise a `PhotoError` that says why not."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise PhotoError(f"{path}: a folder, not a picture", "name the files in it")
        if not stat.S_ISREG(mode):
            raise PhotoError(f"{path}: not a regular file")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: no such file", "check the path") from error
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read ({error.strerror})") from error
    if not content:
        raise PhotoError(f"{path}: the file is empty", "copy it again from its source")
    return content


def _check(path: Path, image: pyvips.Image) -> None:
    loader = image.get("vips-loader").removesuffix("_buffer")
    if loader not in _LOADERS:
        raise PhotoError(f"{path}: not a picture this program reads", f"expected {FORMATS}")
    if image.width * image.height > MAX_PIXELS:
        raise PhotoError(
            f"{path}: {image.width}x{image.height} pixels are more than can be denoised",
            "cut it into parts",
        )
    if image.get_n_pages() > 1:
        raise PhotoError(
            f"{path}: {image.get_n_pages()} pages or frames", "save the one you want on its own"
        )
    if image.interpretation in ("cmyk", "lab", "labq", "labs", "xyz"):
        raise PhotoError(
            f"{path}: {image.interpretation.upper()} colours", "convert it to RGB first"
        )
    if image.format not in _DTYPES:
        raise PhotoError(
            f"{path}: pixels of type {image.format}", "save it with 8, 16 or float bits"
        )
    if image.bands - image.hasalpha() not in (1, 3):
        raise PhotoError(f"{path}: {image.bands} channels", "convert it to RGB or grey first")


def _photo(path: Path, image: pyvips.Image, array: np.ndarray, content: bytes) -> Photo:
    array = array.astype(_DTYPES[image.format], copy=False)
    if array.dtype == np.float32 and not np.isfinite(array).all():
        raise PhotoError(f"{path}: holds NaN or infinite pixels", "replace them first")
    colours = 3 if image.bands >= 3 else 1
    fields = image.get_fields()

    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) if name in fields else None

    loader = image.get("vips-loader").removesuffix("_buffer")
    exif = exif_of_tiff(content) if loader == "tiffload" else blob("exif-data")
    exif = exif and exif.removeprefix(b"Exif\0\0")
    orientation = image.get("orientation") if "orientation" in fields else 1
    if not 1 <= orientation <= 8:
        orientation = 1
    if loader == "heifload":  # The decoder has turned the pixels upright already.
        orientation = 1
        exif = exif and with_orientation(exif, 1)
    per_millimetre = (image.xres, image.yres)
    return Photo(
        pixels=np.ascontiguousarray(array[..., :colours]),
        alpha=np.ascontiguousarray(array[..., -1]) if image.hasalpha() else None,
        icc=blob("icc-profile-data"),
        exif=exif,
        xmp=blob("xmp-data"),
        orientation=orientation,
        # One pixel a millimetre is what libvips says for want of a value.
        dpi=None if per_millimetre == (1.0, 1.0) else (image.xres * 25.4, image.yres * 25.4),
    )
