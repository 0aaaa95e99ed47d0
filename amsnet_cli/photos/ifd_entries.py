"""Make entries of TIFF directories from numbers and text."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np

from amsnet_cli.photos import ifd
from amsnet_cli.photos.ifd import Entry


def shorts(*values: int, order: str = "<") -> Entry:
    """Make an entry of 16-bit numbers."""
    packed = struct.pack(f"{order}{len(values)}H", *values)
    return Entry(type=ifd.SHORT, count=len(values), value=packed)


def longs(*values: int, order: str = "<") -> Entry:
    """Make an entry of 32-bit numbers."""
    packed = struct.pack(f"{order}{len(values)}I", *values)
    return Entry(type=ifd.LONG, count=len(values), value=packed)


def octets(*values: int) -> Entry:
    """Make an entry of bytes."""
    return Entry(type=1, count=len(values), value=bytes(values))


def text(value: str) -> Entry:
    """Make an entry of text."""
    packed = value.encode() + b"\0"
    return Entry(type=ifd.ASCII, count=len(packed), value=packed)


def rationals(values: Iterable[float], *, signed: bool = False) -> Entry:
    """Make an entry of fractions, to a millionth."""
    numerators = [round(float(value) * 1_000_000) for value in np.ravel(list(values))]
    pairs = [number for numerator in numerators for number in (numerator, 1_000_000)]
    packed = struct.pack(f"<{len(pairs)}{'i' if signed else 'I'}", *pairs)
    return Entry(type=10 if signed else 5, count=len(numerators), value=packed)


def doubles(values: Iterable[float], order: str = "<") -> Entry:
    """Make an entry of 64-bit floating-point numbers."""
    numbers = list(values)
    packed = struct.pack(f"{order}{len(numbers)}d", *numbers)
    return Entry(type=12, count=len(numbers), value=packed)
