"""TIFF stacks: plain, ImageJ hyperstacks, OME-TIFF, BigTIFF.

tifffile finds axes and pages. Where the pixels lie in the file as they are, the result is a copy of
the file with other pixels, so everything else is the same byte for byte. Else the pages are written
anew, with the tags of theirs that do not tell how the pixels are stored.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from amsnet_cli.atomic import whole_file
from amsnet_cli.errors import PhotoError, UsageError
from amsnet_cli.photos.extras import MALFORMED, package_missing
from amsnet_cli.stacks import tiff_metadata
from amsnet_cli.stacks.block import slabs
from amsnet_cli.stacks.stack import Page, PageKind, Stack, check_dtype, places
from amsnet_cli.stacks.tiff_structure import leading_axes, page_count, pictures_of

SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
_MALFORMED: tuple[type[Exception], ...] = (*MALFORMED, tifffile.TiffFileError, PhotoError)
_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_SEPARATE = 2
_PLAIN_BITS = (8, 16, 32, 64)
_RAW = (32803, 34892)
_FOUR_GB = 1 << 32


def open_tiff(path: Path, *, counts: bool = False) -> TiffStack | None:
    """Open a TIFF file as a stack.

    A file is a stack if it has several full pages of one size and type, or was written by ImageJ
    or as OME-TIFF and is grey.

    Args:
        path: of any file.
        counts: whether a grey file of one page is a stack, whoever has written it.

    Returns:
        None where it is none; it may still be a photo.

    Raises:
        PhotoError: it is a stack that is damaged, or that cannot be denoised faithfully.
    """
    try:
        with path.open("rb") as head:
            if head.read(4) not in _HEADS:
                return None
        file = tifffile.TiffFile(path)
    except _MALFORMED:
        return None  # Reading it as a photo will say what is wrong.
    with file:
        try:
            is_raw = file.pages.first.photometric in _RAW
            found = None if is_raw else pictures_of(path, file, counts=counts)
            return TiffStack(path, file, found) if found else None
        except PhotoError:
            raise
        except _MALFORMED as error:
            if not counts:
                return None
            reason = " ".join(str(error).split())
            raise PhotoError(f"{path}: damaged or cut short ({reason})") from error


class TiffStack(Stack):
    """A stack in a TIFF file; `open_tiff` makes it. The file is only open while it is read."""

    suffixes = SUFFIXES

    def __init__(self, path: Path, file: tifffile.TiffFile, series: list[Any]) -> None:
        self.path, self._file, self._series = path, file, series
        self.pages: list[PageKind] = []
        self._places: list[tuple[int, int]] = []  # series, page of it
        self._leading: list[tuple[str, tuple[int, ...]]] = []
        for number, one in enumerate(series):
            self._add(number, one)
        self.axes = "; ".join(
            ", ".join(f"{axis} {length}" for axis, length in zip(axes, shape, strict=True))
            for axes, shape in self._leading
        )
        self._check_whole()

    def _add(self, number: int, series: Any) -> None:
        keyframe = series.keyframe
        dtype = check_dtype(self.path, np.dtype(series.dtype))
        shape: tuple[int, ...] = (keyframe.imagelength, keyframe.imagewidth)
        if keyframe.imagedepth > 1:
            raise PhotoError(f"{self.path}: pages that are volumes", "save it as plain pages")
        samples = keyframe.samplesperpixel
        if samples > 1:
            if samples not in (3, 4) or dtype not in (np.uint8, np.uint16, np.float32):
                raise PhotoError(
                    f"{self.path}: {samples} samples of {dtype} a pixel",
                    "save its channels as pages",
                )
            shape = (*shape, samples)
        count = page_count(series)
        axes, lengths = leading_axes(series)
        if int(np.prod(lengths)) != count:
            axes, lengths = "I", (count,)
        self._leading.append((axes, lengths))
        first = len(self.pages)
        step = count // lengths[0] if lengths else 1
        for i in range(count):
            position = np.unravel_index(i, lengths) if lengths else ()
            channel = int(position[axes.index("C")]) if "C" in axes else 0
            moves = bool(lengths) and axes[0] != "C" and i >= step
            self.pages.append(
                PageKind(
                    shape=shape, dtype=dtype, group=(number, channel),
                    follows=first + i - step if moves else None,
                )
            )  # fmt: skip
            self._places.append((number, i))

    def _check_whole(self) -> None:
        """Refuse a file whose pixels end before they should."""
        size = self.path.stat().st_size
        for index in range(len(self.pages)):
            ends = [offset + count for offset, count in self._segments(index)]
            if not ends or max(ends) > size:
                raise PhotoError(
                    f"{self.path}: cut short, page {index + 1} of {len(self.pages)} is not all "
                    "there", "copy it again from its source",
                )  # fmt: skip

    def _page(self, index: int) -> Any:
        number, place = self._places[index]
        pages = self._series[number].pages
        page = pages[place] if place < len(pages) else None
        if page is not None and page.parent is not self._file:
            raise PhotoError(
                f"{self.path}: its pages lie in several files", "save them as one file"
            )
        return page

    @contextmanager
    def _opened(self) -> Iterator[None]:
        self._file.filehandle.open()
        try:
            yield
        finally:
            self._file.filehandle.close()

    def _segments(self, index: int) -> list[tuple[int, int]]:
        """Place and length of the pieces of a page in the file."""
        number, place = self._places[index]
        series, kind = self._series[number], self.pages[index]
        if series.dataoffset is not None:
            return [(series.dataoffset + place * kind.bytes, kind.bytes)]
        page = self._page(index)
        if page is None:
            raise PhotoError(f"{self.path}: page {index + 1} is missing", "export it again")
        return [
            (offset, count)
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
            if count
        ]

    def _stored_at(self, index: int) -> int | None:
        """Return where the pixels of a page lie as they are; None where they are coded."""
        number, _ = self._places[index]
        key, kind = self._series[number].keyframe, self.pages[index]
        plain = key.compression == 1 and not key.is_tiled and key.predictor == 1
        plain &= key.bitspersample in _PLAIN_BITS and key.fillorder == 1
        plain &= key.samplesperpixel == 1 or key.planarconfig == 1
        segments = self._segments(index)
        joined = all(a + n == b for (a, n), (b, _) in pairwise(segments))
        whole = sum(count for _, count in segments) == kind.bytes
        return segments[0][0] if plain and joined and whole else None

    def read(self, index: int) -> Page:
        """Read a page.

        Raises:
            PhotoError: it is damaged or missing.
        """
        kind = self.pages[index]
        try:
            with self._opened():
                place = self._stored_at(index)
            if place is not None:
                with self.path.open("rb") as file:
                    file.seek(place)
                    content = file.read(kind.bytes)
                stored = np.frombuffer(content, kind.dtype.newbyteorder(self._file.byteorder))
                return stored.reshape(kind.shape).astype(kind.dtype)
            with self._opened():
                array = self._page(index).asarray()
            if len(kind.shape) == 3 and array.shape != kind.shape:
                array = np.moveaxis(array, 0, 2)
            return np.ascontiguousarray(array.reshape(kind.shape).astype(kind.dtype, copy=False))
        except _MALFORMED as error:
            if isinstance(error, PhotoError):
                raise
            reason = " ".join(str(error).split())
            if "requires the 'imagecodecs' package" in reason:
                raise package_missing(self.path, "TIFF of this compression") from error
            raise PhotoError(
                f"{self.path}: page {index + 1} is damaged ({reason})",
                "copy it again from its source",
            ) from error

    def read_part(self, index: int, rows: slice, columns: slice) -> Page:
        """Read a part of a page; all of the page where its pixels are coded."""
        kind = self.pages[index]
        with self._opened():
            place = self._stored_at(index)
        if place is None:
            return self.read(index)[rows, columns]
        dtype = kind.dtype.newbyteorder(self._file.byteorder)
        stored = np.memmap(self.path, dtype, "r", place, kind.shape)
        return np.ascontiguousarray(stored[rows, columns].astype(kind.dtype))

    def along_first_axis(self, chosen: slice) -> list[int]:
        """Return the pages of some places of the first axis, in the order of the file."""
        if chosen == slice(None):
            return list(range(len(self.pages)))
        if len(self._series) > 1:
            raise UsageError(f"{self.path}: several pictures in one file", "leave out --pages")
        lengths = self._leading[0][1] or (1,)
        step = len(self.pages) // lengths[0]
        found = places(chosen, lengths[0], self.path)
        return [place * step + i for place in found for i in range(step)]

    def write(
        self, target: Path, pages: Sequence[Page], chosen: slice, modified_ns: int | None = None
    ) -> None:
        """Write a file like this one, whole or not at all."""
        indices = self.along_first_axis(chosen)
        with self._opened(), whole_file(target, modified_ns=modified_ns) as file:
            stored_at = [self._stored_at(index) for index in indices]
            if len(indices) == len(self.pages) and None not in stored_at:
                with self.path.open("rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)
                for place, page in zip(stored_at, pages, strict=True):
                    assert place is not None
                    file.seek(place)
                    stored = page.dtype.newbyteorder(self._file.byteorder)
                    for rows in slabs(page):
                        file.write(rows.astype(stored).tobytes())
            else:
                self._write_anew(file, indices, pages, chosen)

    def _write_anew(
        self, file: Any, indices: list[int], pages: Sequence[Page], chosen: slice
    ) -> None:
        size = sum(self.pages[index].bytes for index in indices)
        lengths = self._leading[0][1] or (1,)
        edit = tiff_metadata.Selection(
            axes=self._leading[0][0], lengths=lengths,
            places=places(chosen, lengths[0], self.path),
        ) if chosen != slice(None) else None  # fmt: skip
        writer = tifffile.TiffWriter(
            file, bigtiff=self._file.is_bigtiff or size > _FOUR_GB - (1 << 26),
            byteorder=self._file.byteorder, shaped=False,
        )  # fmt: skip
        with writer:
            for position, (index, page) in enumerate(zip(indices, pages, strict=True)):
                key = self._series[self._places[index][0]].keyframe
                tags = tiff_metadata.tags_of(
                    self._file, self._page(index), first=position == 0, selection=edit,
                    numbers=indices,
                )  # fmt: skip
                samples, planes = key.samplesperpixel, key.planarconfig == _SEPARATE
                writer.write(
                    np.moveaxis(page, 2, 0) if samples > 1 and planes else page,
                    photometric="rgb" if samples > 1 else key.photometric,
                    planarconfig=key.planarconfig if samples > 1 else None,
                    extrasamples=key.extrasamples if samples > 3 else None,
                    compression=None if key.compression == 1 else "adobe_deflate",
                    subfiletype=key.subfiletype, extratags=tags, software=False,
                    metadata=None, contiguous=False,
                    **tiff_metadata.resolution_of(self._page(index) or self._file.pages.first),
                )  # fmt: skip
