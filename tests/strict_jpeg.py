"""A strict walk through the Huffman codes of baseline JPEG (ITU-T T.81, annex F)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_CODES = dict[tuple[int, int], int]
"""Value by length and bits of its code."""


def complaint_about(content: bytes) -> str:
    """Return why a file of one scan cannot be whole; an empty text where it may be."""
    try:
        return _walk(content)
    except EOFError:
        return "too few bits"
    except (LookupError, ValueError, struct.error) as error:
        return f"malformed: {error}"


def _walk(content: bytes) -> str:
    at, codes, parts, interval = 2, {}, [], 0
    width = height = 0
    while True:
        marker, length = struct.unpack_from(">xBH", content, at)
        payload = content[at + 4 : at + 2 + length]
        at += 2 + length
        if marker == 0xC4:
            codes |= dict(_tables(payload))
        elif marker == 0xC0:
            height, width = struct.unpack_from(">HH", payload, 1)
            parts = [(payload[i], payload[i + 1] >> 4, payload[i + 1] & 15)
                     for i in range(6, len(payload), 3)]  # fmt: skip
        elif marker == 0xDD:
            (interval,) = struct.unpack(">H", payload)
        elif marker == 0xDA:
            break
    tables = dict(zip(payload[1:-3:2], payload[2:-3:2], strict=True))
    across, down = max(p[1] for p in parts), max(p[2] for p in parts)
    blocks = [p[0] for p in parts for _ in range(p[1] * p[2])]
    if len(parts) == 1:
        across, down, blocks = 1, 1, [parts[0][0]]
    units = -(-width // (8 * across)) * -(-height // (8 * down))
    interval = interval or units
    pieces = list(_pieces(content, at))
    if len(pieces) != -(-units // interval):
        return "another number of restart markers"
    for number, piece in enumerate(pieces):
        reader = _Bits(piece)
        for _ in range(min(interval, units - number * interval)):
            for component in blocks:
                dc, ac = codes[tables[component] >> 4], codes[0x10 | tables[component] & 15]
                if not reader.skip_block(dc, ac):
                    return "too many coefficients"
        if reader.left > 64:  # libjpeg has fetched as many ahead, and forgets them
            return "too many bits"
    return ""


class _Bits:
    def __init__(self, piece: bytes) -> None:
        self.left = 8 * len(piece)
        self.bits = int.from_bytes(piece, "big")

    def take(self, count: int) -> int:
        self.left -= count
        if self.left < 0:
            raise EOFError
        return (self.bits >> self.left) & ((1 << count) - 1)

    def value(self, codes: _CODES) -> int:
        code = 0
        for length in range(1, 17):
            code = code << 1 | self.take(1)
            if (length, code) in codes:
                return codes[length, code]
        raise ValueError("no such code")

    def skip_block(self, dc: _CODES, ac: _CODES) -> bool:
        """Return whether a block has no more than its 64 coefficients."""
        self.take(self.value(dc))
        place = 1
        while place < 64:
            run, size = divmod(self.value(ac), 16)
            if size == 0 and run < 15:
                return True
            self.take(size)
            place += run + 1
        return place == 64


def _tables(payload: bytes) -> Iterator[tuple[int, _CODES]]:
    at = 0
    while at < len(payload):
        counts, codes, code, value = payload[at + 1 : at + 17], {}, 0, at + 17
        for length, count in enumerate(counts, 1):
            for _ in range(count):
                codes[length, code] = payload[value]
                code, value = code + 1, value + 1
            code <<= 1
        yield payload[at], codes
        at = value


def _pieces(content: bytes, at: int) -> Iterator[bytes]:
    """Return the coded data between restart markers, up to the end mark."""
    piece = bytearray()
    while True:
        if content[at] != 0xFF:
            piece.append(content[at])
            at += 1
            continue
        follows = content[at + 1]
        if follows == 0:
            piece.append(0xFF)
        elif follows == 0xD9 or follows in range(0xD0, 0xD8):
            yield bytes(piece)
            piece.clear()
            if follows == 0xD9:
                return
        elif follows != 0xFF:
            raise ValueError("a marker that has no place there")
        at += 1 if follows == 0xFF else 2
