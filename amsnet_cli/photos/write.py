"""Write a photo, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips

from amsnet_cli.atomic import write_output
from amsnet_cli.errors import OutputError
from amsnet_cli.photos.colour import is_linear, suits
from amsnet_cli.photos.formats import WRITABLE
from amsnet_cli.photos.formats.format import BLOCKS, Format
from amsnet_cli.photos.geometry import turned_upright
from amsnet_cli.photos.metadata import with_true_sizes
from amsnet_cli.photos.photo import Photo
from amsnet_cli.photos.pixel_codec import with_depth
from amsnet_cli.photos.suffix import ZARR, is_zarr, suffix_of


def check_output(path: Path, *, force: bool, suffixes: Collection[str] = WRITABLE) -> None:
    """Check before any work that a photo could be written to `path`.

    Args:
        path: of the result.
        force: whether it may replace a file.
        suffixes: of the formats that can be written.

    Raises:
        OutputError: the suffix names no format that can be written, the folder is missing or
            read-only, or the file exists and `force` is not set.
    """
    if suffix_of(path.name) not in suffixes:
        raise OutputError(
            f"{path}: cannot write {suffix_of(path.name) or 'without a suffix'}",
            f"use {' '.join(sorted(suffixes))}",
        )
    if path.is_dir() and not (ZARR in suffixes and is_zarr(path)):
        raise OutputError(f"{path}: a folder has this name", "choose another name")
    if path.is_file() and ZARR in suffixes:
        raise OutputError(f"{path}: a file has this name", "choose another name")
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
        depth = min(target.depths)
        raise OutputError(
            f"{path}: {target.name} cannot hold {photo.depth} bits a channel",
            f"write a {better}, or allow {'less' if depth < photo.depth else 'more'}"
            f" with --depth {depth}",
        )
    shows_through = photo.alpha is not None and photo.fourth_channel != "unspecified"
    if shows_through and not target.fourth_channels:
        raise OutputError(
            f"{path}: {target.name} cannot hold transparency", "write a PNG, TIFF or WebP"
        )
    if target.longest_side and max(photo.pixels.shape[:2]) > target.longest_side:
        raise OutputError(
            f"{path}: {target.name} holds {target.longest_side} pixels a side",
            "write a PNG or TIFF",
        )
    if photo.icc and not target.holds_profile(photo.icc):
        kind = "grey with a colour profile" if suits(photo.icc, 1) else "this colour profile"
        raise OutputError(f"{path}: {target.name} cannot hold {kind}", "write a JPEG, PNG or TIFF")


def with_fitting_depth(photo: Photo, path: Path) -> Photo:
    """Give a RAW photo the most bits that the format holds, if it does not hold 16.

    It is developed into float and has no depth to lose. In linear light 8 bits show steps in the
    dark, so that is left for `check_depth` to refuse.

    Args:
        photo: as read; any other than a RAW photo stays as it is.
        path: its suffix names the format.
    """
    depths = WRITABLE[path.suffix.lower()].depths
    if photo.bits is None or photo.bits in depths:
        return photo
    most = max(depths)
    return photo if most < photo.bits and is_linear(photo.icc) else replace(photo, bits=most)


def not_kept(photo: Photo, path: Path) -> list[str]:
    """List the metadata of a photo that will be lost, as lines for people.

    Args:
        photo: the one to be written.
        path: its suffix names the format.
    """
    target = WRITABLE[path.suffix.lower()]
    lost = target.losses(photo)
    blocks = [name for name, of in BLOCKS.items() if of(photo) and name not in target.blocks]
    if blocks:
        lost.append(f"{target.name} has no place for its {', '.join(blocks)}")
    for kind, of_photo, held in (
        ("texts", photo.texts, target.texts),
        ("attributes", photo.attributes, target.attributes),
    ):
        dropped = [item[0] for item in of_photo if not {item[0], "*"} & {*held}]
        if dropped:
            lost.append(f"{target.name} has no place for its {kind}: {', '.join(dropped)}")
    if photo.alpha is not None and _is_dropped(photo, target):
        lost.append(f"{target.name} has no place for its fourth channel, which is no transparency")
    return lost


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
    target = WRITABLE[path.suffix.lower()]
    write = target.write
    assert write is not None
    try:
        photo = _with_fitting_alpha(with_depth(photo, photo.depth), target)
        content = write(with_true_sizes(turned_upright(photo) if target.upright else photo))
    except (pyvips.Error, ValueError, OSError) as error:
        raise OutputError(
            f"{path}: cannot be encoded ({' '.join(str(error).split())})", "write another format"
        ) from error
    write_output(path, content, modified_ns=modified_ns)


def _is_dropped(photo: Photo, target: Format) -> bool:
    return photo.fourth_channel == "unspecified" and "unspecified" not in target.fourth_channels


def _with_fitting_alpha(photo: Photo, target: Format) -> Photo:
    """Drop a fourth channel that the format cannot hold; divide colours by associated alpha."""
    if photo.alpha is None or photo.fourth_channel in target.fourth_channels:
        return photo
    if _is_dropped(photo, target):
        return replace(photo, alpha=None)
    largest = 1.0 if photo.pixels.dtype == np.float32 else float(np.iinfo(photo.alpha.dtype).max)
    cover = np.maximum(photo.alpha, largest * 1e-6)[..., None] / largest
    pixels = np.clip(np.rint(photo.pixels / cover), 0, largest).astype(photo.pixels.dtype)
    return replace(photo, pixels=pixels, fourth_channel="transparency")
