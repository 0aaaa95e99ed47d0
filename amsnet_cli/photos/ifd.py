"""TIFF image file directories (IFDs), as in EXIF blocks and TIFF files: read and append them.

Values are raw bytes. `ifd_edit` changes single entries. Of a tag that is there twice the first
counts, as in libtiff.

TIFF 6.0, section 2; BigTIFF is only read. Malformed entries are skipped one by one. No file makes
the reader pass its end or read a directory twice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Union

import numpy as np

EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD = 0x8769, 0x8825, 0xA005
"""Tags that point to further directories of metadata."""
SUB_IFDS = 330
"""Tag that points to directories of further pictures."""

ASCII, SHORT, LONG, UNDEFINED = 2, 3, 4, 7
_SIZES = {
    **{1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4},
    **{16: 8, 17: 8, 18: 8},  # BigTIFF
    129: 1,  # EXIF 3.0
}
_MAGIC = (42, 0x55, 0x4F52, 0x5352)  # TIFF, Panasonic's RW2, two of Olympus's ORF
BIG_MAGIC = 43
"""Of BigTIFF."""
_BEYOND = (struct.error, OverflowError)
"""What is raised where a place is behind the end of a file, or of any that could be."""
_MAX_DIRECTORIES = 10_000


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A value: its TIFF type, the count, and the bytes in the file's order."""

    type: int
    count: int
    value: bytes


Directory = dict[int, Union[Entry, "Directory"]]
"""Tags with their values, or the directories they point to."""


class MalformedError(ValueError):
    """No TIFF structure."""


