"""Write a photo, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pyvips

from amsnet_cli.atomic import write_whole
from amsnet_cli.errors import OutputError
from amsnet_cli.photos.colour import suits
from amsnet_cli.photos.formats import WRITABLE
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth


def check_output(path: Path, *, force: bool) -> None:
    """Check before any work that a photo could be written to `path`.

    Raises:
        OutputError: the suffix names no format that can be written, the folder is missing or
            read-only, or the file exists and `force` is not set.
    """
    if path.suffix.lower() not in WRITABLE:
        raise OutputError(
            f"{path}: cannot write {path.suffix or 'without a suffix'}",
            f"use {' '.join(sorted(WRITABLE))}",
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
    target = WRITABLE[path.suffix.lower()]
    if photo.depth not in target.depths:
        better = "TIFF" if photo.depth == 32 else "PNG or TIFF"
        raise OutputError(
            f"{path}: {target.name} cannot hold {photo.depth} bits a channel",
            f"write a {better}, or allow less with --depth 8",
        )
    if photo.alpha is not None and not target.alpha:
        raise OutputError(
            f"{path}: {target.name} cannot hold transparency", "write a PNG, TIFF or WebP"
        )
    if target.longest_side and max(photo.pixels.shape[:2]) > target.longest_side:
        raise OutputError(
            f"{path}: {target.name} holds {target.longest_side} pixels a side",
            "write a PNG or TIFF",
        )
    if photo.icc and suits(photo.icc, 1) and not target.grey_profile:
        raise OutputError(
            f"{path}: {target.name} cannot hold grey with a colour profile",
            "write a JPEG, PNG or TIFF",
        )


def not_kept(photo: Photo, path: Path) -> list[str]:
    """List the metadata of a photo that will be lost, as lines for people.

    Args:
        photo: the one to be written.
        path: its suffix names the format.
    """
    return WRITABLE[path.suffix.lower()].losses(photo)


def write_photo(photo: Photo, path: str | Path, *, modified_ns: int | None = None) -> None:
    """Write a photo in the format that the suffix of `path` names.

    Pixels in PNG, TIFF and lossless WebP are exact. JPEG is written without chroma subsampling,
    no coefficient coarser than in the photo's own file or at quality 95; WebP and AVIF at high
    quality. The file appears under its name only when it is complete; one that was there before is
    replaced.

    Args:
        photo: written with `photo.depth` bits.
        path: where.
        modified_ns: the file's time in nanoseconds since 1970; now, if None.

    Raises:
        OutputError: see `check_depth`; or the file cannot be written.
    """
    path = Path(path)
    check_depth(photo, path)
    write = WRITABLE[path.suffix.lower()].write
    assert write is not None
    try:
        content = write(with_depth(photo, photo.depth))
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
