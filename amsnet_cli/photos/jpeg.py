"""What a JPEG file says besides its pixels: how it was coded, and its IPTC record."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import cache

from PIL import Image

from amsnet_cli.photos.photo import JpegCoding

IPTC_LIMIT = 65000
"""Bytes of an IPTC record that fit into one segment."""

_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_DQT, _SOS, _APP0, _APP2, _APP13 = 0xDB, 0xDA, 0xE0, 0xE2, 0xED
_PHOTOSHOP = b"Photoshop 3.0\0"
_IPTC_RESOURCE = 0x0404

# Place in the natural order of each coefficient in the file's zigzag order (ITU-T T.81, A.3.6).
_ZIGZAG = sorted(
    range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)
)


def segments(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """List marker, place and payload of the segments before the first scan."""
    at = 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        marker, length = struct.unpack_from(">BH", content, at + 1)
        if marker == 0xFF:  # filling
            at += 1
            continue
        if marker == _SOS or length < 2:
            return
        yield marker, at, content[at + 4 : at + 2 + length]
        at += 2 + length


def coding_of(content: bytes) -> JpegCoding | None:
    """Find out how finely a JPEG file was coded; None where the file does not say."""
    tables: dict[int, tuple[int, ...]] = {}
    chosen: list[int] = []
    progressive = False
    for marker, _, payload in segments(content):
        if marker == _DQT:
            tables |= dict(_tables_in(payload))
        elif marker in _SOF and len(payload) >= 6:
            progressive = marker in (0xC2, 0xCA)
            chosen = [payload[i] for i in range(8, len(payload), 3)]
    if not chosen or any(number not in tables for number in chosen):
        return None
    luma, *chroma = (tables[number] for number in chosen)
    finest = tuple(map(min, *chroma)) if len(chroma) > 1 else (chroma or [luma])[0]
    return JpegCoding(luma=luma, chroma=finest, progressive=progressive)


def has_resolution(content: bytes) -> bool:
    """Tell whether the JFIF header has a resolution, and not only an aspect ratio."""
    return any(
        marker == _APP0 and payload[:5] == b"JFIF\0" and payload[7:8] in (b"\1", b"\2")
        for marker, _, payload in segments(content)
    )


def has_further_pictures(content: bytes) -> bool:
    """Tell whether a JPEG file carries more pictures, such as a gain map (CIPA DC-007)."""
    return any(m == _APP2 and payload[:4] == b"MPF\0" for m, _, payload in segments(content))


@cache
def coding_of_quality(quality: int) -> JpegCoding:
    """Return the coding of libjpeg's quality scale, 1 to 100."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    coding = coding_of(file.getvalue())
    assert coding is not None
    return coding


def iptc_of(content: bytes) -> bytes | None:
    """Return a JPEG file's IPTC-IIM record."""
    resources = b"".join(
        payload.removeprefix(_PHOTOSHOP)
        for marker, _, payload in segments(content)
        if marker == _APP13 and payload.startswith(_PHOTOSHOP)
    )
    return iptc_in_resources(resources)


def iptc_in_resources(resources: bytes) -> bytes | None:
    """Return the IPTC-IIM record in a block of Photoshop's image resources."""
    at = 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        (number,) = struct.unpack_from(">H", resources, at + 4)
        size_at = at + 6 + (resources[at + 6] // 2 + 1) * 2
        if size_at + 4 > len(resources):
            return None
        (size,) = struct.unpack_from(">I", resources, size_at)
        if number == _IPTC_RESOURCE:
            return resources[size_at + 4 : size_at + 4 + size] or None
        at = size_at + 4 + size + size % 2
    return None


def with_iptc(content: bytes, iptc: bytes) -> bytes:
    """Insert an IPTC-IIM record of at most `IPTC_LIMIT` bytes behind the other metadata."""
    resource = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc
    payload = _PHOTOSHOP + resource + b"\0" * (len(iptc) % 2)
    segment = struct.pack(">BBH", 0xFF, _APP13, len(payload) + 2) + payload
    place = next(at for marker, at, _ in segments(content) if not 0xE0 <= marker <= 0xEF)
    return content[:place] + segment + content[place:]


def _tables_in(payload: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
    at = 0
    while at < len(payload):
        size, number = (2 if payload[at] >> 4 else 1), payload[at] & 15
        if at + 1 + 64 * size > len(payload):
            return
        steps = struct.unpack_from(">64" + ("H" if size == 2 else "B"), payload, at + 1)
        natural = [0] * 64
        for place, step in zip(_ZIGZAG, steps, strict=True):
            natural[place] = step
        yield number, tuple(natural)
        at += 1 + 64 * size
