"""The segments of a JPEG file: quantisation, metadata, and what else is in the file."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import cache

from PIL import Image

from amsnet_cli.photos.image_resources import (
    has_clipping_paths,
    iptc_in_resources,
    kept_resources,
    resource_of_iptc,
)
from amsnet_cli.photos.photo import JpegCoding

SEGMENT_LIMIT = 65000
"""Bytes of XMP or IPTC that surely fit into one segment, of 65,535."""

SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_LOSSLESS = (0xC3, 0xC7, 0xCB, 0xCF)
_DQT, _SOS, _COM = 0xDB, 0xDA, 0xFE
APP0, _APP1, _APP2, _APP12, _APP13, APP14 = 0xE0, 0xE1, 0xE2, 0xEC, 0xED, 0xEE
_PHOTOSHOP = b"Photoshop 3.0\0"
_ADOBE_XMP, _EXTENDED_XMP = b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/"
_CARRIED = {
    APP0: (b"JFIF\0", b"JFXX\0"),
    _APP1: (b"Exif\0\0", _ADOBE_XMP, _EXTENDED_XMP),
    _APP2: (b"ICC_PROFILE\0", b"MPF\0"),
    _APP12: (b"Ducky",),
    _APP13: (_PHOTOSHOP,),
    APP14: (b"Adobe",),
}
"""Beginnings of application segments that are carried over, obsolete, or named on their own."""
_LONGEST_DUCKY = 15
"""Bytes of Photoshop's segment of the quality; a longer one has a comment as well."""

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
    """Return the quantisation of a JPEG file; None where its tables are missing."""
    tables: dict[int, tuple[int, ...]] = {}
    chosen: list[int] = []
    progressive = False
    for marker, _, payload in segments(content):
        if marker == _DQT:
            tables |= dict(_tables_in(payload))
        elif marker in SOF and len(payload) >= 6:
            progressive = marker in (0xC2, 0xCA)
            chosen = [payload[i] for i in range(8, len(payload), 3)]
    if not chosen or any(number not in tables for number in chosen):
        return None
    luma, *chroma = (tables[number] for number in chosen)
    finest = tuple(map(min, *chroma)) if len(chroma) > 1 else (chroma or [luma])[0]
    return JpegCoding(luma=luma, chroma=finest, progressive=progressive)


def frame_of(content: bytes) -> tuple[int, bool]:
    """Return the bits of a sample, and whether the file is coded without loss (T.81, B.2.2)."""
    for marker, _, payload in segments(content):
        if marker in SOF and payload:
            return payload[0], marker in _LOSSLESS
    return 8, False


def has_resolution(content: bytes) -> bool:
    """Return whether the JFIF header has a resolution, and not only an aspect ratio."""
    return any(
        marker == APP0 and payload[:5] == b"JFIF\0" and payload[7:8] in (b"\1", b"\2")
        for marker, _, payload in segments(content)
    )


def has_further_pictures(content: bytes) -> bool:
    """Return whether a JPEG file holds more pictures, such as a gain map (CIPA DC-007)."""
    return any(m == _APP2 and payload[:4] == b"MPF\0" for m, _, payload in segments(content))


@cache
def coding_of_quality(quality: int) -> JpegCoding:
    """Return the quantisation at a quality of libjpeg's scale, 1 to 100."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=quality)
    coding = coding_of(file.getvalue())
    assert coding is not None
    return coding


def iptc_of(content: bytes) -> bytes | None:
    """Return a JPEG file's IPTC-IIM record."""
    return iptc_in_resources(_resources(content))


def resources_of(content: bytes) -> bytes | None:
    """Return Photoshop's image resources that stay true of a denoised photo."""
    return kept_resources(_resources(content))


def has_profile(content: bytes) -> bool:
    """Return whether the file holds parts of a colour profile, whole or not."""
    return any(m == _APP2 and p.startswith(b"ICC_PROFILE") for m, _, p in segments(content))