def byte_order(content: bytes) -> str:
    """Return "<" or ">", or raise `MalformedError`."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 8:
        raise MalformedError("no byte order")
    return order


def read_tree(content: bytes) -> Directory:
    """Read the first directory, with the EXIF, GPS and interoperability directories below it.

    Raises:
        MalformedError: there is none.
    """
    order, big, first = _header(content)
    try:
        return _read(content, order, big, first, {first})
    except _BEYOND as error:
        raise MalformedError("no directory") from error


def read_directories(content: bytes) -> list[Directory]:
    """Read all directories of pictures: the chain, each followed by its SubIFDs.

    Raises:
        MalformedError: there is none.
    """
    order, big, at = _header(content)
    pointer, head, size = ("Q", "Q", 20) if big else ("I", "H", 12)
    found: list[Directory] = []
    seen: set[int] = set()
    try:
        while at and at not in seen and len(found) < _MAX_DIRECTORIES:
            seen.add(at)
            found.append(_read(content, order, big, at, seen))
            below = found[-1].get(SUB_IFDS)
            for place in numbers(below, order) if isinstance(below, Entry) else ():
                if place not in seen and len(found) < _MAX_DIRECTORIES:
                    seen.add(place)
                    found.append(_read(content, order, big, place, seen))
            (count,) = struct.unpack_from(order + head, content, at)
            (at,) = struct.unpack_from(
                order + pointer, content, at + struct.calcsize(head) + size * count
            )
    except (*_BEYOND, MalformedError) as error:
        if not found:
            raise MalformedError("no directory") from error
    return found


def ends_within(content: bytes) -> bool:
    """Return whether the first directory ends before the file does, by its number of entries.

    Raises:
        MalformedError: there is none.
    """
    order, big, first = _header(content)
    head, size = ("Q", 20) if big else ("H", 12)
    try:
        (count,) = struct.unpack_from(order + head, content, first)
    except _BEYOND as error:
        raise MalformedError("no directory") from error
    return first + struct.calcsize(order + head) + int(count) * size <= len(content)


def chain(content: bytes) -> list[int]:
    """Return where the directories of the main chain begin, one for each page (not BigTIFF).

    Raises:
        MalformedError: there is none.
    """
    order = byte_order(content)
    (magic, place) = struct.unpack_from(order + "HI", content, 2)
    if magic not in _MAGIC:
        raise MalformedError("no TIFF")
    places: dict[int, None] = {}  # in order, and soon found in long chains
    while place and place not in places and place + 2 <= len(content):
        places[place] = None
        (count,) = struct.unpack_from(order + "H", content, place)
        following = content[place + 2 + 12 * count : place + 6 + 12 * count]
        place = struct.unpack(order + "I", following)[0] if len(following) == 4 else 0
    if not places:
        raise MalformedError("no directory")
    return list(places)


def read_directory(content: bytes, place: int) -> Directory:
    """Read one directory (not BigTIFF), with pointers to others as the numbers they are."""
    try:
        return dict(_entries(content, byte_order(content), False, place))
    except _BEYOND:
        return {}


def append_tree(content: bytes, tree: Directory) -> bytes:
    """Make `tree` the first directory of a file (not BigTIFF); nothing in it moves.

    Args:
        content: a whole file, or the 8 bytes of a header alone.
        tree: in the file's byte order.
    """
    order = byte_order(content)
    filling = b"\0" * (len(content) % 2)
    tail, place = _laid_out(tree, order, len(content) + len(filling))
    # At once, as a large file should not be copied over and over.
    parts = (content[:4], struct.pack(order + "I", place), memoryview(content)[8:], filling, tail)
    return b"".join(parts)


def reordered(tree: Directory, before: str, after: str) -> Directory:
    """Change the byte order of all values."""
    return {tag: _reordered(item, before, after) for tag, item in tree.items()}


def value_of(content: bytes, tag: int) -> bytes | None:
    """Return the bytes of a tag in the first directory."""
    try:
        item = read_tree(content).get(tag)
    except MalformedError:
        return None
    return item.value if isinstance(item, Entry) else None


def first_number(item: Entry | Directory | None, order: str, default: int) -> int:
    """Return the first whole number of an entry, `default` where there is none."""
    try:
        return numbers(item, order)[0] if isinstance(item, Entry) else default
    except MalformedError:
        return default


def numbers(entry: Entry, order: str) -> list[int]:
    """Read the whole numbers of an entry.

    Raises:
        MalformedError: it holds something else.
    """
    if entry.type not in (1, SHORT, LONG, 13, 16, 18):
        raise MalformedError("no whole numbers")
    array = np.frombuffer(entry.value, f"{order}u{_SIZES[entry.type]}")
    return [int(number) for number in array]


def _header(content: bytes) -> tuple[str, bool, int]:
    """Return the byte order, whether it is BigTIFF, and the place of the first directory."""
    order = byte_order(content)
    (magic,) = struct.unpack_from(order + "H", content, 2)
    if magic not in (*_MAGIC, BIG_MAGIC):
        raise MalformedError("no TIFF")
    big = magic == BIG_MAGIC
    try:
        (first,) = struct.unpack_from(order + ("Q" if big else "I"), content, 8 if big else 4)
    except _BEYOND as error:
        raise MalformedError("no directory") from error
    return order, big, first


def _read(content: bytes, order: str, big: bool, start: int, seen: set[int]) -> Directory:
    tree: Directory = {}
    for tag, entry in _entries(content, order, big, start):
        if tag not in (EXIF_IFD, GPS_IFD, INTEROPERABILITY_IFD):
            tree[tag] = entry
        elif entry.type in (LONG, 13, 16, 18) and entry.count == 1:
            below = numbers(entry, order)[0]
            if below not in seen:
                seen.add(below)
                try:
                    tree[tag] = _read(content, order, big, below, seen)
                except _BEYOND:
                    continue
    return tree


def _entries(content: bytes, order: str, big: bool, start: int) -> Iterator[tuple[int, Entry]]:
    head, whole, inline = ("Q", "HHQ", 8) if big else ("H", "HHI", 4)
    (count,) = struct.unpack(order + head, content[start : start + struct.calcsize(order + head)])
    size = struct.calcsize(order + whole) + inline
    place, found = start + struct.calcsize(order + head), set[int]()
    for at in range(place, min(place + size * min(count, 0xFFFF), len(content) - size + 1), size):
        tag, kind, number = struct.unpack_from(order + whole, content, at)
        length = number * _SIZES.get(kind, 0)
        value_at = at + size - inline
        if length > inline:
            (value_at,) = struct.unpack_from(order + ("Q" if big else "I"), content, value_at)
        if 0 < length <= len(content) - value_at and tag not in found:
            found.add(tag)
            value = bytes(content[value_at : value_at + length])
            yield tag, Entry(type=kind, count=number, value=value)


def _laid_out(tree: Directory, order: str, at: int) -> tuple[bytes, int]:
    """Lay a directory out from an even place `at`: its bytes, and where it begins."""
    tail, entries = b"", []
    for tag, item in sorted(tree.items()):
        if isinstance(item, dict):
            below, place = _laid_out(item, order, at + len(tail))
            tail += below
            entry = Entry(type=LONG, count=1, value=struct.pack(order + "I", place))
        else:
            entry = item
        field = entry.value.ljust(4, b"\0")
        if len(field) > 4:
            field = struct.pack(order + "I", at + len(tail))
            tail += entry.value + b"\0" * (len(entry.value) % 2)
        entries.append(struct.pack(order + "HHI", tag, entry.type, entry.count) + field)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + b"\0\0\0\0"
    return tail + directory, at + len(tail)


def _reordered(item: Entry | Directory, before: str, after: str) -> Entry | Directory:
    if isinstance(item, dict):
        return reordered(item, before, after)
    size = 4 if item.type in (5, 10) else _SIZES[item.type]
    if before == after or size == 1:
        return item
    value = np.frombuffer(item.value, f"u{size}").byteswap().tobytes()
    return Entry(type=item.type, count=item.count, value=value)
