"""Find damage in the strips or tiles of a TIFF file that its decoder would pass over.

libtiff ignores wrong checksums in deflated tiles, lengths in PackBits and warnings in JPEG tiles,
and stops at the last pixel, whatever follows.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import ifd
from amsnet_cli.photos.formats.jpeg_damage import damage_in
from amsnet_cli.photos.formats.webp import has_more_than_its_picture
from amsnet_cli.photos.ifd import Directory, Entry, MalformedError
from amsnet_cli.photos.limits import HARMLESS, LARGEST_EXPANSION

STORED, LZW, JPEG, WEBP, PACKBITS, DEFLATE = 1, 5, 7, 50001, 32773, (8, 32946)
_PLACES = ((273, 279), (324, 325))
"""Tags of the places and lengths of strips, and of tiles."""
_FILL_ORDER, _JPEG_TABLES = 266, 347
_YCBCR = 6
_OF_THREE_COLOURS = (2, _YCBCR)
"""RGB and YCbCr, of PhotometricInterpretation."""
_ZLIB_HEADER = 2
"""Bytes before deflated data."""
_PADDING = 3
"""Bytes to the next multiple of four, to which some writers fill up what they store."""
_WIDEST = 1_000_000
"""Bytes of a row of what is decoded to be counted; libvips takes ten times as many."""


@dataclass(frozen=True, kw_only=True)
class _Segment:
    """A strip or tile: its place and length in the file, and its length when decoded."""

    place: int
    length: int
    decoded: int


def check_segments(path: Path, content: bytes, tags: Directory, order: str) -> None:
    """Raise `PhotoError` if a strip or tile is missing or does not decode to its whole length.

    Args:
        path: for messages.
        content: the file.
        tags: the directory of the picture.
        order: "<" or ">", the byte order of the file.
    """
    try:
        segments = _segments(tags, order, len(content))
    except MalformedError as error:
        raise PhotoError(
            f"{path}: damaged or cut short ({error})", "copy it again from its source"
        ) from error
    missing = max(segment.place + segment.length for segment in segments) - len(content)
    if missing > 0:
        raise PhotoError(
            f"{path}: the picture is cut short, {missing} bytes are missing",
            "copy it again from its source",
        )
    check = _check_of(tags, order)
    limit = max(segment.decoded for segment in segments)  # Some writers pad the last strip.

    def is_whole(segment: _Segment) -> bool:
        if segment.place == 0 or segment.length == 0:
            return False
        part = memoryview(content)[segment.place : segment.place + segment.length]
        return check is None or check(part, segment.decoded, limit)

    with ThreadPoolExecutor() as pool:  # zlib and libvips leave Python's lock to others.
        for number, whole in enumerate(pool.map(is_whole, segments)):
            if not whole:
                raise PhotoError(
                    f"{path}: damaged or cut short (part {number + 1} of {len(segments)})",
                    "copy it again from its source",
                )


def _check_of(tags: Directory, order: str) -> Callable[[memoryview, int, int], bool] | None:
    """Return the test of a strip or tile, its decoded length and the longest; None for none."""
    compression = ifd.first_number(tags.get(259), order, 1)
    if compression == JPEG and ifd.first_number(tags.get(258), order, 1) > 8:
        return None  # libvips decodes only 8 bits.
    if compression == JPEG:
        tables = tags.get(_JPEG_TABLES)
        return partial(_is_jpeg, tables.value if isinstance(tables, Entry) else b"")
    if compression == STORED:
        # Without lengths there is nothing to compare; chroma may have been subsampled.
        exact = any(tag in tags for _, tag in _PLACES)
        return _is_stored if exact and ifd.first_number(tags.get(262), order, 1) != _YCBCR else None
    if compression == LZW:
        return partial(_is_lzw, ifd.first_number(tags.get(_FILL_ORDER), order, 1))
    return {
        PACKBITS: _is_packed,
        WEBP: _is_webp,
        **dict.fromkeys(DEFLATE, _is_deflated),
    }.get(compression)


def _segments(tags: Directory, order: str, end: int) -> list[_Segment]:
    """List the strips or tiles; one whose length the file leaves out goes to the file's `end`.

    Raises:
        MalformedError: the file does not say where they are, or their number is wrong.
    """

    def number(tag: int, default: int) -> int:
        return ifd.first_number(tags.get(tag), order, default)

    starts, lengths = next(((tags[a], tags.get(b)) for a, b in _PLACES if a in tags), (None, None))
    if not isinstance(starts, Entry):
        raise MalformedError("no strips or tiles")
    places = ifd.numbers(starts, order)
    sizes = ifd.numbers(lengths, order) if isinstance(lengths, Entry) else []
    if len(sizes) != len(places):  # old programs leave them out
        sizes = [max(0, end - place) for place in places]
    width, height = number(256, 0), number(257, 0)
    samples, bits = number(277, 1), number(258, 1)
    planes, samples = (samples, 1) if number(284, 1) == 2 else (1, samples)
    tiled = 322 in tags
    across, down = number(322, 0) if tiled else width, number(323, 0) if tiled else number(278, 0)
    down = min(down or height, height) if not tiled else down
    sizes_and_counts = (width, height, across, down, planes, samples, bits)
    if number(284, 1) not in (1, 2) or min(sizes_and_counts) < 1:
        raise MalformedError("impossible sizes")
    if planes * samples < (3 if number(262, 1) in _OF_THREE_COLOURS else 1):
        raise MalformedError("fewer channels than its colours have")
    rows = -(-height // down)
    count = rows * -(-width // across)
    if len(places) != count * planes:
        raise MalformedError(f"{len(places)} strips or tiles instead of {count * planes}")
    row_bytes = -(-across * samples * bits // 8)
    if row_bytes * down > HARMLESS + LARGEST_EXPANSION * end:
        raise MalformedError("impossible sizes")
    decoded = [row_bytes * down] * count
    if not tiled:
        decoded[-1] = row_bytes * (height - (rows - 1) * down)
    return [
        _Segment(place=place, length=size, decoded=length)
        for place, size, length in zip(places, sizes, decoded * planes, strict=False)
    ]


def _is_stored(part: memoryview, expected: int, limit: int) -> bool:
    """Return whether uncompressed data have their length; else the picture has another width."""
    return expected <= len(part) <= limit + _PADDING


def _is_deflated(part: memoryview, expected: int, limit: int) -> bool:
    """Return whether deflated data has its length, and its checksum where it is not cut off."""
    try:  # It takes a third of the time, but knows only what is whole and not too long.
        import imagecodecs

        return len(imagecodecs.deflate_decode(bytes(part), out=limit)) >= expected
    except (ImportError, RuntimeError):
        pass
    length, ended = _inflated(zlib.decompressobj(), part, limit)
    if not ended:  # Some writers leave out the checksum, or a part of it.
        length, ended = _inflated(zlib.decompressobj(-zlib.MAX_WBITS), part[_ZLIB_HEADER:], limit)
    return ended and expected <= length <= limit


def _inflated(stream: zlib._Decompress, part: memoryview, limit: int) -> tuple[int, bool]:
    """Return how many bytes there are, up to more than the limit, and whether the data end."""
    length = 0
    rest: bytes | memoryview = part
    try:
        while rest and not stream.eof and length <= limit:
            length += len(stream.decompress(rest, 1 << 20))
            rest = stream.unconsumed_tail
    except zlib.error:
        return 0, True
    return length, stream.eof


def _is_packed(part: memoryview, expected: int, limit: int) -> bool:
    """Return whether data in PackBits (TIFF 6.0, section 9) has its length; a byte may fill up."""
    at = length = 0
    while at < len(part) - 1 and length <= limit:
        head = part[at]
        if head < 128:
            length += head + 1
            at += head + 2
        else:
            length += 257 - head if head > 128 else 0
            at += 2 if head > 128 else 1
    return at <= len(part) and expected <= length <= limit


def _is_lzw(fill_order: int, part: memoryview, expected: int, limit: int) -> bool:
    """Return whether data in LZW (TIFF 6.0, section 13) ends with the longest that is allowed.

    libtiff says when it is shorter. So it shall decode a byte more, and fail.
    """
    rows = limit // _WIDEST + 1
    width = limit // rows + 1
    numbers = {
        **{256: width, 257: rows, 258: 8, 259: LZW, 262: 1, _FILL_ORDER: fill_order},
        **{273: 8, 277: 1, 278: rows, 279: len(part)},
    }
    tree: Directory = {
        tag: Entry(type=ifd.LONG, count=1, value=np.uint32(number).tobytes())
        for tag, number in numbers.items()
    }
    longer = ifd.append_tree(b"II*\0\0\0\0\0" + bytes(part), tree)
    try:
        pyvips.Image.tiffload_buffer(longer, fail_on="error", unlimited=True).avg()
    except pyvips.Error:
        return True
    return False


def _is_jpeg(tables: bytes, part: memoryview, expected: int, limit: int) -> bool:
    """Return whether libjpeg warns of nothing in data with the tables of the directory."""
    whole = b"".join([tables[:-2], part[2:]]) if len(tables) > 4 else bytes(part)
    return not damage_in(whole)


def _is_webp(part: memoryview, expected: int, limit: int) -> bool:
    content = bytes(part)
    fits = int.from_bytes(content[4:8], "little") + 8 <= len(content)
    return fits and not has_more_than_its_picture(content)
