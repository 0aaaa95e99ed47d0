"""Find damage in a JPEG file's entropy-coded data, which has no checksums.

Three things show: data that ends before the last block or goes on behind it, invalid Huffman codes,
and restart markers out of order. A changed bit may lead from one valid code to another.
"""

from __future__ import annotations

import re
import struct

import pyvips

from amsnet_cli.photos import vips
from amsnet_cli.photos.formats.jpeg_segments import APP0, APP14, SOF, segments

_ONE_SCAN, _PROGRESSIVE = (0xC0, 0xC1), (0xC2,)
"""SOF markers: whole blocks in one scan or one for each component; blocks in several scans."""
_OF_HEADERS = (
    *("unknown adobe color transform", "inconsistent progression sequence"),
    *("invalid sos parameters", "unknown jfif revision"),
)
"""In libjpeg's warnings of headers; its others are of lost pixels."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_SOS, _EOI = 0xDA, 0xD9


def damage_in(content: bytes) -> str:
    """Return libjpeg's warning of lost pixels, else of the header, else an empty text."""
    warning = _first_warning(content)
    if warning and not costs_pixels(warning):  # It hides those behind it.
        behind = _first_warning(_with_plain_headers(content))
        return behind if costs_pixels(behind) else warning
    return warning


def _first_warning(content: bytes) -> str:
    """Return libjpeg's first warning of a whole file, or an empty text.

    libjpeg decodes row by row, and libvips doesn't ask for warnings behind the last. A component
    that no scan holds makes libjpeg read all of the file before it gives a row.
    """
    try:
        image = pyvips.Image.jpegload_buffer(
            _with_component_without_scan(content), access="sequential", fail_on="warning"
        )
        image.crop(0, 0, image.width, 1).avg()
    except pyvips.Error as error:
        return vips.reason(error)
    return ""


def costs_pixels(warning: str) -> bool:
    """Return whether a warning is of entropy-coded data, or else of a header."""
    return bool(warning) and not any(text in warning.lower() for text in _OF_HEADERS)


def lacks_scans(content: bytes) -> bool:
    """Return whether coefficients of a component are in no scan, or not to their last bit.

    So it is with a progressive file that ends between two scans (ITU-T T.81, G.1.1.1).
    """
    missing: dict[int, set[int]] = {}
    at = 2
    while (found := _MARKER.search(content, at)) and content[found.start() + 1] != _EOI:
        marker, length = content[found.start() + 1], content[found.end() : found.end() + 2]
        payload = content[found.end() + 2 : found.end() + int.from_bytes(length, "big")]
        at = found.end() + int.from_bytes(length, "big")
        if marker in SOF:
            missing = {number: set(range(64)) for number in payload[6::3]}
            if marker not in (*_ONE_SCAN, *_PROGRESSIVE):
                return False
        elif marker == _SOS and len(payload) >= 6:
            first, last, bits = payload[-3:]
            for number in payload[1:-3:2]:
                if bits & 15 == 0 and number in missing:
                    missing[number] -= set(range(first, last + 1))
    return any(missing.values())


def bytes_behind(content: bytes) -> bytes:
    """Return what follows the end mark of the picture."""
    at = 2
    while found := _MARKER.search(content, at):
        if content[found.start() + 1] == _EOI:
            return content[found.end() :]
        at = found.end() + int.from_bytes(content[found.end() : found.end() + 2], "big")
    return b""


def _with_plain_headers(content: bytes) -> bytes:
    """Leave out JFIF's and Adobe's segments, and say what sequential scans hold: all (B.2.3)."""
    parts, done, sequential = [], 0, False
    for marker, at, payload in segments(content):
        sequential = sequential or marker in _ONE_SCAN
        if marker in (APP0, APP14):
            parts.append(content[done:at])
            done = at + 4 + len(payload)
    plain = bytearray(b"".join([*parts, content[done:]]))
    at = 2
    while sequential and (found := _MARKER.search(plain, at)):
        at = found.end() + int.from_bytes(plain[found.end() : found.end() + 2], "big")
        if plain[found.start() + 1] == _SOS and at <= len(plain):
            plain[at - 3 : at] = b"\x00\x3f\x00"
    return bytes(plain)


def _with_component_without_scan(content: bytes) -> bytes:
    """Add a component to the frame (ITU-T T.81, B.2.2); other files stay as they are.

    Adobe's segment goes, as it tells how many components there are.
    """
    parts, done = [], 0
    for marker, at, payload in segments(content):
        end = at + 4 + len(payload)
        if marker in SOF and (marker not in _ONE_SCAN or len(payload) < 9):
            return content
        if marker not in (APP14, *SOF):
            continue
        parts.append(content[done:at])
        done = end
        if marker in SOF:
            count, numbers = payload[5], payload[6::3]
            number = next(n for n in range(256) if n not in numbers)
            frame = payload[:5] + bytes([count + 1]) + payload[6:]
            frame += bytes([number, 0x11, payload[8]])
            parts.append(struct.pack(">BBH", 0xFF, marker, len(frame) + 2) + frame)
    return b"".join([*parts, content[done:]])
