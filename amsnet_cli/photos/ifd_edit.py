"""Edit single entries of TIFF directories; nothing else moves, as maker notes count on it."""

from __future__ import annotations

import struct

from amsnet_cli.photos.ifd import (
    BIG_MAGIC,
    Entry,
    MalformedError,
    byte_order,
    first_number,
    read_directory,
)

_THUMBNAIL = (513, 514)
"""Tags of a thumbnail's place and length (JPEGInterchangeFormat)."""


def with_entry(content: bytes, tag: int, entry: Entry) -> bytes:
    """Set one entry of the first directory.

    Args:
        content: an EXIF block or a file (not BigTIFF).
        tag: overwritten where it exists.
        entry: its new value, in the file's byte order.

    Raises:
        MalformedError: there is no directory.
    """
    entries, following = raw_entries(content)
    order = byte_order(content)
    content += b"\0" * (len(content) % 2)
    new = struct.pack(order + "HHI", tag, entry.type, entry.count)
    if len(entry.value) > 4:
        new += struct.pack(order + "I", len(content))
        content += entry.value + b"\0" * (len(entry.value) % 2)
    else:
        new += entry.value.ljust(4, b"\0")
    for place, there in entries:
        if struct.unpack_from(order + "H", there) == (tag,):
            return content[:place] + new + content[place + 12 :]
    return _with_entries(content, [there for _, there in entries] + [new], following)


def without_entry(content: bytes, tag: int) -> bytes:
    """Remove one entry of the first directory.

    Raises:
        MalformedError: there is no directory.
    """
    order = byte_order(content)
    entries, following = raw_entries(content)
    kept = [e for _, e in entries if struct.unpack_from(order + "H", e) != (tag,)]
    if len(kept) == len(entries):
        return content
    return _with_entries(content + b"\0" * (len(content) % 2), kept, following)


def overwritten(content: bytes, directory: int, tag: int, entry: Entry) -> bytes:
    """Overwrite a short entry of a directory below the first.

    Args:
        content: an EXIF block or a file (not BigTIFF).
        directory: the tag that points to the directory, such as `EXIF_IFD`.
        tag: of the entry; where it is missing, nothing changes.
        entry: its new value of at most 4 bytes, in the file's byte order.
    """
    order = byte_order(content)
    entries, _ = raw_entries(content)
    for _, pointer in entries:
        if struct.unpack_from(order + "H", pointer) == (directory,):
            (start,) = struct.unpack_from(order + "I", pointer, 8)
            for place, there in raw_entries(content, start)[0]:
                if struct.unpack_from(order + "H", there) == (tag,):
                    new = struct.pack(order + "HHI", tag, entry.type, entry.count)
                    new += entry.value.ljust(4, b"\0")
                    return content[:place] + new + content[place + 12 :]
    return content


def place_of(content: bytes, directory: int, tag: int) -> int | None:
    """Return where the bytes of an entry of a directory below the first begin.

    Returns:
        None where there is no such entry, or its at most 4 bytes lie in it.

    Raises:
        MalformedError: there is no directory, or the file is BigTIFF.
    """
    order = byte_order(content)
    for _, pointer in raw_entries(content)[0]:
        if struct.unpack_from(order + "H", pointer) == (directory,):
            (start,) = struct.unpack_from(order + "I", pointer, 8)
            for _, there in raw_entries(content, start)[0]:
                found, _, count, place = struct.unpack(order + "HHII", there)
                if found == tag and count > 4:
                    return int(place)
    return None


def without_second_directory(content: bytes) -> bytes:
    """Cut the chain behind the first directory, and blank the JPEG that the second points to.

    Raises:
        MalformedError: there is no directory.
    """
    order = byte_order(content)
    entries, following = raw_entries(content)
    (second,) = struct.unpack(order + "I", following)
    if not second:
        return content
    (first,) = struct.unpack_from(order + "I", content, 4)
    end = first + 2 + 12 * len(entries)
    content = content[:end] + b"\0\0\0\0" + content[end + 4 :]
    tags = read_directory(content, second)
    start, length = (first_number(tags.get(tag), order, 0) for tag in _THUMBNAIL)
    if content[start : start + 2] == b"\xff\xd8" and start + length <= len(content):
        content = content[:start] + bytes(length) + content[start + length :]
    return content


def raw_entries(content: bytes, start: int | None = None) -> tuple[list[tuple[int, bytes]], bytes]:
    """List the entries of a directory with their places, and the pointer behind them.

    Args:
        content: an EXIF block or a file.
        start: the directory's place; the first directory's, if None.

    Raises:
        MalformedError: there is no directory, it is cut short, or the file is BigTIFF.
    """
    order = byte_order(content)
    if struct.unpack_from(order + "H", content, 2) == (BIG_MAGIC,):
        raise MalformedError("BigTIFF")
    try:
        (first,) = struct.unpack_from(order + "I", content, 4) if start is None else (start,)
        (count,) = struct.unpack_from(order + "H", content, first)
    except struct.error as error:
        raise MalformedError("no directory") from error
    end = first + 2 + 12 * count
    if end > len(content):
        raise MalformedError("the directory is cut short")
    entries = [(place, content[place : place + 12]) for place in range(first + 2, end, 12)]
    return entries, content[end : end + 4].ljust(4, b"\0")


def _with_entries(content: bytes, entries: list[bytes], following: bytes) -> bytes:
    order = byte_order(content)
    entries = sorted(entries, key=lambda e: struct.unpack_from(order + "H", e))
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + following
    return content[:4] + struct.pack(order + "I", len(content)) + content[8:] + directory
