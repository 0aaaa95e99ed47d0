"""WebP, lossy and lossless."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow, vips
from amsnet_cli.photos.colour import suits
from amsnet_cli.photos.exif import with_orientation
from amsnet_cli.photos.formats.format import Format, notes_of_bytes_behind, notes_of_other_data
from amsnet_cli.photos.photo import Photo, with_usable_profile

QUALITY = 95
_KNOWN = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_SLACK = 6
"""Bytes behind the last pixel that an encoder may leave; libwebp leaves up to 3."""


def read(path: Path, content: bytes) -> Photo:
    """Decode a WebP file.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `vips.open_image` and `vips.decode`; or it is longer than its picture.
    """
    photo = vips.decode(path, vips.open_image(path, content, pyvips.Image.webpload_buffer))
    if has_more_than_its_picture(content):
        raise PhotoError(
            f"{path}: damaged, as its data do not end with its picture",
            "copy it again from its source, or save it anew with an image editor",
        )
    lossless = is_lossless(content)
    end = 8 + int.from_bytes(content[4:8], "little")
    chunks = _chunks(content[:end])
    others = (name.decode("ascii", "ignore") for name, _ in chunks if name not in _KNOWN)
    return with_usable_profile(
        replace(
            photo,
            lossless=lossless,
            quantisation_step=None if lossless else 0.0,
            notes=(
                *photo.notes,
                *notes_of_other_data(others),
                *notes_of_bytes_behind(content[end:]),
            ),
        )
    )


def write(photo: Photo) -> bytes:
    """Encode a photo: lossless if it came from a lossless file, else at `QUALITY`."""
    return pillow.encode(
        photo.samples, "WEBP",
        icc=photo.icc, exif=with_orientation(photo.exif, photo.orientation), xmp=photo.xmp,
        quality=QUALITY, lossless=photo.lossless,
        exact=True,  # Pixels under full transparency may be wanted yet.
    )  # fmt: skip


FORMAT = Format(
    name="WebP",
    suffixes=(".webp",),
    matches=lambda head: head[:4] == b"RIFF" and head[8:12] == b"WEBP",
    read=read,
    write=write,
    holds_profile=lambda profile: not suits(profile, 1),
    longest_side=16383,
)


def is_lossless(content: bytes) -> bool:
    """Return whether the first picture in the file is coded without loss."""
    return _picture(content)[0] == b"VP8L"


def has_more_than_its_picture(content: bytes) -> bool:
    """Return whether the picture is decoded without the last `_SLACK` bytes of its data.

    WebP has no checksums. Damaged data lead the decoder astray, so that it needs more data than
    there are, which it says, or less, which only such a second try shows.
    """
    name, picture = _picture(content)
    short = picture[:-_SLACK]
    body = b"WEBP" + struct.pack("<4sI", name, len(short)) + short + bytes(len(short) % 2)
    riff = b"RIFF" + struct.pack("<I", len(body)) + body
    try:
        pyvips.Image.webpload_buffer(riff, fail_on="truncated").avg()
    except pyvips.Error:
        return False
    return True


def _picture(content: bytes) -> tuple[bytes, bytes]:
    """Return name and payload of the chunk of the first picture; empty where there is none."""
    found = ((name, body) for name, body in _chunks(content) if name in (b"VP8L", b"VP8 "))
    return next(found, (b"", b""))


def _chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """List name and payload of the chunks, those of frames included."""
    at = 12
    while at + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, at)
        if name == b"ANMF":  # the frame's chunks follow its header
            size = 16
        yield name, content[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