def has_video(content: bytes) -> bool:
    """Return whether an MP4 follows the picture, as in motion photos."""
    end = content.rfind(b"\xff\xd9", 0, max(0, content.rfind(b"ftyp")))
    return end > 0 and content[end + 2 :].find(b"ftyp") in range(4, 64)


def other_data(content: bytes) -> list[str]:
    """Name application data that is not carried over, such as FLIR's temperatures."""
    names = []
    for marker, _, payload in segments(content):
        if 0xE0 <= marker <= 0xEF and not _is_carried(marker, payload):
            name = payload[:32].split(b"\0")[0].decode("ascii", "ignore")[:24]
            names.append(f"APP{marker - 0xE0} {name}")
    if has_clipping_paths(_resources(content)):
        names.append("clipping paths")
    return names


def _is_carried(marker: int, payload: bytes) -> bool:
    if marker == _APP12 and len(payload) > _LONGEST_DUCKY:
        return False
    return payload.startswith(_CARRIED.get(marker, ()))


def comments_of(content: bytes) -> list[str]:
    """Return the comments, UTF-8 or else Latin-1."""
    texts = []
    for marker, _, payload in segments(content):
        if marker == _COM:
            text = payload.rstrip(b"\0")
            try:
                texts.append(text.decode())
            except UnicodeDecodeError:
                texts.append(text.decode("latin-1"))
    return [text for text in texts if text]


def with_comments(content: bytes, comments: list[str]) -> bytes:
    """Insert comments behind the other metadata, each cut to one segment."""
    place = next(at for marker, at, _ in segments(content) if not 0xE0 <= marker <= 0xEF)
    parts = [text.encode()[:SEGMENT_LIMIT] for text in comments]
    added = b"".join(struct.pack(">BBH", 0xFF, _COM, len(p) + 2) + p for p in parts)
    return content[:place] + added + content[place:]


def exif_of(content: bytes) -> bytes | None:
    """Return a JPEG file's EXIF block as it is."""
    for marker, _, payload in segments(content):
        if marker == _APP1 and payload.startswith(b"Exif\0\0"):
            return payload[6:]
    return None


def xmp_of(content: bytes) -> bytes | None:
    """Return the first part of the XMP packet."""
    for marker, _, payload in segments(content):
        if marker == _APP1 and payload.startswith(_ADOBE_XMP):
            return payload.removeprefix(_ADOBE_XMP)
    return None


def profile_of(content: bytes) -> bytes | None:
    """Join the parts of the colour profile (ICC.1, B.4); None where one is missing."""
    parts = {
        payload[12]: payload[14:]
        for marker, _, payload in segments(content)
        if marker == _APP2 and payload.startswith(b"ICC_PROFILE\0") and len(payload) > 14
    }
    whole = sorted(parts) == list(range(1, len(parts) + 1))
    return b"".join(parts[number] for number in sorted(parts)) or None if whole else None


def size_of(content: bytes) -> tuple[int, int]:
    """Return width and height of the frame, 0 where there is none."""
    for marker, _, payload in segments(content):
        if marker in SOF and len(payload) >= 5:
            height, width = struct.unpack_from(">HH", payload, 1)
            return width, height
    return 0, 0


def with_resources(content: bytes, iptc: bytes | None, resources: bytes | None) -> bytes:
    """Insert an IPTC-IIM record and image resources behind the other metadata.

    Args:
        content: the file.
        iptc: the record.
        resources: others; both have at most `SEGMENT_LIMIT` bytes together.
    """
    payload = _PHOTOSHOP + (resource_of_iptc(iptc) if iptc else b"") + (resources or b"")
    if payload == _PHOTOSHOP:
        return content
    segment = struct.pack(">BBH", 0xFF, _APP13, len(payload) + 2) + payload
    place = next(at for marker, at, _ in segments(content) if not 0xE0 <= marker <= 0xEF)
    return content[:place] + segment + content[place:]


def _resources(content: bytes) -> bytes:
    """Join Photoshop's image resources, which may be in several segments."""
    return b"".join(
        payload.removeprefix(_PHOTOSHOP)
        for marker, _, payload in segments(content)
        if marker == _APP13 and payload.startswith(_PHOTOSHOP)
    )


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
