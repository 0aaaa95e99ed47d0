"""Zarr folders (2 and 3), with the pictures of OME-Zarr (0.4 and 0.5) or as plain arrays.

The result is a copy of the folder. Only the chunks of its pictures are written anew, with the same
chunks, shards, codecs and fill value, and the smaller copies of a picture follow from the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from amsnet_cli.atomic import whole_folder
from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.photos.extras import package_missing
from amsnet_cli.photos.suffix import ZARR, is_zarr
from amsnet_cli.stacks import zarr_pyramid, zarr_selection
from amsnet_cli.stacks.stack import Page, PageKind, Stack, check_dtype, places
from amsnet_cli.stacks.zarr_array import open_array, read_region, regions_of, unit_of
from amsnet_cli.stacks.zarr_layout import ZarrNode, ZarrPicture, find_pictures, list_nodes

_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zmetadata")
"""Files of an array that are no chunks."""
_COLOURS = (3, 4)


class ZarrStack(Stack):
    """All pictures of a Zarr folder."""

    suffixes = (ZARR,)

    def __init__(self, path: Path, pictures: list[ZarrPicture], nodes: list[ZarrNode]) -> None:
        self.path, self._pictures, self._nodes = path, pictures, nodes
        self._levels = [[open_array(path, level) for level in p.levels] for p in pictures]
        self.pages: list[PageKind] = []
        self._places: list[tuple[int, tuple[int, ...]]] = []  # picture, position
        said = []
        for number, (picture, levels) in enumerate(zip(pictures, self._levels, strict=True)):
            zarr_pyramid.check_levels(path, picture, levels)
            said.append(self._add(number, picture, levels[0]))
        self.axes = "; ".join(said)

    def _add(self, number: int, picture: ZarrPicture, array: Any) -> str:
        name, shape = self.path / picture.levels[0], tuple(array.shape)
        dtype = check_dtype(name, array.dtype)
        axes = picture.axes
        if len(shape) < 2 or 0 in shape or (axes is not None and len(axes) != len(shape)):
            raise PhotoError(f"{name}: an array of shape {shape}", "name one with pictures")
        if "c" in (axes or "")[-2:] or (axes is None and shape[-1] in _COLOURS):
            raise PhotoError(
                f"{name}: channels lie within its pages", "save them along an axis before y and x"
            )
        leading = shape[:-2]
        names = (axes or "i" * len(shape))[:-2]
        along = _first_axis(picture, shape)
        step = int(np.prod(leading[along + 1 :])) if leading else 1
        first = len(self.pages)
        for i, position in enumerate(np.ndindex(leading)):
            channel = position[names.index("c")] if "c" in names else 0
            follows = bool(leading) and names[along] != "c" and position[along] > 0
            self.pages.append(
                PageKind(
                    shape=shape[-2:], dtype=dtype, group=(number, channel),
                    follows=first + i - step if follows else None,
                )
            )  # fmt: skip
            self._places.append((number, position))
        return ", ".join(f"{n.upper()} {size}" for n, size in zip(names, leading, strict=True))

    def notes(self) -> list[str]:
        """Return how many chunks are missing, if any are."""
        missing = total = 0
        for picture, levels in zip(self._pictures, self._levels, strict=True):
            counts = [-(-n // k) for n, k in zip(levels[0].shape, unit_of(levels[0]), strict=True)]
            for position in np.ndindex(*counts):
                total += 1
                missing += not self._has_chunk(picture.levels[0], levels[0], position)
        said = f"{missing} of {total} chunks are missing: they are empty, and stay so"
        return [said] * bool(missing)

    def _has_chunk(self, level: str, array: Any, position: tuple[int, ...]) -> bool:
        key: str = array.metadata.encode_chunk_key(position)
        return Path(self.path, level, key).is_file()

    def read(self, index: int) -> Page:
        """Read a page; chunks that are missing have the fill value."""
        return self.read_part(index, slice(None), slice(None))

    def read_part(self, index: int, rows: slice, columns: slice) -> Page:
        """Read the chunks of a part of a page."""
        number, position = self._places[index]
        level, array = self._pictures[number].levels[0], self._levels[number][0]
        page = read_region(self.path, level, array, (*position, rows, columns))
        return page.astype(self.pages[index].dtype, copy=False)

    def along_first_axis(self, chosen: slice) -> list[int]:
        """Return the pages of some places of the first axis that is longer than 1."""
        if chosen == slice(None):
            return list(range(len(self.pages)))
        zarr_selection.check_selectable(self.path, self._nodes, len(self._pictures))
        shape = self._levels[0][0].shape
        along = _first_axis(self._pictures[0], shape)
        length = shape[along] if len(shape) > 2 else 1
        if length > 1 and (self._pictures[0].axes or "i" * len(shape))[along] == "c":
            raise UsageError(f"{self.path}: no axis but that of channels", "leave out --pages")
        found = places(chosen, length, self.path)
        return [
            i
            for i, (_, position) in enumerate(self._places)
            if not position or position[along] in found
        ]

    def write(
        self, target: Path, pages: Sequence[Page], chosen: slice, modified_ns: int | None = None
    ) -> None:
        """Write a folder like this one, whole or not at all."""
        indices = self.along_first_axis(chosen)
        where = {self._places[index]: position for position, index in enumerate(indices)}
        with whole_folder(target, modified_ns=modified_ns) as folder:
            _copy(self.path, folder, {level for p in self._pictures for level in p.levels})
            kept = None
            if len(indices) < len(self.pages):
                along = _first_axis(self._pictures[0], self._levels[0][0].shape)
                kept = places(chosen, self._levels[0][0].shape[along], self.path)
                zarr_selection.select(folder, self._pictures[0], self._levels[0], along, kept)
            for number, picture in enumerate(self._pictures):
                new = [open_array(folder, level, mode="r+") for level in picture.levels]
                along = _first_axis(picture, self._levels[number][0].shape)
                self._write_full(number, new[0], pages, where, along, kept)
                zarr_pyramid.write_levels(self.path, folder, picture, self._levels[number], new)

    def _write_full(
        self,
        number: int,
        array: Any,
        pages: Sequence[Page],
        where: dict[tuple[int, tuple[int, ...]], int],
        along: int,
        kept: range | None,
    ) -> None:
        """Write the full size chunk by chunk; what was missing stays so."""
        level, old = self._pictures[number].levels[0], self._levels[number][0]
        for region in regions_of(array.shape, unit_of(array)):
            *leading, rows, columns = region
            block = np.empty([part.stop - part.start for part in region], array.dtype)
            found = False
            for place in product(*(range(part.start, part.stop) for part in leading)):
                source = list(place)
                if kept is not None:
                    source[along] = kept[place[along]]
                inside = tuple(p - part.start for p, part in zip(place, leading, strict=True))
                block[inside] = pages[where[number, tuple(source)]][rows, columns]
                corner = (*source, rows.start, columns.start)
                chunk = tuple(p // size for p, size in zip(corner, unit_of(old), strict=True))
                found = found or self._has_chunk(level, old, chunk)
            if found:
                array[region] = block


def open_zarr(path: Path) -> ZarrStack | None:
    """Open a Zarr folder.

    Returns:
        None where it is none.

    Raises:
        PhotoError: it holds no picture, its metadata are damaged, or its pixels are coded in a way
            that is unknown here; or zarr is missing.
    """
    if not is_zarr(path):
        return None
    try:
        import zarr  # noqa: F401
    except ImportError as error:
        raise package_missing(path, "Zarr", "zarr") from error
    nodes = list_nodes(path)
    if not nodes:
        raise PhotoError(f"{path}: no Zarr metadata in it", "copy it again from its source")
    return ZarrStack(path, find_pictures(path, nodes), nodes)


def _first_axis(picture: ZarrPicture, shape: Sequence[int]) -> int:
    """Return the first axis before y and x that is longer than 1 and holds no channels, or 0."""
    names = picture.axes or "i" * len(shape)
    long = (i for i, n in enumerate(shape[:-2]) if n > 1 and names[i] != "c")
    return next(long, 0)


def _copy(source: Path, target: Path, levels: set[str]) -> None:
    """Copy a folder without the chunks of some arrays."""
    for place, below, names in os.walk(source, followlinks=True):
        relative = Path(place).relative_to(source)
        (target / relative).mkdir(exist_ok=True)
        if ("" if relative == Path() else relative.as_posix()) in levels:
            below.clear()
            names = [name for name in names if name in _METADATA]  # noqa: PLW2901
        for name in names:
            shutil.copy2(Path(place, name), target / relative / name)
