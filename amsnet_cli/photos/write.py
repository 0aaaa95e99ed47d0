"""Write a photo, whole or not at all."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from amsnet_cli.atomic import write_whole
from amsnet_cli.errors import OutputError
from amsnet_cli.photos import exif, jpeg, png
from amsnet_cli.photos.colour import suits
from amsnet_cli.photos.geometry import upright
from amsnet_cli.photos.libvips import pyvips
from amsnet_cli.photos.photo import JpegCoding, Photo, Pixels
from amsnet_cli.photos.pixel_codec import with_depth

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
_LONGEST_SIDE = {"JPEG": 65500, "WEBP": 16383, "AVIF": 65536}
_JPEG_SEGMENT = 65000
"""Bytes of EXIF, XMP or IPTC that surely fit into a segment of a JPEG file, of 65,535."""

_pillow_s_buffer = threading.Lock()


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
    """Refuse to lose depth, transparency, pixels or the meaning of colours.

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
    if max(photo.pixels.shape[:2]) > _LONGEST_SIDE.get(kind, 1 << 31):
        raise OutputError(
            f"{path}: {kind} holds {_LONGEST_SIDE[kind]} pixels a side", "write a PNG or TIFF"
        )
    if kind == "WEBP" and photo.icc and suits(photo.icc, 1):
        raise OutputError(
            f"{path}: WebP cannot hold grey with a colour profile", "write a JPEG, PNG or TIFF"
        )


def not_kept(photo: Photo, path: Path) -> list[str]:
    """List what of a photo's metadata will not come through, for people.

    Args:
        photo: what is to be written.
        path: its suffix names the format.
    """
    kind = WRITABLE[path.suffix.lower()]
    lost = []
    if photo.exif and kind in ("TIFF", "AVIF") and not exif.is_sound(photo.exif):
        lost.append(f"its EXIF is damaged, so {kind} cannot hold it")
    if kind == "JPEG":
        for name, block in (("EXIF", photo.exif), ("XMP", photo.xmp), ("IPTC", photo.iptc)):
            if block and len(block) > _JPEG_SEGMENT:
                lost.append(f"its {name} of {len(block)} bytes is more than a JPEG can hold")
    if photo.iptc and kind in ("WEBP", "AVIF"):
        lost.append(f"{kind} has no place for its IPTC record")
    return lost


def write_photo(photo: Photo, path: Path, *, modified_ns: int | None = None) -> None:
    """Write a photo in the format that the suffix of `path` names.

    Pixels in PNG, TIFF and lossless WebP are exact. JPEG is written without chroma subsampling,
    no coefficient coarser than the photo's own file had it or than at quality 95; WebP and AVIF
    at high quality. The file appears under its name only when it is complete; one that was there
    before is replaced.

    Args:
        photo: written with `photo.depth` bits.
        path: where.
        modified_ns: the file's time in nanoseconds since 1970; now, if None.

    Raises:
        OutputError: see `check_depth`; or the file cannot be written.
    """
    check_depth(photo, path)
    try:
        content = _encode(with_depth(photo, photo.depth), WRITABLE[path.suffix.lower()])
    except (pyvips.Error, ValueError, OSError) as error:
        raise OutputError(
            f"{path}: cannot be encoded ({' '.join(str(error).split())})", "write another format"
        ) from error
    try:
        write_whole(path, content, modified_ns=modified_ns)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror})", "choose another place with -o"
        ) from error


def _encode(photo: Photo, kind: str) -> bytes:
    block = exif.with_orientation(photo.exif, photo.orientation)
    if kind == "PNG":
        content = _vips(photo).pngsave_buffer(compression=6, keep="icc")
        if photo.dpi is None:
            content = png.without_resolution(content)
        chunks = [(b"eXIf", block)] if block else []
        # libvips would compress it into a chunk where other programs do not look.
        chunks += [png.xmp_chunk(photo.xmp)] if photo.xmp else []
        chunks += [png.iptc_chunk(photo.iptc)] if photo.iptc else []
        return png.with_chunks(content, chunks)
    if kind == "TIFF":
        image = _vips(photo)
        image.set_type(pyvips.GValue.gint_type, "orientation", photo.orientation)
        # Not every program knows the predictor for float.
        predictor = "none" if photo.depth == 32 else "horizontal"
        content = image.tiffsave_buffer(compression="deflate", predictor=predictor)
        block = block if block and exif.is_sound(block) else None
        return exif.tiff_with_exif(content, block, photo.iptc, resolution=photo.dpi is not None)
    return _encode_with_pillow(photo, kind, block)


def _encode_with_pillow(photo: Photo, kind: str, block: bytes | None) -> bytes:
    """Encode JPEG, WebP or AVIF."""
    pixels = _with_alpha(photo)
    xmp, iptc = photo.xmp, photo.iptc
    # A JPEG's quality is in its tables, which Pillow would scale by it.
    options: dict[str, Any] = {} if kind == "JPEG" else {"quality": _QUALITY[kind]}
    if kind == "JPEG":
        block, xmp, iptc = (
            b if b and len(b) <= _JPEG_SEGMENT else None for b in (block, xmp, iptc)
        )
        options |= _jpeg_options(photo.jpeg)
    elif kind == "WEBP":
        # Pixels under full transparency may be wanted yet.
        options |= {"exact": True, "lossless": photo.lossless}
    else:
        # AVIF says in its own way how a picture is turned, and decoders turn it.
        pixels = np.ascontiguousarray(upright(pixels, photo.orientation))
        block = exif.without_orientation(block) if block and exif.is_sound(block) else None
        options["subsampling"] = "4:0:0" if photo.pixels.shape[2] == 1 else "4:4:4"
    if block:
        options["exif"] = b"Exif\0\0" + block
    if photo.icc:
        options["icc_profile"] = photo.icc
    if xmp:
        options["xmp"] = xmp
    if photo.dpi and kind == "JPEG":
        options["dpi"] = photo.dpi
    image = Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels)
    file = io.BytesIO()
    with _room_for_scans(2 * pixels.nbytes if options.get("progressive") else 0):
        image.save(file, kind, **options)
    content = file.getvalue()
    return jpeg.with_iptc(content, iptc) if iptc and kind == "JPEG" else content


@contextmanager
def _room_for_scans(size: int) -> Iterator[None]:
    """Let Pillow hold a whole progressive JPEG; it guesses too little for fine quantisation."""
    if not size:
        yield
        return
    with _pillow_s_buffer:
        before = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(before, size + (1 << 17))
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before


def _jpeg_options(coding: JpegCoding | None) -> dict[str, Any]:
    """Choose the finer of a JPEG file's own quantisation and our own, step by step."""
    ours = jpeg.coding_of_quality(_QUALITY["JPEG"])
    coding = coding or ours
    tables = [
        [max(1, min(pair)) for pair in zip(a, b, strict=True)]
        for a, b in ((coding.luma, ours.luma), (coding.chroma, ours.chroma))
    ]
    return {
        "qtables": tables,
        "subsampling": "4:4:4",
        "progressive": coding.progressive,
    }


def _with_alpha(photo: Photo) -> Pixels:
    """Put transparency behind the colours; without any, the pixels themselves and no copy."""
    if photo.alpha is None:
        return photo.pixels
    return np.concatenate([photo.pixels, photo.alpha[..., None]], 2)


def _vips(photo: Photo) -> pyvips.Image:
    """Make a libvips image of pixels, transparency, profile, XMP and resolution."""
    array = np.ascontiguousarray(_with_alpha(photo))
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
