"""PNG (third edition), with the metadata in its chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pyvips

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import exif, vips
from amsnet_cli.photos.colour import (
    BT709,
    SRGB_CURVE,
    grey_profile,
    matrix_profile,
    profile_of_code_points,
    unsupported_colours,
)
from amsnet_cli.photos.formats import png_texts
from amsnet_cli.photos.formats.format import (
    OF_PHOTOS,
    Format,
    notes_of_bytes_behind,
    notes_of_other_data,
)
from amsnet_cli.photos.image_resources import kept_resources
from amsnet_cli.photos.photo import Photo, with_usable_profile

_SIGNATURE = 8
_END = b"\0\0\0\0IEND\xae\x42\x60\x82"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
_NAMES = {
    **{b"iCCP": "colour profile", b"eXIf": "EXIF", b"pHYs": "resolution"},
    **dict.fromkeys(png_texts.KINDS, "text"),
}
"""Of chunks, for messages."""
_COLOURS = (b"cICP", b"sRGB", b"gAMA", b"cHRM")
_OF_THE_FILE = (
    *(b"IEND", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"tIME", b"iDOT", b"mDCV", b"cLLI"),
    *(b"acTL", b"fcTL", b"fdAT"),
)
"""Chunks of the file before, of palettes, of HDR screens, and of animations, which have a note."""
_KNOWN = frozenset({*_PIXELS, *_NAMES, *_COLOURS, *_OF_THE_FILE})


def read(path: Path, content: bytes) -> Photo:
    """Decode a PNG file.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `vips.open_image` and `vips.decode`; a checksum is wrong; or it is HDR.
    """
    content, damaged = _without_damaged_metadata(path, content)
    image = vips.open_image(path, content, pyvips.Image.pngload_buffer)
    photo = vips.decode(path, image)
    found = list(chunks(content))
    texts = png_texts.texts_of(found)
    profiles = {name: data for name, data in map(png_texts.raw_profile, texts) if data}
    # libvips does not see the chunks behind the pixels.
    block = photo.exif or dict(found).get(b"eXIf") or png_texts.exif_in(profiles)
    packet = dict(texts).get(png_texts.XMP_KEYWORD, "").encode() or profiles.get("xmp")
    packet = photo.xmp or packet or png_texts.xmp_in_app1(profiles)
    notes = [*photo.notes, *(f"its {name} is damaged: left out" for name in damaged)]
    if photo.icc is None and any(kind == b"iCCP" for kind, _ in found):
        notes.append("the colour profile is damaged: left out")
    if (count := _frame_count(found)) > 1:
        notes.append(f"only the first of {count} frames is kept")
    if not any(kind == b"IEND" for kind, _ in found):
        notes.append("the end mark of the file is missing, every pixel is there")
    notes += notes_of_bytes_behind(content.partition(_END)[2])
    if len(texts) < sum(kind in png_texts.KINDS for kind, _ in found):
        notes.append("its malformed texts are left out")
    others = (kind for kind, _ in found if kind not in _KNOWN)
    notes += notes_of_other_data(kind.decode("ascii", "ignore") for kind in others)
    icc = photo.icc or profiles.get("icc") or profiles.get("icm")
    photo = with_usable_profile(replace(photo, icc=icc, notes=tuple(notes)))
    try:
        icc = colours_of(found, photo.pixels.shape[2], photo.icc)
    except ValueError as error:
        raise unsupported_colours(path, error) from error
    says_resolution = any(kind == b"pHYs" and data[8:] == b"\1" for kind, data in found)
    return replace(
        photo,
        icc=icc,
        exif=block,
        xmp=packet,
        iptc=png_texts.iptc_in(profiles),
        resources=kept_resources(png_texts.resources_in(profiles)),
        texts=tuple(text for text in texts if not png_texts.is_metadata(text)),
        orientation=exif.orientation_of(block) if block else 1,
        dpi=photo.dpi if says_resolution else None,
    )


def write(photo: Photo) -> bytes:
    """Encode a photo; pixels are exact."""
    block = exif.with_orientation(photo.exif, photo.orientation)
    content = vips.image_of(photo).pngsave_buffer(compression=6, keep="icc")
    if photo.dpi is None:
        content = without_resolution(content)
    added = [(b"eXIf", block)] if block else []
    # libvips would compress it into a chunk where other programs do not look.
    added += [png_texts.xmp_chunk(photo.xmp)] if photo.xmp else []
    if photo.iptc or photo.resources:
        added.append(png_texts.resources_chunk(photo.iptc, photo.resources))
    added += [png_texts.text_chunk(keyword, text) for keyword, text in photo.texts]
    return with_chunks(content, added)


FORMAT = Format(
    name="PNG",
    suffixes=(".png",),
    matches=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    read=read,
    write=write,
    depths=(8, 16),
    blocks=OF_PHOTOS,
    texts=("*",),
)


def chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """List kind and payload of the chunks before the end or the first damage."""
    at = _SIGNATURE
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        if at + 12 + length > len(content):
            return
        yield kind, content[at + 8 : at + 8 + length]
        at += 12 + length


def _without_damaged_metadata(path: Path, content: bytes) -> tuple[bytes, list[str]]:
    """Remove chunks with a wrong checksum that no pixel depends on, and name them.

    Raises:
        PhotoError: pixels depend on one.
    """
    at, damaged = _SIGNATURE, []
    view = memoryview(content)
    kept = [view[:_SIGNATURE]]
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 12 + length
        if end > len(content):
            break
        if zlib.crc32(view[at + 4 : end - 4]) == struct.unpack_from(">I", content, end - 4)[0]:
            kept.append(view[at:end])
        elif kind in _PIXELS:
            raise PhotoError(
                f"{path}: the picture is damaged (wrong checksum)", "copy it again from its source"
            )
        elif not (kind.isalpha() and kind[:1].islower()):
            break  # The end mark, or no chunk: the decoder tells whether pixels are missing.
        else:
            damaged.append(_NAMES.get(kind, f"chunk {kind.decode()}"))
        at = end
    return (b"".join([*kept, view[at:]]), damaged) if damaged else (content, [])


def without_resolution(content: bytes) -> bytes:
    """Remove the pHYs chunk that libvips writes even where there is no resolution."""
    kept = [chunk for chunk in chunks(content) if chunk[0] not in (b"IHDR", b"pHYs")]
    header_end = _SIGNATURE + 25
    return with_chunks(content[:header_end], kept)


def with_chunks(content: bytes, added: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Insert chunks behind the header chunk."""
    behind_header = _SIGNATURE + 25
    parts = [content[:behind_header]]
    for kind, payload in added:
        checksum = zlib.crc32(payload, zlib.crc32(kind))
        parts += [struct.pack(">I", len(payload)), kind, payload, struct.pack(">I", checksum)]
    return b"".join([*parts, memoryview(content)[behind_header:]])


