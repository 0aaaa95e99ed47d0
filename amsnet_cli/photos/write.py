"""Write a photo, whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image

from amsnet_cli.atomic import write_whole
from amsnet_cli.errors import OutputError
from amsnet_cli.photos.exif import is_sound, png_with_exif, tiff_with_exif, with_orientation
from amsnet_cli.photos.photo import Photo

WRITABLE = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
    ".avif": "AVIF",
}
_DEPTHS = {"JPEG": (8,), "WEBP": (8,), "AVIF": (8,), "PNG": (8, 16), "TIFF": (8, 16, 32)}
_QUALITY = {"JPEG": 95, "WEBP": 95, "AVIF": 90}


def check_output(path: Path, *, force: bool) -> None:
    """Find out before any work whether a photo could be written to `path`.

    Raises:
        OutputError: the suffix names no format that can be written, the folder is missing or
            read-only, or the file exists and `force` is not set.
    """
    if path.suffix.lower() not in WRITABLE:
        known = " ".join(sorted(WRITABLE))
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'without a suffix'}", f"use {known}"
        )
    if path.is_dir():
        raise OutputError(f"{path}: a folder has this name", "choose another name")
    if path.exists() and not force:
        raise OutputError(f"{path}: exists already", "overwrite it with --force")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder", "make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path.parent}: the folder is read-only", "choose another with -o")


def check_depth(photo: Photo, path: Path) -> None:
    """Refuse to lose depth or transparency.

    Raises:
        OutputError: the format that the suffix of `path` names holds less than `photo` has.
    """
    kind = WRITABLE[path.suffix.lower()]
    if photo.depth not in _DEPTHS[kind]:
        better = "TIFF" if photo.depth == 32 else "PNG or TIFF"
        raise OutputError(
            f"{path}: {kind} cannot hold {photo.depth} bits a channel",
            f"write a {better}, or allow less with --depth 8",
        )
    if kind == "JPEG" and photo.alpha is not None:
        raise OutputError(f"{path}: JPEG cannot hold transparency", "write a PNG, TIFF or WebP")


def write_photo(photo: Photo, path: Path) -> None:
    """Write a photo in the format that the suffix of `path` names.

    Pixels in PNG and TIFF are exact; JPEG, WebP and AVIF are written at high quality, without
    chroma subsampling. The file appears under its name only when it is complete; one that was
    there before is replaced.

    Raises:
        OutputError: see `check_depth`; or the EXIF is too damaged to be moved from one kind of
            file to another; or the file cannot be written.
    """
    check_depth(photo, path)
    kind = WRITABLE[path.suffix.lower()]
    if photo.exif and kind in ("TIFF", "AVIF") and not is_sound(photo.exif):
        raise OutputError(
            f"{path}: the photo's EXIF is damaged, so {kind} cannot hold it",
            "write a JPEG, PNG or WebP, which take it as it is",
        )
    content = _encode(photo, kind)
    try:
        write_whole(path, content)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", "choose another place with -o"
        ) from error


def _encode(photo: Photo, kind: str) -> bytes:
    exif = with_orientation(photo.exif, photo.orientation)
    if kind == "PNG":
        content = _vips(photo).pngsave_buffer(compression=6, keep="xmp:icc")
        return png_with_exif(content, exif) if exif else content
    if kind == "TIFF":
        image = _vips(photo)
        image.set_type(pyvips.GValue.gint_type, "orientation", photo.orientation)
        predictor = "float" if photo.depth == 32 else "horizontal"
        content = image.tiffsave_buffer(compression="deflate", predictor=predictor)
        return tiff_with_exif(content, exif) if exif else content
    planes = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha[..., None]]
    pixels = np.concatenate(planes, 2)
    options: dict[str, Any] = {"quality": _QUALITY[kind]}
    if kind != "WEBP":
        options["subsampling"] = "4:4:4"
    if exif:
        options["exif"] = b"Exif\0\0" + exif
    if photo.icc:
        options["icc_profile"] = photo.icc
    if photo.xmp:
        options["xmp"] = photo.xmp
    if photo.dpi:
        options["dpi"] = photo.dpi
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(
        file, kind, **options
    )
    return file.getvalue()


def _vips(photo: Photo) -> pyvips.Image:
    """Make a libvips image of pixels, transparency, profile, XMP and resolution."""
    planes = [photo.pixels] if photo.alpha is None else [photo.pixels, photo.alpha[..., None]]
    array = np.ascontiguousarray(np.concatenate(planes, 2))
    height, width, bands = array.shape
    form = {8: "uchar", 16: "ushort", 32: "float"}[photo.depth]
    grey = photo.pixels.shape[2] == 1
    interpretation = {8: "srgb", 16: "rgb16", 32: "scrgb"}[photo.depth]
    if grey:
        interpretation = {8: "b-w", 16: "grey16", 32: "b-w"}[photo.depth]
    image = pyvips.Image.new_from_memory(array.data, width, height, bands, form)
    xres, yres = (value / 25.4 for value in photo.dpi) if photo.dpi else (1.0, 1.0)
    image = image.copy(interpretation=interpretation, xres=xres, yres=yres)
    for name, blob in (("icc-profile-data", photo.icc), ("xmp-data", photo.xmp)):
        if blob:
            image.set_type(pyvips.GValue.blob_type, name, blob)
    return image
