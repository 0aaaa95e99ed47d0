"""AVIF, 8 bits a channel."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyvips

from amsnet_cli.photos import exif, pillow, vips
from amsnet_cli.photos.colour import suits
from amsnet_cli.photos.formats import heif
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.metadata import marked_upright, without_attachments
from amsnet_cli.photos.photo import Photo

QUALITY = 90


def read(path: Path, content: bytes) -> Photo:
    """Decode an AVIF file; the decoder turns it upright.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `vips.open_image` and `vips.decode`; or it is HDR.
    """
    photo = vips.decode(path, vips.open_image(path, content, pyvips.Image.heifload_buffer))
    if is_grey(content) and (photo.icc is None or suits(photo.icc, 1)):
        photo = replace(photo, pixels=np.ascontiguousarray(photo.pixels[..., :1]))
    block = photo.exif and exif.without_thumbnail(photo.exif)  # It may lie on its side.
    photo = marked_upright(replace(photo, exif=block, quantisation_step=0.0))
    photo = without_attachments(photo)
    return heif.with_profile(path, content, photo)


def write(photo: Photo) -> bytes:
    """Encode an upright photo without chroma subsampling."""
    block = photo.exif
    block = exif.without_orientation(block) if block and exif.is_sound(block) else None
    return pillow.encode(
        photo.samples, "AVIF", icc=photo.icc, exif=block, xmp=photo.xmp,
        quality=QUALITY, subsampling="4:0:0" if photo.pixels.shape[2] == 1 else "4:4:4",
    )  # fmt: skip


def losses(photo: Photo) -> list[str]:
    """List EXIF that is damaged."""
    is_lost = photo.exif is not None and not exif.is_sound(photo.exif)
    return ["its EXIF is damaged, so AVIF cannot hold it"] * is_lost


FORMAT = Format(
    name="AVIF",
    suffixes=(".avif",),
    matches=lambda head: bool(heif.brands_of(head) & {b"avif", b"avis"}),
    read=read,
    write=write,
    longest_side=65536,
    upright=True,  # AVIF has properties of its own for orientation, which decoders apply.
    losses=losses,
)


def is_grey(content: bytes) -> bool:
    """Return whether all pictures in the file, transparency among them, have one channel."""
    boxes = [match.end() for match in re.finditer(b"av1C", content[:65536])]
    # AV1 in ISOBMFF, 2.3.3: monochrome is the fourth highest bit of the box's third byte.
    return bool(boxes) and all(content[at + 2] & 0x10 for at in boxes if at + 2 < len(content))
