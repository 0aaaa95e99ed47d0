"""JPEG (ITU-T T.81), with the metadata in its segments."""

from __future__ import annotations

import io
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pyvips
from PIL import Image, ImageFile

from amsnet_cli.errors import PhotoError
from amsnet_cli.photos import pillow, vips
from amsnet_cli.photos.exif import with_orientation
from amsnet_cli.photos.formats.format import Format
from amsnet_cli.photos.iptc import iptc_in_resources, resource_of_iptc
from amsnet_cli.photos.photo import JpegCoding, Photo, with_usable_profile

SEGMENT_LIMIT = 65000
"""Bytes of EXIF, XMP or IPTC that surely fit into one segment, of 65,535."""
QUALITY = 95
"""Of libjpeg's scale: what is written is quantised no coarser."""

_SOF = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_DQT, _SOS, _APP0, _APP1, _APP2, _APP13 = 0xDB, 0xDA, 0xE0, 0xE1, 0xE2, 0xED
_PHOTOSHOP = b"Photoshop 3.0\0"

# Place in the natural order of each coefficient in the file's zigzag order (ITU-T T.81, A.3.6).
_ZIGZAG = sorted(
    range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)
)


_maxblock_lock = threading.Lock()


def read(path: Path, content: bytes) -> Photo:
    """Decode a JPEG file; damage that libjpeg only warns of becomes a note.

    Args:
        path: for messages.
        content: the file.

    Raises:
        PhotoError: see `vips.open_image` and `vips.decode`.
    """
    try:
        photo = _decode(path, content, "warning")
    except PhotoError:
        photo = _decode(path, content, "truncated")
        photo = replace(photo, notes=(*photo.notes, "parts of the file are damaged"))
    return with_usable_profile(photo)


def write(photo: Photo) -> bytes:
    """Encode a photo without chroma subsampling.

    No coefficient is quantised more coarsely than in the photo's own file or at `QUALITY`.
    """
    exif = with_orientation(photo.exif, photo.orientation)
    exif, xmp, iptc = (
        block if block and len(block) <= SEGMENT_LIMIT else None
        for block in (exif, photo.xmp, photo.iptc)
    )
    ours = coding_of_quality(QUALITY)
    coding = photo.jpeg or ours
    tables = [
        [max(1, min(pair)) for pair in zip(a, b, strict=True)]
        for a, b in ((coding.luma, ours.luma), (coding.chroma, ours.chroma))
    ]
    resolution = {"dpi": photo.dpi} if photo.dpi else {}
    # Pillow would scale the tables by a quality.
    with _room_for_scans(2 * photo.pixels.nbytes if coding.progressive else 0):
        content = pillow.encode(
            photo.pixels, "JPEG", icc=photo.icc, exif=exif, xmp=xmp,
            qtables=tables, subsampling="4:4:4", progressive=coding.progressive, **resolution,
        )  # fmt: skip
    return with_iptc(content, iptc) if iptc else content


def losses(photo: Photo) -> list[str]:
    """List the metadata that is too long for a segment."""
    blocks = (("EXIF", photo.exif), ("XMP", photo.xmp), ("IPTC", photo.iptc))
    return [
        f"its {name} of {len(block)} bytes is more than a JPEG can hold"
        for name, block in blocks
        if block and len(block) > SEGMENT_LIMIT
    ]


FORMAT = Format(
    name="JPEG",
    suffixes=(".jpg", ".jpeg"),
    matches=lambda head: head.startswith(b"\xff\xd8\xff"),
    read=read,
    write=write,
    fourth_channels=(),
    longest_side=65500,
    losses=losses,
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
        elif marker in _SOF and len(payload) >= 6:
            progressive = marker in (0xC2, 0xCA)
            chosen = [payload[i] for i in range(8, len(payload), 3)]
    if not chosen or any(number not in tables for number in chosen):
        return None
    luma, *chroma = (tables[number] for number in chosen)
    finest = tuple(map(min, *chroma)) if len(chroma) > 1 else (chroma or [luma])[0]
    return JpegCoding(luma=luma, chroma=finest, progressive=progressive)


def has_resolution(content: bytes) -> bool:
    """Return whether the JFIF header has a resolution, and not only an aspect ratio."""
    return any(
        marker == _APP0 and payload[:5] == b"JFIF\0" and payload[7:8] in (b"\1", b"\2")
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
    resources = b"".join(
        payload.removeprefix(_PHOTOSHOP)
        for marker, _, payload in segments(content)
        if marker == _APP13 and payload.startswith(_PHOTOSHOP)
    )
    return iptc_in_resources(resources)


def exif_of(content: bytes) -> bytes | None:
    """Return a JPEG file's EXIF block as it is."""
    for marker, _, payload in segments(content):
        if marker == _APP1 and payload.startswith(b"Exif\0\0"):
            return payload[6:]
    return None


def with_iptc(content: bytes, iptc: bytes) -> bytes:
    """Insert an IPTC-IIM record of at most `SEGMENT_LIMIT` bytes behind the other metadata."""
    payload = _PHOTOSHOP + resource_of_iptc(iptc)
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


def _decode(path: Path, content: bytes, fail_on: str) -> Photo:
    image = vips.open_image(path, content, pyvips.Image.jpegload_buffer, fail_on=fail_on)
    photo = vips.decode(path, image)
    notes = list(photo.notes)
    if has_further_pictures(content):
        notes.append("further pictures in the file, such as a preview or gain map, are left out")
    if photo.xmp and b"HasExtendedXMP" in photo.xmp:
        notes.append("XMP beyond its first part, such as a depth map, is left out")
    coding = coding_of(content)
    says_resolution = has_resolution(content) or photo.exif is not None
    return replace(
        photo,
        iptc=iptc_of(content),
        # Where a file does not say, libvips takes 72 dots an inch.
        dpi=photo.dpi if says_resolution else None,
        jpeg=coding,
        quantisation_step=coding.step if coding else 0.0,
        notes=tuple(notes),
    )


@contextmanager
def _room_for_scans(size: int) -> Iterator[None]:
    """Let Pillow hold a whole progressive JPEG; it allots too little for fine quantisation."""
    if not size:
        yield
        return
    with _maxblock_lock:
        before = ImageFile.MAXBLOCK
        ImageFile.MAXBLOCK = max(before, size + (1 << 17))
        try:
            yield
        finally:
            ImageFile.MAXBLOCK = before