def colours_of(found: list[tuple[bytes, bytes]], channels: int, icc: bytes | None) -> bytes | None:
    """Return the profile of cICP, else `icc`, else that of gAMA and cHRM; None for sRGB.

    Args:
        found: all chunks of the file.
        channels: 1 or 3.
        icc: the file's own profile.

    Raises:
        ValueError: HDR, or other colours that no such profile can describe.
    """
    stated = dict(reversed([item for item in found if item[0] in _COLOURS]))
    if len(stated.get(b"cICP", b"")) == 4:
        primaries, transfer, _, full_range = stated[b"cICP"]
        if not full_range:
            raise ValueError("black and white within the range")
        return profile_of_code_points(primaries, transfer, channels)
    if icc is not None or b"sRGB" in stated or len(stated.get(b"gAMA", b"")) != 4:
        return icc
    gamma = struct.unpack(">I", stated[b"gAMA"])[0] / 100000
    if not 0.1 < gamma < 10:
        return None
    curve = SRGB_CURVE if abs(gamma - 0.45455) < 0.001 else (1 / gamma,)
    name = f"PNG, gamma {1 / gamma:.2f}"
    if channels == 1:
        return None if curve == SRGB_CURVE else grey_profile(name, curve)
    colours = BT709
    if len(stated.get(b"cHRM", b"")) == 32:
        values = struct.unpack(">8I", stated[b"cHRM"])
        x0, y0, x1, y1, x2, y2, x3, y3 = (value / 100000 for value in values)
        colours = (x0, y0, x1, y1, x2, y2, x3, y3)
    if curve == SRGB_CURVE and all(abs(a - b) < 0.002 for a, b in zip(colours, BT709, strict=True)):
        return None
    return matrix_profile(name, colours, curve)


def _frame_count(found: list[tuple[bytes, bytes]]) -> int:
    """Return how many pictures there are, the one beside an animation included (APNG)."""
    count = next((int.from_bytes(data[:4], "big") for kind, data in found if kind == b"acTL"), 0)
    first = next((kind for kind, _ in found if kind in (b"fcTL", b"IDAT")), b"")
    return count + 1 if count and first == b"IDAT" else count
