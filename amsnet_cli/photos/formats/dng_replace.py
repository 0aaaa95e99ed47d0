"""Replace the mosaic and the previews in a DNG file; all else keeps its place and its bytes."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

from amsnet_cli.photos import dng_tags, ifd, ifd_edit
from amsnet_cli.photos.dng_tags import DngTags
from amsnet_cli.photos.exif import SOFTWARE
from amsnet_cli.photos.formats.dng_mosaic import CodedMosaic
from amsnet_cli.photos.ifd import Directory, Entry, MalformedError
from amsnet_cli.photos.ifd_entries import longs
from amsnet_cli.photos.mosaic import Mosaic

PreviewOf = Callable[[tuple[int, int], bool], tuple[dict[int, Entry], bytes]]
"""Makes the tags and the data of a preview of this height and width, as JPEG or not."""

_COMPRESSION, _JPEG = 259, 7
_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS = 273, 279, 324, 325
_PREVIEW_TYPES, _PREVIEW_COLOURS = (1, 0x10001), (1, 2, 6)
_CODING = (
    266, 278, 317, 322, 323, _STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS, 339, 347, 50712,
    50974, 50975, 52547, 52553, 52554, 52555,
)  # fmt: skip
"""Tags of how pixels were coded: predictor, strips, tiles, tables, linearisation, interleaving,
JPEG XL."""
_YCBCR = (529, 530, 531, 532)
_UNIQUE_ID, _DIGESTS = 50781, (50972, 51111)
_PADDING = 3
"""Bytes between two things that only align the second."""

Changes = dict[int, Entry | None]
"""New entries of a directory; None to remove one."""


def replace_pictures(
    content: bytes, tags: DngTags, mosaic: Mosaic, preview_of: PreviewOf, software: str = ""
) -> bytes:
    """Make a DNG file with another mosaic.

    New pictures go where old ones were, if there is room, else behind the end. Old ones at the end
    of the file are cut off.

    Args:
        content: the file.
        tags: its tags.
        mosaic: with values for the whole frame, and the NoiseProfile that is left.
        preview_of: makes the previews.
        software: for the Software tag; empty to keep what was there.
    """
    order = tags.order
    found = dict(dng_tags.directories(content))
    previews = [place for place, directory in found.items() if _is_preview(directory, order)]
    gone = [extent for p in (tags.place, *previews) for extent in _extents(found[p], order)]
    file = _File(content, gone)
    pixels = CodedMosaic(mosaic.frame, order, period=mosaic.colours.shape[1])
    changes: dict[int, Changes] = {place: {} for place in found}
    changes[tags.place] = dict.fromkeys(_CODING) | pixels.tags(file.place(pixels.data))
    if dng_tags.WHITE_LEVEL not in found[tags.place]:  # it goes by the bits a sample
        changes[tags.place][dng_tags.WHITE_LEVEL] = longs(mosaic.white, order=order)
    for place in previews:
        directory = found[place]
        size = _first(directory, 257, order), _first(directory, 256, order)
        plain = _first(directory, _COMPRESSION, order) == 1
        entries, data = preview_of(size, not plain)
        changes[place] = dict.fromkeys((*_CODING, *_YCBCR)) | entries
        changes[place][_STRIPS] = longs(file.place(data), order=order)
    first = next(iter(found))
    changes[first] |= dict.fromkeys(_DIGESTS)
    if software:
        packed = software.encode() + b"\0"
        changes[first][SOFTWARE] = Entry(type=ifd.ASCII, count=len(packed), value=packed)
    if _UNIQUE_ID in found[first]:
        digest = hashlib.md5(pixels.data, usedforsecurity=False).digest()
        changes[first][_UNIQUE_ID] = Entry(type=1, count=16, value=digest)
    profile = [number for pair in mosaic.noise_profile for number in pair]
    packed = struct.pack(f"{order}{len(profile)}d", *profile)
    entry = Entry(type=12, count=len(profile), value=packed) if profile else None
    for place, directory in found.items():
        if dng_tags.NOISE_PROFILE in directory:
            changes[place][dng_tags.NOISE_PROFILE] = entry
    return _with_directories(file, found, changes, order)


class _File:
    """A file with room where pictures were."""

    def __init__(self, content: bytes, gone: list[tuple[int, int]]) -> None:
        """Cut off what is gone at the end.

        Args:
            content: the file.
            gone: start and end of what is no longer needed.
        """
        self.original = content
        end = len(content)
        self.room: list[tuple[int, int]] = []
        for start, stop in sorted(gone):
            if self.room and start <= self.room[-1][1] + _PADDING:
                self.room[-1] = self.room[-1][0], max(stop, self.room[-1][1])
            else:
                self.room.append((start, stop))
        while self.room and self.room[-1][1] >= end - _PADDING:
            end = min(end, self.room.pop()[0])
        self.content = bytearray(content[:end])

    def place(self, data: bytes) -> int:
        """Put data where there is room, at an even place, and return it."""
        for index, (gone, end) in enumerate(self.room):
            start = gone + gone % 2
            if end - start >= len(data):
                self.content[start : start + len(data)] = data
                self.room[index] = (start + len(data), end)
                return start
        self.content += b"\0" * (len(self.content) % 2)
        self.content += data
        return len(self.content) - len(data)


def _with_directories(
    file: _File, found: dict[int, Directory], changes: dict[int, Changes], order: str
) -> bytes:
    """Write changed directories anew behind the end, those that others point to first."""
    moved: dict[int, int] = {}
    for place, directory in reversed(found.items()):
        below = directory.get(dng_tags.SUB_IFDS)
        if isinstance(below, Entry):
            places = [moved.get(p, p) for p in ifd.numbers(below, order)]
            packed = struct.pack(f"{order}{len(places)}I", *places)
            if packed != below.value:
                entry = Entry(type=ifd.LONG, count=len(places), value=packed)
                changes[place][dng_tags.SUB_IFDS] = entry
        listed, pointer = ifd_edit.raw_entries(file.original, place)
        entries = {struct.unpack_from(order + "H", entry)[0]: entry for _, entry in listed}
        (following,) = struct.unpack(order + "I", pointer)
        changed = dict(entries)
        for tag, new in changes[place].items():
            changed.pop(tag, None)
            if new is not None:
                field = new.value.ljust(4, b"\0")
                if len(field) > 4:
                    field = struct.pack(order + "I", file.place(new.value))
                changed[tag] = struct.pack(order + "HHI", tag, new.type, new.count) + field
        after = moved.get(following, following)
        if changed != entries or after != following:
            table = b"".join(changed[tag] for tag in sorted(changed))
            packed = (
                struct.pack(order + "H", len(changed)) + table + struct.pack(order + "I", after)
            )
            moved[place] = file.place(packed)
    first = next(iter(found))
    file.content[4:8] = struct.pack(order + "I", moved.get(first, first))
    return bytes(file.content)


def _is_preview(directory: Directory, order: str) -> bool:
    kind = _first(directory, dng_tags.NEW_SUBFILE_TYPE, order)
    return kind in _PREVIEW_TYPES and (
        _first(directory, dng_tags.PHOTOMETRIC, order) in _PREVIEW_COLOURS
    )


def _extents(directory: Directory, order: str) -> list[tuple[int, int]]:
    """Return start and end of each strip or tile."""
    for starts_tag, lengths_tag in ((_STRIPS, _STRIP_LENGTHS), (_TILES, _TILE_LENGTHS)):
        starts, lengths = directory.get(starts_tag), directory.get(lengths_tag)
        if isinstance(starts, Entry) and isinstance(lengths, Entry):
            pairs = zip(ifd.numbers(starts, order), ifd.numbers(lengths, order), strict=False)
            return [(start, start + length) for start, length in pairs]
    return []


def _first(directory: Directory, tag: int, order: str) -> int:
    """Return the first whole number of an entry, -1 where there is none."""
    item = directory.get(tag)
    try:
        return ifd.numbers(item, order)[0] if isinstance(item, Entry) else -1
    except MalformedError:
        return -1
