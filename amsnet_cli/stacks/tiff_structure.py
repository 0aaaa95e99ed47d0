"""Which pages of a TIFF file belong to its pictures, and along which axes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from amsnet_cli.errors import PhotoError

_GREY, _RGB = (0, 1), 2
_NO_PAGE = 1 | 4
"""Of NewSubfileType: a thumbnail, a mask."""
_MOST_DIRECTORIES = 10_000_000
_SUBFILE_TYPE = 254


def pictures_of(path: Path, file: tifffile.TiffFile, *, counts: bool) -> list[Any] | None:
    """Return the pictures of a stack; None where the file is none."""
    kinds = _subfile_types(file)
    if kinds is None:
        raise PhotoError(
            f"{path}: cut short, a page lies beyond its end", "copy it again from its source"
        )
    if any(kind & _NO_PAGE for kind in kinds):
        return None
    described = file.is_imagej or file.is_ome
    full = [s for s in file.series if not s.keyframe.is_reduced and not s.keyframe.is_mask]
    if not full:
        return None
    several = page_count(full[0]) > 1 if len(full) == 1 else file.is_ome
    one_grey = len(full) == 1 and full[0].keyframe.samplesperpixel == 1
    if not several and not (one_grey and (described or counts)):
        return None
    if not several and full[0].keyframe.photometric not in _GREY:
        return None
    images = (file.imagej_metadata or {}).get("images", 1)
    if file.is_imagej and images > page_count(full[0]):
        raise PhotoError(
            f"{path}: cut short, {images} pages should be there", "copy it again from its source"
        )
    for series in full:
        if len(series.levels) > 1:
            raise PhotoError(
                f"{path}: a pyramid of {len(series.levels)} resolutions", "save the largest alone"
            )
        if not series.keyframe.dtype or series.keyframe.photometric not in (*_GREY, _RGB):
            colours = tifffile.PHOTOMETRIC(series.keyframe.photometric).name.lower()
            raise PhotoError(f"{path}: pages with {colours} colours", "convert them to grey or RGB")
    return full


def _subfile_types(file: tifffile.TiffFile) -> list[int] | None:
    """Return NewSubfileType of all directories; None where their chain leads out of the file."""
    layout, handle = file.tiff, file.filehandle
    found: list[int] = []
    handle.seek(layout.offsetsize if layout.is_bigtiff else 4)
    while len(found) < _MOST_DIRECTORIES:
        content = handle.read(layout.offsetsize)
        if len(content) < layout.offsetsize:
            return None
        place = struct.unpack(layout.offsetformat, content)[0]
        if place == 0:
            return found
        handle.seek(place)
        content = handle.read(layout.tagnosize)
        if len(content) < layout.tagnosize:
            return None
        count = struct.unpack(layout.tagnoformat, content)[0]
        content = handle.read(layout.tagsize)
        code, _ = struct.unpack(layout.byteorder + "HH", content[:4].ljust(4, b"\0"))
        # Directories are sorted, and this tag is the least.
        value = content[12:16] if layout.is_bigtiff else content[8:12]
        is_told = code == _SUBFILE_TYPE and len(value) == 4
        found.append(struct.unpack(layout.byteorder + "I", value)[0] if is_told else 0)
        handle.seek(place + layout.tagnosize + count * layout.tagsize)
    return None


def page_count(series: Any) -> int:
    """Return the pages of a picture, also of those that have no directory."""
    return (
        int(np.prod(leading_axes(series)[1], dtype=int)) if series.dataoffset else len(series.pages)
    )


def leading_axes(series: Any) -> tuple[str, tuple[int, ...]]:
    """Names and lengths of the axes before those of a page; those of length 1 are left out."""
    pairs = [
        (axis, length)
        for axis, length in zip(series.axes, series.shape, strict=True)
        if axis not in "YXS" and length > 1
    ]
    return "".join(axis for axis, _ in pairs), tuple(length for _, length in pairs)
