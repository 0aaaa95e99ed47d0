"""What the program knows of a file format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from amsnet_cli.photos.photo import Photo


def nothing_lost(photo: Photo) -> list[str]:
    """Return the losses of a format that holds all metadata: none."""
    return []


def all_metadata_lost(name: str) -> Callable[[Photo], list[str]]:
    """Return the `losses` of a format that holds nothing beside the pixels."""

    def losses(photo: Photo) -> list[str]:
        blocks = {"EXIF": photo.exif, "XMP": photo.xmp, "IPTC record": photo.iptc}
        blocks["colour profile"] = photo.icc
        lost = [block for block, content in blocks.items() if content]
        return [f"{name} has no place for its {', '.join(lost)}"] * bool(lost)

    return losses


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
        texts: keywords of the texts that it holds; "*" for any.
        upright: whether its decoders ignore EXIF's orientation, so that pixels must be turned.
        losses: lists the metadata of a photo that it cannot hold, as lines for people.
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
    texts: tuple[str, ...] = ()
    upright: bool = False
    losses: Callable[[Photo], list[str]] = nothing_lost
