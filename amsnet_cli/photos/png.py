"""What a PNG file says besides its pixels (PNG, third edition), as chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator

from amsnet_cli.photos.colour import (
    BT709,
    SRGB_CURVE,
    matrix_profile,
    profile_of_code_points,
)

_SIGNATURE = 8
_IPTC = b"Raw profile type iptc\0"
_LARGEST_TEXT = 1 << 23


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
    """Make an ICC profile of what cICP, or else gAMA and cHRM say; None for sRGB.

    Raises:
        ValueError: HDR, or other colours that no such profile can describe.
    """
    said: dict[bytes, bytes] = {}
    for kind, payload in chunks(content):
        if kind == b"IDAT":
            break
        said.setdefault(kind, payload)
    if len(said.get(b"cICP", b"")) == 4:
        primaries, transfer = said[b"cICP"][:2]
        return profile_of_code_points(primaries, transfer)
    if b"sRGB" in said or len(said.get(b"gAMA", b"")) != 4:
        return None
    gamma = struct.unpack(">I", said[b"gAMA"])[0] / 100000
    if not 0.1 < gamma < 10:
        return None
    curve = SRGB_CURVE if abs(gamma - 0.45455) < 0.001 else (1 / gamma,)
    colours = BT709
    if len(said.get(b"cHRM", b"")) == 32:
        x0, y0, x1, y1, x2, y2, x3, y3 = (v / 100000 for v in struct.unpack(">8I", said[b"cHRM"]))
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
