"""What the program knows of a file format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.photos.photo import Photo


def nothing_lost(photo: Photo) -> list[str]:
    """Return the losses of a format that holds all metadata: none."""
    return []


def notes_of_other_data(names: Iterable[str]) -> list[str]:
    """Note what else is in a file and is not carried over.

    Args:
        names: of segments, chunks or boxes; none give no note.
    """
    clean = ("".join(c for c in name if c.isprintable()).strip() for name in names)
    listed = ", ".join(dict.fromkeys(name for name in clean if name))
    return [f"other data in the file is left out: {listed}"] * bool(listed)


def notes_of_bytes_behind(rest: bytes) -> list[str]:
    """Note that a file goes on behind its picture; padding gives no note."""
    length = len(rest.strip(_PADDING))
    return [f"{length} bytes behind the picture are left out"] * bool(length)


_PADDING = b"\0\r\n \xff\xd9"
EXIF, XMP, IPTC, PROFILE = "EXIF", "XMP", "IPTC record", "colour profile"
RESOURCES = "Photoshop resources"
BLOCKS: dict[str, Callable[[Photo], object]] = {
    EXIF: lambda photo: photo.exif,
    XMP: lambda photo: photo.xmp,
    IPTC: lambda photo: photo.iptc,
    RESOURCES: lambda photo: photo.resources,
    PROFILE: lambda photo: photo.icc,
}
"""Blocks of metadata of a photo, by names for people."""
OF_PHOTOS = (EXIF, XMP, IPTC, RESOURCES, PROFILE)
"""What JPEG, PNG and TIFF hold."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """How to recognise, read and write a file format, and what it can hold.

    Attributes:
        name: for people.
        suffixes: of its files, in lower case with the dot.
        matches: tests whether a file that begins with these 64 bytes is of this format.
        read: decodes a file. Takes the path, for messages, and the content; raises `PhotoError`.
        write: encodes a photo whose pixels have one of `depths`; None where the format is only
            read. Raises `pyvips.Error`, `ValueError` or `OSError`.
        depths: bits a channel that it holds.
        fourth_channels: meanings of a channel behind the colours that it holds.
        holds_profile: tests whether it holds the colours that an ICC profile describes.
        longest_side: pixels of its largest width and height, None for no limit.
        blocks: names of the `BLOCKS` that it holds.
        texts: keywords of the texts that it holds; "*" for any.
        attributes: names of OpenEXR's attributes that it holds; "*" for any.
        upright: whether its decoders ignore EXIF's orientation, so that pixels must be turned.
        losses: lists what else of a photo it cannot hold, as lines for people.
    """

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[Path, bytes], Photo]
    write: Callable[[Photo], bytes] | None = None
    depths: tuple[int, ...] = (8,)
    fourth_channels: tuple[str, ...] = ("transparency",)
    holds_profile: Callable[[bytes], bool] = lambda profile: True
    longest_side: int | None = None
    blocks: tuple[str, ...] = (EXIF, XMP, PROFILE)
    texts: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    upright: bool = False
    losses: Callable[[Photo], list[str]] = nothing_lost
