"""PNG (third edition), with the metadata in its chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pyvips

from amsnet_cli.photos import vips
from amsnet_cli.photos.colour import (
    BT709,
    SRGB_CURVE,
    matrix_profile,
    profile_of_code_points,
    unsupported_colours,
)
from amsnet_cli.photos.exif import with_orientation
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.photo import Photo, with_usable_profile

_SIGNATURE = 8
_IPTC = b"Raw profile type iptc\0"
_LARGEST_TEXT = 1 << 23


def read(path: Path, content: bytes) -> Photo:
    """Decode a PNG file.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `vips.open_image` and `vips.decode`; or it is HDR.
    """
    image = vips.open_image(path, content, pyvips.Image.pngload_buffer)
    photo = with_usable_profile(vips.decode(path, image))
    icc = photo.icc
    if icc is None or b"cICP" in content[:4096]:
        try:
            icc = (photo.pixels.shape[2] == 3 and colours_of(content)) or icc
        except ValueError as error:
            raise unsupported_colours(path, error) from error
    says_resolution = any(name == b"pHYs" for name, _ in chunks(content))
    return replace(
        photo, icc=icc, iptc=iptc_of(content), dpi=photo.dpi if says_resolution else None
    )


def write(photo: Photo) -> bytes:
    """Encode a photo; pixels are exact."""
    exif = with_orientation(photo.exif, photo.orientation)
    content = vips.image_of(photo).pngsave_buffer(compression=6, keep="icc")
    if photo.dpi is None:
        content = without_resolution(content)
    added = [(b"eXIf", exif)] if exif else []
    # libvips would compress it into a chunk where other programs do not look.
    added += [xmp_chunk(photo.xmp)] if photo.xmp else []
    added += [iptc_chunk(photo.iptc)] if photo.iptc else []
    return with_chunks(content, added)


FORMAT = Format(
    name="PNG",
    suffixes=(".png",),
    matches=lambda head: head.startswith(b"\x89PNG\r\n\x1a\n"),
    read=read,
    write=write,
    depths=(8, 16),
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


def colours_of(content: bytes) -> bytes | None:
    """Make an ICC profile from cICP, or else from gAMA and cHRM; None for sRGB.

    Raises:
        ValueError: HDR, or other colours that no such profile can describe.
    """
    stated: dict[bytes, bytes] = {}
    for kind, payload in chunks(content):
        if kind == b"IDAT":
            break
        stated.setdefault(kind, payload)
    if len(stated.get(b"cICP", b"")) == 4:
        primaries, transfer = stated[b"cICP"][:2]
        return profile_of_code_points(primaries, transfer)
    if b"sRGB" in stated or len(stated.get(b"gAMA", b"")) != 4:
        return None
    gamma = struct.unpack(">I", stated[b"gAMA"])[0] / 100000
    if not 0.1 < gamma < 10:
        return None
    curve = SRGB_CURVE if abs(gamma - 0.45455) < 0.001 else (1 / gamma,)
    colours = BT709
    if len(stated.get(b"cHRM", b"")) == 32:
        x0, y0, x1, y1, x2, y2, x3, y3 = (v / 100000 for v in struct.unpack(">8I", stated[b"cHRM"]))
        colours = (x0, y0, x1, y1, x2, y2, x3, y3)
    if curve == SRGB_CURVE and all(abs(a - b) < 0.002 for a, b in zip(colours, BT709, strict=True)):
        return None
    return matrix_profile(f"PNG, gamma {1 / gamma:.2f}", colours, curve)


def iptc_of(content: bytes) -> bytes | None:
    """Return the IPTC-IIM record that ImageMagick and ExifTool keep in a text chunk."""
    for kind, payload in chunks(content):
        if kind in (b"zTXt", b"tEXt") and payload.startswith(_IPTC):
            text = payload[len(_IPTC) :]
            if kind == b"zTXt":
                try:
                    text = zlib.decompressobj().decompress(text[1:], _LARGEST_TEXT)
                except zlib.error:
                    return None
            try:  # a name, the length, then hexadecimal digits in lines
                return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii")) or None
            except ValueError:
                return None
    return None


def xmp_chunk(xmp: bytes) -> tuple[bytes, bytes]:
    """Make the text chunk that XMP belongs in (XMP specification, part 3, 1.1.5)."""
    return b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp


def iptc_chunk(iptc: bytes) -> tuple[bytes, bytes]:
    """Make the text chunk that `iptc_of` reads."""
    text = f"\niptc\n{len(iptc):8}\n{iptc.hex()}\n"
    return b"zTXt", _IPTC + b"\0" + zlib.compress(text.encode())
