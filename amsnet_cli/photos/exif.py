"""EXIF blocks: moved between containers, with as little touched as possible."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import ExifTags, Image, TiffImagePlugin

ORIENTATION = int(ExifTags.Base.Orientation)

_DESCRIPTIVE = (
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.Orientation,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.Copyright,
)
_DIRECTORIES = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
_MALFORMED = (SyntaxError, ValueError, TypeError, KeyError, OverflowError, OSError, struct.error)
"""What Pillow raises for EXIF that breaks the rules."""


def exif_of_tiff(content: bytes) -> bytes | None:
    """Collect camera, exposure, place and author from a TIFF or TIFF-like RAW file.

    Args:
        content: the file.

    Returns:
        An EXIF block, or None where there is nothing to keep, or nothing that can be read.
    """
    source, block = Image.Exif(), Image.Exif()
    try:
        source.load_from_fp(io.BytesIO(content))
        for tag in _DESCRIPTIVE:
            value = source.get(tag)
            # Cameras fill fields with zero bytes, which other readers stumble over.
            value = value.strip("\0 ") if isinstance(value, str) else value
            if value:
                block[tag] = value
        for directory in _DIRECTORIES:
            block.get_ifd(directory).update(source.get_ifd(directory))
        if not any(block.get_ifd(d) for d in _DIRECTORIES) and set(block) <= {ORIENTATION}:
            return None
        return block.tobytes().removeprefix(b"Exif\0\0")
    except _MALFORMED:
        return None


def is_sound(exif: bytes) -> bool:
    """Tell whether a block can be taken apart and put together again."""
    block = Image.Exif()
    try:
        block.load(exif)
        for directory in _DIRECTORIES:
            block.get_ifd(directory)
        block.tobytes()
    except _MALFORMED:
        return False
    return True


def with_orientation(exif: bytes | None, orientation: int) -> bytes | None:
    """Set the orientation tag, in place where it exists.

    Args:
        exif: an EXIF block, or None.
        orientation: 1 to 8.

    Returns:
        The block; a new one where there was none and the picture is rotated.
    """
    if exif is None:
        if orientation == 1:
            return None
        block = Image.Exif()
        block[ORIENTATION] = orientation
        return block.tobytes().removeprefix(b"Exif\0\0")
    endian = "<" if exif[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(endian + "I", exif, 4)
        (count,) = struct.unpack_from(endian + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(endian + "H", exif, entry) == (ORIENTATION,):
                value = struct.pack(endian + "HH", orientation, 0)
                return exif[: entry + 8] + value + exif[entry + 12 :]
    except struct.error:
        pass
    return exif


def tiff_with_exif(content: bytes, exif: bytes) -> bytes:
    """Give a TIFF file the tags of an EXIF block, by appending a new first directory.

    Args:
        content: a TIFF file of one picture.
        exif: an EXIF block; its orientation is left to the file.

    Returns:
        The file with the additional tags; strips stay where they are.
    """
    endian = "<" if content[:2] == b"II" else ">"
    block = Image.Exif()
    block.load(exif)
    added = TiffImagePlugin.ImageFileDirectory_v2(content[:8])
    for tag in _DESCRIPTIVE:
        if tag in block and tag != ORIENTATION:
            added[tag] = block[tag]
    for sub in _DIRECTORIES:
        if entries := block.get_ifd(sub):
            added[sub] = dict(entries)

    content += b"\0" * (len(content) % 2)
    block_at = len(content)
    content += added.tobytes(block_at)
    content += b"\0" * (len(content) % 2)

    def entries_at(start: int) -> dict[int, bytes]:
        (count,) = struct.unpack_from(endian + "H", content, start)
        raw = (content[e : e + 12] for e in range(start + 2, start + 2 + 12 * count, 12))
        return {struct.unpack_from(endian + "H", entry)[0]: entry for entry in raw}

    # Entries point to their values by place in the file, so they can be copied as they are.
    (first,) = struct.unpack_from(endian + "I", content, 4)
    merged = sorted((entries_at(first) | entries_at(block_at)).items())
    directory = struct.pack(endian + "H", len(merged)) + b"".join(e for _, e in merged)
    header = content[:4] + struct.pack(endian + "I", len(content))
    return header + content[8:] + directory + b"\0\0\0\0"


def png_with_exif(content: bytes, exif: bytes) -> bytes:
    """Insert an eXIf chunk after the header chunk of a PNG file (PNG 1.5 extension)."""
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    after_header = 8 + 25
    return content[:after_header] + chunk + content[after_header:]
